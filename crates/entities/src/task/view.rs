//! What others may be told of a Task: made from the fold, published at its commit.

use troupe_api::task::{OutlineRow, TaskView, WhyAnswer};
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
        let mut next_steps = Vec::new();
        for execution in self.state.executions.iter().filter(|e| !e.state.is_terminal()) {
            let bot = self.state.plan().map_or("", |p| p.name_of(execution.member));
            let steps = execution.steps;
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
            (_, Some(wait)) if wait.code == "no_device" => {
                let tool = wait.args.get("tool").and_then(|v| v.as_str()).unwrap_or("this runtime");
                next_steps.push(
                    "join a machine that runs it, or choose a team whose members run \
                                 in the Chat shell"
                        .to_owned(),
                );
                format!("waits: no device runs {tool}")
            }
            (_, Some(wait))
                if wait.code.starts_with("no_device_")
                    || wait.code == "devices_busy"
                    || wait.code.contains("container") =>
            {
                let (summary, next) = device_words(wait);
                next_steps.push(next.to_owned());
                summary
            }
            (_, Some(wait)) if wait.code == "device_refused" => {
                next_steps.push("see the device's policy: troupe-edge policy check".to_owned());
                format!("waits: {} does not take it: {}", arg(wait, "device"), arg(wait, "text"))
            }
            (_, Some(wait)) if wait.code == "team_slots" => {
                let place = wait.args.get("position").map(|p| format!(", place {p} in line"));
                next_steps.push("wait, or raise the team's maxConcurrentTasks".to_owned());
                format!("waits for a slot of team {}{}", view.team_name, place.unwrap_or_default())
            }
            (_, Some(wait)) => {
                let (summary, next) = model_words(wait);
                next_steps.extend(next.map(str::to_owned));
                summary
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
            (Status::Running | Status::Pending, None) => "runs".to_owned(),
            (status, None) => format!("does nothing: {}", status_word(status).to_lowercase()),
        };
        WhyAnswer { task_id: view.id, status: view.status, summary, details, next_steps }
    }
}

fn arg<'a>(wait: &'a troupe_types::Wait, name: &str) -> &'a str {
    wait.args.get(name).and_then(|value| value.as_str()).unwrap_or_default()
}

fn model_words(wait: &troupe_types::Wait) -> (String, Option<&'static str>) {
    let at = arg(wait, "retry_at");
    match wait.code.as_str() {
        "rate_limit" => (
            format!("waits: the model's provider asked to wait until {at}"),
            Some("wait, or cancel it and choose another Model: troupe retry --model"),
        ),
        "model_retry" if !at.is_empty() => {
            (format!("waits: the model failed and is asked again at {at}"), None)
        }
        code => (format!("waits: {code}"), None),
    }
}

fn device_words(wait: &troupe_types::Wait) -> (String, &'static str) {
    let on = match arg(wait, "on") {
        "" => String::new(),
        on => format!(" that is `{on}`"),
    };
    match wait.code.as_str() {
        "no_device_online" => (
            "waits: none of your devices is connected".to_owned(),
            "start troupe-edge on one of them, or open its lid",
        ),
        "no_device_fits" => (
            format!("waits: no connected device{on} has {}", arg(wait, "tool")),
            "install it there, or choose another device with --on",
        ),
        "no_containers" => (
            "waits: no node runs containers".to_owned(),
            "an administrator sets containers.engine on a node, or choose a device with --on",
        ),
        "container_queued" => {
            let (running, max) = (arg(wait, "running"), arg(wait, "max"));
            let ahead = match arg(wait, "ahead") {
                "0" => "it is the next".to_owned(),
                ahead => format!("{ahead} before it"),
            };
            (
                format!("waits for a container: {running} of {max} are there, {ahead}"),
                "wait: one that idles is given up; an administrator may raise containers.max",
            )
        }
        "container_starting" => ("waits: its container starts".to_owned(), "wait some seconds"),
        _ => (
            "waits: every slot of the devices that fit is taken".to_owned(),
            "wait, or raise the slots of a device: troupe device set NAME --slots N",
        ),
    }
}

fn word_of(state: &troupe_domain::task::AttemptState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
