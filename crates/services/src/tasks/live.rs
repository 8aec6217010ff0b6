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
    device::AnswerBlock,
    task::{
        FramesPage, JoinAnswer, OpenAsks, Page, TaskLite, TaskPatch, TaskView, TurnsPage, WhyAnswer,
    },
};
use troupe_domain::task::{Command, QueueEdit, TeamPlan};
use troupe_entities::TaskAddress;
use troupe_sharding::Router;
use troupe_soft_state::{Statuses, TaskNote};
use troupe_store::{Projections, TaskCursor, TaskFilter as RowFilter, TaskPage, TaskRow};
use troupe_types::{Clock, FrameSeq, TaskId, TurnId, UserId};

use super::{
    TaskFilter, TaskStream, Tasks,
    cancel::not_running,
    follow::catch_up,
    problems::{read_problem, task_problem},
    rows::{lite, parse_cursor, print_cursor, word},
    send::check_message,
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
    pub(super) projections: Arc<dyn Projections>,
    pub(super) teams: Arc<dyn TeamResolver>,
    pub(super) clock: Arc<dyn Clock>,
    statuses: Option<Arc<dyn Statuses>>,
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
        Self { router, projections, teams, clock, statuses: None, owners: Mutex::default() }
    }

    /// Lists show what the cache knows and the rows do not yet.
    #[must_use]
    pub fn with_statuses(self, statuses: Arc<dyn Statuses>) -> Self {
        Self { statuses: Some(statuses), ..self }
    }

    async fn notes(&self, rows: &[TaskRow]) -> Vec<Option<TaskNote>> {
        let tasks: Vec<TaskId> = rows.iter().map(|row| row.task).collect();
        match &self.statuses {
            Some(statuses) => statuses.statuses(&tasks).await,
            None => vec![None; tasks.len()],
        }
    }

    pub(super) fn address(&self, task: TaskId) -> TaskAddress {
        TaskAddress::new(self.router.clone(), task)
    }

    /// The one access check of Tasks: owners alone. Foreign is answered as unknown.
    pub(super) async fn authorize(
        &self,
        caller: &Caller,
        task: TaskId,
    ) -> Result<TaskAddress, Problem> {
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

    pub(super) fn remember(&self, task: TaskId, owner: UserId) {
        let mut owners = self.lock_owners();
        if owners.len() >= OWNERS_MAX {
            owners.clear();
        }
        owners.insert(task, owner);
    }

    fn lock_owners(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, UserId>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let address = match (cancel.task_id, cancel.subtask_id) {
            (Some(task), None) => self.authorize(caller, task).await?,
            (Some(task), Some(row)) => {
                let address = self.authorize(caller, task).await?;
                self.in_last_turn(&address, row)
                    .await?
                    .then_some(address)
                    .ok_or_else(not_running)?
            }
            (None, Some(row)) => self.task_of_running(caller, row).await?,
            (None, None) => {
                return Err(Problem::invalid("task_id", "give task_id or subtask_id"));
            }
        };
        address.command(Command::Cancel).await.map(|_| ()).map_err(|e| task_problem(&e))
    }

    async fn answer(&self, caller: &Caller, answer: AnswerBlock) -> Result<(), Problem> {
        self.answer_block(caller, answer).await
    }

    async fn retry(&self, caller: &Caller, retry: ChatRetry) -> Result<(), Problem> {
        let address = self.authorize(caller, retry.task_id).await?;
        let plan = match &retry.force_override_bot_model {
            Some(model) => {
                let team = self.begun_with(&address).await?.team;
                Some(self.teams.resolve(caller, &team, Some(model)).await?)
            }
            None => None,
        };
        let command = Command::Retry { message: retry.subtask_id, plan };
        address.command(command).await.map(|_| ()).map_err(|e| task_problem(&e))
    }

    async fn edit(&self, caller: &Caller, edit: ChatEdit) -> Result<ChatSendAck, Problem> {
        self.edit_message(caller, edit).await
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
            asks: filter.asks,
        };
        let wanted = usize::try_from(limit).unwrap_or(100);
        let store = &self.projections;
        let page = store.page_of_tasks(caller.user, &rows, after, wanted + 1).await;
        let TaskPage { rows: mut found, total } = page.map_err(|e| read_problem(&e))?;
        let more = found.len() > wanted;
        found.truncate(wanted);
        let next = found.last().filter(|_| more).map(|r| print_cursor(&TaskCursor::from(r)));
        let notes = self.notes(&found).await;
        let items = found.into_iter().zip(notes).map(|(row, note)| lite(row, note)).collect();
        Ok(Page { total, items, next })
    }

    async fn asks(&self, caller: &Caller) -> Result<OpenAsks, Problem> {
        self.open_asks(caller).await
    }

    async fn why(&self, caller: &Caller, task: TaskId) -> Result<WhyAnswer, Problem> {
        let address = self.authorize(caller, task).await?;
        super::why(&self.router, &address).await.map_err(|e| task_problem(&e))
    }
}
