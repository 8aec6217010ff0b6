//! The use cases of Tasks over their entities.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use troupe_api::{
    Problem,
    chat::{ChatCancel, ChatEdit, ChatRetry, ChatSend, ChatSendAck, QueueOp, TaskJoin},
    task::{FramesPage, JoinAnswer, Page, TaskLite, TaskPatch, TaskView, TurnsPage, WhyAnswer},
};
use troupe_domain::task::{Ack, Command, CreateTask, QueueEdit, SendAck, SendMessage, TeamPlan};
use troupe_entities::TaskAddress;
use troupe_sharding::{Router, StreamItem};
use troupe_store::{Projections, TaskCursor, TaskFilter as RowFilter, TaskRow};
use troupe_types::{
    Clock, FrameSeq, MessageId, Sender, Status, TaskId, Timestamp, TurnId, UserId, Uuid, limits,
};

use super::{
    TaskFilter, TaskStream, Tasks,
    problems::{read_problem, task_problem},
};
use crate::caller::Caller;

/// Owners kept in memory; an owner never changes.
const OWNERS_MAX: usize = 100_000;
/// Undelivered batches between a Task and one reader.
const STREAM_BATCHES_MAX: usize = 512;

/// Finds what a turn uses of a Team, as its user sees it.
#[async_trait]
pub trait TeamResolver: std::fmt::Debug + Send + Sync + 'static {
    /// `team` is `name`, `namespace/name` or `namespace#name`; `model` replaces the Bots' own.
    ///
    /// # Errors
    /// 404 for a Team (or what it refers to) that the caller does not see; 422 with the path
    /// for one that cannot work.
    async fn resolve(
        &self,
        caller: &Caller,
        team: &str,
        model: Option<&str>,
    ) -> Result<Arc<TeamPlan>, Problem>;
}

/// The use cases of Tasks.
#[derive(Debug)]
pub struct LiveTasks {
    router: Router,
    projections: Arc<dyn Projections>,
    teams: Arc<dyn TeamResolver>,
    clock: Arc<dyn Clock>,
    owners: Mutex<HashMap<TaskId, UserId>>,
}

impl LiveTasks {
    /// Over the entities behind `router`.
    #[must_use]
    pub fn new(
        router: Router,
        projections: Arc<dyn Projections>,
        teams: Arc<dyn TeamResolver>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { router, projections, teams, clock, owners: Mutex::default() }
    }

    fn address(&self, task: TaskId) -> TaskAddress {
        TaskAddress::new(self.router.clone(), task)
    }

    /// The one access check of Tasks: owners alone. Foreign is answered as unknown.
    async fn authorize(&self, caller: &Caller, task: TaskId) -> Result<TaskAddress, Problem> {
        let address = self.address(task);
        let known = self.lock_owners().get(&task).copied();
        let owner = match known {
            Some(owner) => owner,
            None => {
                let owner = address.view().await.map_err(|e| task_problem(&e))?.user_id;
                self.remember(task, owner);
                owner
            }
        };
        if owner == caller.user { Ok(address) } else { Err(Problem::not_found("task")) }
    }

    fn remember(&self, task: TaskId, owner: UserId) {
        let mut owners = self.lock_owners();
        if owners.len() >= OWNERS_MAX {
            owners.clear();
        }
        owners.insert(task, owner);
    }

    fn lock_owners(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, UserId>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh_key(&self) -> Uuid {
        MessageId::new(self.clock.now()).uuid()
    }

    async fn send_message(&self, caller: &Caller, send: ChatSend) -> Result<ChatSendAck, Problem> {
        let key = send.client_message_id.unwrap_or_else(|| self.fresh_key());
        check_message(&send.message)?;
        let model = send.force_override_bot_model.as_deref();
        let (address, team, create) = match send.task_id {
            Some(task) => {
                let address = self.authorize(caller, task).await?;
                let team = match send.team_id {
                    Some(team) => team,
                    None => self.team_of(&address).await?,
                };
                (address, team, None)
            }
            None => {
                let team = send.team_id.ok_or_else(|| {
                    Problem::invalid("team_id", "a new task needs a team: give team_id")
                })?;
                // The same person and key make the same Task, so a repeated send is harmless.
                let task = TaskId::derived(&[&caller.user.to_string(), &key.to_string()]);
                let create = CreateTask {
                    task,
                    owner: caller.user,
                    owner_name: caller.name.clone(),
                    title: send.title.unwrap_or_default(),
                    labels: std::collections::BTreeMap::new(),
                };
                (self.address(task), team, Some(create))
            }
        };
        let plan = self.teams.resolve(caller, &team, model).await?;
        let created = create.as_ref().map(|c| c.task);
        let command = Command::Send(SendMessage {
            key,
            sender: sender(caller),
            content: send.message,
            plan,
            create,
        });
        let ack = address.command(command).await.map_err(|e| task_problem(&e))?;
        if let Some(task) = created {
            self.remember(task, caller.user);
        }
        sent(ack)
    }

    async fn team_of(&self, address: &TaskAddress) -> Result<String, Problem> {
        let view = address.view().await.map_err(|e| task_problem(&e))?;
        Ok(format!("{}/{}", view.team_namespace, view.team_name))
    }

    async fn confirm(&self, caller: &Caller, send: ChatSend) -> Result<ChatSendAck, Problem> {
        let task = send.task_id.ok_or_else(|| {
            Problem::invalid("task_id", "a confirmation needs the task that waits: give task_id")
        })?;
        if send.message.len() > limits::MESSAGE_BYTES_MAX {
            return Err(too_long(send.message.len()));
        }
        let address = self.authorize(caller, task).await?;
        let key = send.client_message_id.unwrap_or_else(|| self.fresh_key());
        let message = Some(send.message).filter(|m| !m.trim().is_empty());
        let ack = address.confirm(key, message).await.map_err(|e| task_problem(&e))?;
        confirmed(task, ack)
    }
}

fn check_message(message: &str) -> Result<(), Problem> {
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

#[async_trait]
impl Tasks for LiveTasks {
    async fn send(&self, caller: &Caller, send: ChatSend) -> Result<ChatSendAck, Problem> {
        match send.action.as_deref() {
            None => self.send_message(caller, send).await,
            Some("pipeline:confirm") => self.confirm(caller, send).await,
            Some(other) => {
                let message = format!("`{other}` is no action; allowed: pipeline:confirm");
                Err(Problem::invalid("action", message))
            }
        }
    }

    async fn cancel(&self, caller: &Caller, cancel: ChatCancel) -> Result<(), Problem> {
        let task = cancel.task_id.ok_or_else(|| Problem::invalid("task_id", "give task_id"))?;
        let address = self.authorize(caller, task).await?;
        address.command(Command::Cancel).await.map(|_| ()).map_err(|e| task_problem(&e))
    }

    async fn retry(&self, caller: &Caller, retry: ChatRetry) -> Result<(), Problem> {
        let address = self.authorize(caller, retry.task_id).await?;
        let plan = match &retry.force_override_bot_model {
            Some(model) => {
                let team = self.team_of(&address).await?;
                Some(self.teams.resolve(caller, &team, Some(model)).await?)
            }
            None => None,
        };
        let command = Command::Retry { message: retry.subtask_id, plan };
        address.command(command).await.map(|_| ()).map_err(|e| task_problem(&e))
    }

    async fn edit(&self, caller: &Caller, edit: ChatEdit) -> Result<ChatSendAck, Problem> {
        check_message(&edit.message)?;
        let address = self.authorize(caller, edit.task_id).await?;
        let team = self.team_of(&address).await?;
        let plan = self.teams.resolve(caller, &team, None).await?;
        let send = SendMessage {
            key: edit.client_message_id.unwrap_or_else(|| self.fresh_key()),
            sender: sender(caller),
            content: edit.message,
            plan,
            create: None,
        };
        let command = Command::Edit { message: edit.subtask_id, send };
        sent(address.command(command).await.map_err(|e| task_problem(&e))?)
    }

    async fn queue(&self, caller: &Caller, op: QueueOp) -> Result<(), Problem> {
        let (task, edit) = match op {
            QueueOp::Remove { task_id, subtask_id } => {
                (task_id, QueueEdit::Remove { message: subtask_id })
            }
            QueueOp::Replace { task_id, subtask_id, message } => {
                check_message(&message)?;
                (task_id, QueueEdit::Replace { message: subtask_id, content: message })
            }
            QueueOp::Reorder { task_id, order } => (task_id, QueueEdit::Reorder { order }),
            QueueOp::Resume { task_id } => (task_id, QueueEdit::Resume),
        };
        let address = self.authorize(caller, task).await?;
        address.command(Command::Queue(edit)).await.map(|_| ()).map_err(|e| task_problem(&e))
    }

    async fn patch(
        &self,
        caller: &Caller,
        task: TaskId,
        patch: TaskPatch,
    ) -> Result<TaskView, Problem> {
        if let Some(title) = &patch.title
            && !(1..=256).contains(&title.chars().count())
        {
            return Err(Problem::invalid("title", "a title has 1 to 256 characters"));
        }
        let address = self.authorize(caller, task).await?;
        let command = Command::Update { title: patch.title, labels: patch.labels };
        address.command(command).await.map_err(|e| task_problem(&e))?;
        address.view().await.map_err(|e| task_problem(&e))
    }

    async fn delete(&self, caller: &Caller, task: TaskId) -> Result<(), Problem> {
        let address = self.authorize(caller, task).await?;
        address.command(Command::Delete).await.map(|_| ()).map_err(|e| task_problem(&e))
    }

    async fn view(&self, caller: &Caller, task: TaskId) -> Result<TaskView, Problem> {
        let address = self.authorize(caller, task).await?;
        address.view().await.map_err(|e| task_problem(&e))
    }

    async fn join(&self, caller: &Caller, join: TaskJoin) -> Result<JoinAnswer, Problem> {
        let address = self.authorize(caller, join.task_id).await?;
        let turns = join.turns.unwrap_or(20).min(100);
        address.join(turns, join.after_message_id).await.map_err(|e| task_problem(&e))
    }

    async fn turns(
        &self,
        caller: &Caller,
        task: TaskId,
        before: Option<TurnId>,
        limit: u32,
    ) -> Result<TurnsPage, Problem> {
        let address = self.authorize(caller, task).await?;
        address.turns(before, limit.clamp(1, 100)).await.map_err(|e| task_problem(&e))
    }

    async fn frames(
        &self,
        caller: &Caller,
        task: TaskId,
        after: FrameSeq,
        limit: u32,
    ) -> Result<FramesPage, Problem> {
        let address = self.authorize(caller, task).await?;
        address.frames(after, limit.clamp(1, 2_000)).await.map_err(|e| task_problem(&e))
    }

    async fn follow(
        &self,
        caller: &Caller,
        task: TaskId,
        after: FrameSeq,
    ) -> Result<TaskStream, Problem> {
        let address = self.authorize(caller, task).await?;
        let (reply, frames) = address.subscribe(after).await.map_err(|e| task_problem(&e))?;
        if reply.following {
            return Ok(TaskStream { log: reply.log, head: reply.head, frames });
        }
        let (to, frames) = mpsc::channel(STREAM_BATCHES_MAX);
        let stream = TaskStream { log: reply.log, head: reply.head, frames };
        troupe_actor::spawn_task("task-catch-up", catch_up(address, after, to));
        Ok(stream)
    }

    async fn may_follow(&self, caller: &Caller, task: TaskId) -> Result<(), Problem> {
        self.authorize(caller, task).await.map(|_| ())
    }

    async fn list(&self, caller: &Caller, filter: TaskFilter) -> Result<Page<TaskLite>, Problem> {
        let after = filter.cursor.as_deref().map(parse_cursor).transpose()?;
        let limit = match filter.limit {
            0 => 20,
            n => n.min(100),
        };
        let rows = RowFilter {
            statuses: filter.status.iter().map(|s| word(*s)).collect(),
            text: filter.text.filter(|t| !t.is_empty()),
            archived: false,
        };
        let wanted = usize::try_from(limit).unwrap_or(100);
        let store = &self.projections;
        let total = store.count_tasks(caller.user, &rows).await.map_err(|e| read_problem(&e))?;
        let mut found = store
            .list_tasks(caller.user, &rows, after, wanted + 1)
            .await
            .map_err(|e| read_problem(&e))?;
        let more = found.len() > wanted;
        found.truncate(wanted);
        let next = found.last().filter(|_| more).map(|r| print_cursor(&TaskCursor::from(r)));
        Ok(Page { total, items: found.into_iter().map(lite).collect(), next })
    }

    async fn why(&self, caller: &Caller, task: TaskId) -> Result<WhyAnswer, Problem> {
        let address = self.authorize(caller, task).await?;
        address.why().await.map_err(|e| task_problem(&e))
    }
}

/// Pages from the archive until the Task's memory reaches back far enough, then follows it.
async fn catch_up(address: TaskAddress, mut after: FrameSeq, to: mpsc::Sender<StreamItem>) {
    loop {
        let before = after;
        match address.raw_frames(after, 2_000).await {
            Ok(frames) if !frames.is_empty() => {
                after = frames.last().map_or(after, |f| f.seq);
                if to.send(StreamItem::Frames(frames.into())).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
        let Ok((reply, mut stream)) = address.subscribe(after).await else { break };
        if reply.following {
            while let Some(item) = stream.recv().await {
                let last = !matches!(item, StreamItem::Frames(_));
                if to.send(item).await.is_err() || last {
                    return;
                }
            }
            return;
        }
        if after == before {
            // Nothing more is to be read, and yet it does not reach: start over from a page.
            break;
        }
    }
    let _ = to.send(StreamItem::Ended).await;
}

fn lite(row: TaskRow) -> TaskLite {
    let body: serde_json::Value = serde_json::from_slice(&row.body).unwrap_or_default();
    let status = serde_json::from_value(row.status.into()).unwrap_or(Status::Pending);
    TaskLite {
        id: row.task,
        user_id: row.owner,
        title: row.title,
        status,
        team_name: row.team,
        team_namespace: row.team_namespace,
        created_at: row.created_at,
        updated_at: row.updated_at,
        completed_at: serde_json::from_value(body["completed_at"].clone()).unwrap_or(None),
        last_line: None,
    }
}

fn word(status: Status) -> String {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn print_cursor(cursor: &TaskCursor) -> String {
    format!("{}.{}", cursor.updated_at.as_millis(), cursor.task)
}

fn parse_cursor(text: &str) -> Result<TaskCursor, Problem> {
    let parsed = text.split_once('.').and_then(|(at, task)| {
        let updated_at = Timestamp::from_millis(at.parse().ok()?);
        Some(TaskCursor { updated_at, task: task.parse().ok()? })
    });
    parsed.ok_or_else(|| Problem::invalid("cursor", "give the `next` of an earlier page"))
}
