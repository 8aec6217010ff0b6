//! What others may be told of a Task: made from the fold, published at its commit.

use troupe_api::{
    WaitWords,
    task::{OutlineRow, RUNS, TaskView, WhyAnswer},
};
use troupe_domain::task::{TaskEntry, TaskState};
use troupe_types::{FrameBody, FrameSeq, LogId, Status, TaskId, Timestamp, UserId, Uuid};

use super::{actor::TaskActor, projection::status_word};

/// The committed view of a Task.
#[derive(Clone, Debug)]
pub(super) struct Public {
    pub(super) view: TaskView,
    pub(super) outline: Vec<OutlineRow>,
    pub(super) exists: bool,
    pub(super) deleted: bool,
    pub(super) completed_at: Option<Timestamp>,
    /// Blocks that wait for a person.
    pub(super) asks: Vec<String>,
}

impl Public {
    /// Whether an entry changes more than the text of an answer.
    pub(super) fn is_touched_by(entry: &TaskEntry) -> bool {
        !entry.events.is_empty()
            || entry.frames.iter().any(|f| {
                !matches!(
                    f.body,
                    FrameBody::Text(_)
                        | FrameBody::Thinking(_)
                        | FrameBody::BlockCreated(_)
                        | FrameBody::BlockUpdated(_)
                )
            })
    }

    /// `restored`: the restore that the store came from, if it did. What a client saw before it
    /// may not be here, so the log is another one and the client starts over.
    pub(super) fn of(state: &TaskState, restored: Option<Uuid>) -> Self {
        let log = state.log.unwrap_or_else(|| LogId::derived(&[]));
        let log = match restored {
            Some(restore) => LogId::derived(&[&log.to_string(), &restore.to_string()]),
            None => log,
        };
        // A deleted Task has no view of its own any more; its row still names it.
        let exists = state.id.is_some();
        let (team_namespace, team_name) = state.team.clone().unwrap_or_default();
        let view = TaskView {
            id: state.id.unwrap_or_else(|| TaskId::derived(&[])),
            user_id: state.owner.unwrap_or_else(|| UserId::derived(&[])),
            user_name: state.owner_name.clone(),
            title: state.title.clone(),
            labels: state.labels.clone(),
            status: state.status,
            wait: state.wait().cloned(),
            team_namespace,
            team_name,
            collaboration_model: state.plan().map_or("solo", |p| p.model.as_str()).to_owned(),
            stage: state.stage_frame(),
            queue: state.queue.to_vec(),
            created_at: state.created_at,
            updated_at: state.updated_at,
            log,
            head: FrameSeq::ZERO,
        };
        Self {
            view,
            outline: state.outline(),
            exists,
            deleted: state.deleted,
            completed_at: state.completed_at,
            asks: state.open_asks().map(|(_, block, _)| block.to_owned()).collect(),
        }
    }

    pub(super) fn view_exists(&self) -> Option<&TaskView> {
        self.exists.then_some(&self.view)
    }

    pub(super) fn view_at(&self, head: FrameSeq) -> TaskView {
        TaskView { head, ..self.view.clone() }
    }
}

impl TaskActor {
    /// Tells the owner's other clients to look: a new Task, another status or title.
    pub(super) fn notify(&self, new: &Public) {
        let Some(view) = new.view_exists() else { return };
        let old = &self.public;
        let (user, notifier) = (view.user_id, &self.factory.notifier);
        if !old.exists {
            let payload = serde_json::json!({
                "task_id": view.id, "title": view.title, "team_name": view.team_name,
                "created_at": view.created_at, "is_group_chat": false,
            });
            notifier.notify(user, "task:created", payload);
        }
        if new.deleted && !old.deleted {
            notifier.notify(user, "task:deleted", serde_json::json!({"task_id": view.id}));
        } else if !old.exists || old.view.status != view.status || old.view.title != view.title {
            let payload = serde_json::json!({
                "task_id": view.id, "status": view.status, "title": view.title,
                "updated_at": view.updated_at, "completed_at": new.completed_at,
            });
            notifier.notify(user, "task:status", payload);
        }
    }

    /// Tells the owner's clients that an agent waits for them, or no more.
    pub(super) fn notify_asks(&self, asks: u32) {
        let Some(view) = self.public.view_exists() else { return };
        let payload = serde_json::json!({"task_id": view.id, "title": view.title, "asks": asks});
        self.factory.notifier.notify(view.user_id, "task:asks", payload);
    }

    /// Why the Task waits or what it does, in words.
    pub(super) fn why(&self) -> WhyAnswer {
        let view = &self.public.view;
        let mut details = Vec::new();
        let (mut next_steps, mut devices) = (Vec::new(), Vec::new());
        for execution in self.state.executions.iter().filter(|e| !e.state.is_terminal()) {
            let bot = self.state.plan().map_or("", |p| p.name_of(execution.member));
            let steps = execution.steps;
            devices.extend(execution.device.as_ref().map(|run| run.device));
            let state = word_of(&execution.state);
            details.push(format!(
                "{bot}, message {}: attempt {} is {state}, {steps} step(s) finished",
                execution.ordinal, execution.attempt
            ));
        }
        if !view.queue.is_empty() {
            details.push(format!("{} message(s) wait behind the running turn", view.queue.len()));
        }
        let summary = match (view.status, &view.wait) {
            (_, Some(wait)) => {
                let words = WaitWords::of(wait, &view.team_name);
                next_steps.extend(words.next.map(str::to_owned));
                words.summary
            }
            (Status::PendingConfirmation, None) => {
                next_steps.push("confirm the stage, or send a message to change it".to_owned());
                "a stage is ready and waits for your confirmation".to_owned()
            }
            (Status::Failed, None) => {
                next_steps.push("retry the failed message, or send another one".to_owned());
                "the last turn failed".to_owned()
            }
            (Status::Running, None) if !self.public.asks.is_empty() => {
                let blocks = self.public.asks.join(", ");
                next_steps
                    .push("answer: troupe approve, deny or answer; or in the inbox".to_owned());
                format!("an agent waits for you: {blocks}")
            }
            (Status::Running | Status::Pending, None) => RUNS.to_owned(),
            (status, None) => format!("does nothing: {}", status_word(status).to_lowercase()),
        };
        devices.sort_unstable();
        devices.dedup();
        WhyAnswer { task_id: view.id, status: view.status, summary, details, next_steps, devices }
    }
}

fn word_of(state: &troupe_domain::task::AttemptState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
