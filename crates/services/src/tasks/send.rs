//! What a person says: messages, edits, confirmations; and the same again, under the same key.

use std::{collections::BTreeMap, sync::Arc};

use troupe_api::{
    Problem,
    chat::{ChatEdit, ChatSend, ChatSendAck},
};
use troupe_domain::task::{
    Ack, Command, CreateTask, Repeated, SendAck, SendMessage, TeamPlan,
    labels::{MODEL, choice},
};
use troupe_entities::TaskAddress;
use troupe_types::{MessageId, Sender, TaskId, Uuid, limits};

use super::{live::LiveTasks, problems::task_problem};
use crate::caller::Caller;

impl LiveTasks {
    pub(super) fn fresh_key(&self) -> Uuid {
        MessageId::new(self.clock.now()).uuid()
    }

    pub(super) async fn send_message(
        &self,
        caller: &Caller,
        send: ChatSend,
    ) -> Result<ChatSendAck, Problem> {
        check_message(&send.message)?;
        let key = send.client_message_id.unwrap_or_else(|| self.fresh_key());
        let repeat = send.client_message_id.map(|key| Repeated::Send {
            key,
            sender: sender(caller),
            content: send.message.clone(),
        });
        // The same person and key make the same Task, so a repeated send is harmless.
        let new = || TaskId::derived(&[&caller.user.to_string(), &key.to_string()]);
        let task = send.task_id.unwrap_or_else(new);
        let answer = self.try_send(caller, task, key, send).await;
        sent(self.or_as_before(caller, task, repeat, answer).await?)
    }

    async fn try_send(
        &self,
        caller: &Caller,
        task: TaskId,
        key: Uuid,
        send: ChatSend,
    ) -> Result<Ack, Problem> {
        let mut chosen = send.force_override_bot_model.clone();
        let (address, team, create) = match (send.task_id, send.team_id.clone()) {
            (Some(task), team) => {
                let address = self.authorize(caller, task).await?;
                let mut begun = self.begun_with(&address).await?;
                check_kept(&send, &begun.labels)?;
                chosen = chosen.or_else(|| begun.labels.remove(MODEL));
                (address, team.unwrap_or(begun.team), None)
            }
            (None, Some(ref team)) => {
                let (team, labels) = (team.clone(), placed_on(&send)?);
                let create = CreateTask {
                    task,
                    owner: caller.user,
                    owner_name: caller.name.clone(),
                    title: send.title.unwrap_or_default(),
                    labels,
                };
                (self.address(task), team, Some(create))
            }
            (None, None) => {
                let message = "a new task needs a team: give team_id";
                return Err(Problem::invalid("team_id", message));
            }
        };
        let model = chosen.as_deref().and_then(choice);
        let plan = self.teams.resolve(caller, &team, model).await?;
        let plan = thought_through(plan, send.enable_deep_thinking);
        let created = create.is_some();
        let (sender, content, model) =
            (sender(caller), send.message, send.force_override_bot_model);
        let command = Command::Send(SendMessage { key, sender, content, plan, model, create });
        let ack = address.command(command).await.map_err(|e| task_problem(&e))?;
        if created {
            self.remember(task, caller.user);
        }
        Ok(ack)
    }

    /// A key is answered as it was for the life of its Task, also of a deleted one, and whatever
    /// became of the Team: what hinders the same command today did not hinder it then.
    async fn or_as_before(
        &self,
        caller: &Caller,
        task: TaskId,
        repeat: Option<Repeated>,
        answer: Result<Ack, Problem>,
    ) -> Result<Ack, Problem> {
        let (Err(problem), Some(what)) = (&answer, repeat) else { return answer };
        if !matches!(problem.status, 404 | 422) {
            return answer;
        }
        // The Task itself answers nobody but its owner.
        let command = Command::Repeat { by: caller.user, what };
        self.address(task).command(command).await.or(answer)
    }

    pub(super) async fn begun_with(&self, address: &TaskAddress) -> Result<BegunWith, Problem> {
        let view = address.view().await.map_err(|e| task_problem(&e))?;
        let team = format!("{}/{}", view.team_namespace, view.team_name);
        Ok(BegunWith { team, labels: view.labels })
    }

    pub(super) async fn edit_message(
        &self,
        caller: &Caller,
        edit: ChatEdit,
    ) -> Result<ChatSendAck, Problem> {
        check_message(&edit.message)?;
        let task = edit.task_id;
        let repeat = edit.client_message_id.map(|key| Repeated::Edit {
            key,
            message: edit.subtask_id,
            sender: sender(caller),
            content: edit.message.clone(),
        });
        let answer = self.try_edit(caller, edit).await;
        sent(self.or_as_before(caller, task, repeat, answer).await?)
    }

    async fn try_edit(&self, caller: &Caller, edit: ChatEdit) -> Result<Ack, Problem> {
        let address = self.authorize(caller, edit.task_id).await?;
        let BegunWith { team, labels } = self.begun_with(&address).await?;
        let model = labels.get(MODEL).map(String::as_str);
        let plan = self.teams.resolve(caller, &team, model).await?;
        let plan = thought_through(plan, edit.enable_deep_thinking);
        let send = SendMessage {
            key: edit.client_message_id.unwrap_or_else(|| self.fresh_key()),
            sender: sender(caller),
            content: edit.message,
            plan,
            model: None,
            create: None,
        };
        let command = Command::Edit { message: edit.subtask_id, send };
        address.command(command).await.map_err(|e| task_problem(&e))
    }

    pub(super) async fn confirm(
        &self,
        caller: &Caller,
        send: ChatSend,
    ) -> Result<ChatSendAck, Problem> {
        let task = send.task_id.ok_or_else(|| {
            Problem::invalid("task_id", "a confirmation needs the task that waits: give task_id")
        })?;
        if send.message.len() > limits::MESSAGE_BYTES_MAX {
            return Err(too_long(send.message.len()));
        }
        let key = send.client_message_id.unwrap_or_else(|| self.fresh_key());
        let message = Some(send.message).filter(|m| !m.trim().is_empty());
        let repeat =
            send.client_message_id.map(|key| Repeated::Confirm { key, message: message.clone() });
        let answer = match self.authorize(caller, task).await {
            Ok(address) => address.confirm(key, message).await.map_err(|e| task_problem(&e)),
            Err(problem) => Err(problem),
        };
        confirmed(task, self.or_as_before(caller, task, repeat, answer).await?)
    }
}

/// It is the plan's, so every attempt of the turn keeps it and the next turn does not.
fn thought_through(plan: Arc<TeamPlan>, wanted: Option<bool>) -> Arc<TeamPlan> {
    if wanted == Some(true) { Arc::new(plan.with_deep_thinking()) } else { plan }
}

/// The Team of a Task, and its labels: where it works, which Model was chosen for it.
pub(super) struct BegunWith {
    pub(super) team: String,
    labels: BTreeMap<String, String>,
}

/// What is said with the first message is not said otherwise later.
fn check_kept(send: &ChatSend, kept: &BTreeMap<String, String>) -> Result<(), Problem> {
    use troupe_entities::task::{BRANCH_LABEL, KEEP_LABEL, ON_LABEL, WORKTREE_LABEL};
    for (label, value) in placed_on(send)? {
        if kept.get(&label) == Some(&value) {
            continue;
        }
        let workspace = "a task keeps the workspace that it began with";
        let (field, why) = match label.as_str() {
            ON_LABEL => ("device_id", "a task keeps the device, or the choice, that it began with"),
            BRANCH_LABEL => ("branch_name", workspace),
            WORKTREE_LABEL => ("worktree", workspace),
            KEEP_LABEL => ("preserve_executor", "of a task that is there, change its label"),
            _ => ("git_url", workspace),
        };
        return Err(Problem::invalid(field, why));
    }
    Ok(())
}

/// What a person wants of device and workspace stands among the Task's labels.
fn placed_on(send: &ChatSend) -> Result<BTreeMap<String, String>, Problem> {
    use troupe_entities::task::{BRANCH_LABEL, KEEP_LABEL, ON_LABEL, REPO_LABEL, WORKTREE_LABEL};
    let given = |field: &Option<String>| {
        field.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let mut labels = BTreeMap::new();
    if let Some(on) = given(&send.device_id) {
        let selector = troupe_resources::selector::Selector::parse(&on)
            .map_err(|error| Problem::invalid("device_id", error.to_string()))?;
        labels.insert(ON_LABEL.to_owned(), selector.to_string());
    }
    if let Some(url) = given(&send.git_url) {
        let authority = url.split_once("://").map(|(_, rest)| rest.split('/').next());
        if url.starts_with("http") && authority.flatten().is_some_and(|a| a.contains('@')) {
            // It would be kept, and shown.
            let message = "the URL holds a user or a token: leave it out";
            return Err(Problem::invalid("git_url", message));
        }
        labels.insert(REPO_LABEL.to_owned(), url);
    }
    let wants = |name: &str, label: &str, labels: &mut BTreeMap<String, String>, value: String| {
        if !labels.contains_key(REPO_LABEL) {
            return Err(Problem::invalid(name, "it needs git_url"));
        }
        labels.insert(label.to_owned(), value);
        Ok(())
    };
    if let Some(branch) = given(&send.branch_name) {
        wants("branch_name", BRANCH_LABEL, &mut labels, branch)?;
    }
    if send.worktree == Some(true) {
        wants("worktree", WORKTREE_LABEL, &mut labels, "true".to_owned())?;
    }
    if send.preserve_executor == Some(true) {
        labels.insert(KEEP_LABEL.to_owned(), "true".to_owned());
    }
    Ok(labels)
}

pub(super) fn check_message(message: &str) -> Result<(), Problem> {
    if message.trim().is_empty() {
        return Err(Problem::invalid("message", "the message is empty"));
    }
    if message.len() > limits::MESSAGE_BYTES_MAX {
        return Err(too_long(message.len()));
    }
    Ok(())
}

fn too_long(bytes: usize) -> Problem {
    let max = limits::MESSAGE_BYTES_MAX;
    let detail = format!("the message has {bytes} bytes, {max} are allowed: attach a file instead");
    let mut problem = Problem::invalid("message", detail);
    problem.status = 413;
    problem.code = "payload_too_large".into();
    problem
}

fn sender(caller: &Caller) -> Sender {
    Sender::User { user_id: caller.user, user_name: caller.name.clone() }
}

fn sent(ack: Ack) -> Result<ChatSendAck, Problem> {
    match ack {
        Ack::Sent(SendAck { task_id, message, ordinal, turn, queued }) => Ok(ChatSendAck {
            task_id,
            message: Some(message),
            ordinal,
            turn,
            queued,
            current_stage: None,
            total_stages: None,
            next_stage_name: None,
            pipeline_completed: None,
        }),
        Ack::Confirmed { .. } | Ack::Ok => Err(key_of_another_command()),
    }
}

fn confirmed(task_id: TaskId, ack: Ack) -> Result<ChatSendAck, Problem> {
    match ack {
        Ack::Confirmed { current_stage, total_stages, next_stage_name } => Ok(ChatSendAck {
            task_id,
            message: None,
            ordinal: None,
            turn: None,
            queued: false,
            current_stage: Some(current_stage),
            total_stages: Some(total_stages),
            pipeline_completed: next_stage_name.is_none().then_some(true),
            next_stage_name,
        }),
        Ack::Sent(_) | Ack::Ok => Err(key_of_another_command()),
    }
}

fn key_of_another_command() -> Problem {
    Problem::new(409, "key_reused", "this client_message_id was used by another command")
}
