//! Whose turn a row belongs to: the contract's `chat:cancel` names a row and no Task.

use std::time::Duration;

use troupe_api::Problem;
use troupe_entities::TaskAddress;
use troupe_store::TaskFilter as RowFilter;
use troupe_types::{MessageId, Status};

use super::{
    live::LiveTasks,
    problems::{read_problem, task_problem},
    rows::word,
};
use crate::caller::Caller;

/// Tasks of one person that are looked at, newest activity first; few people run more at once.
const TASKS_MAX: usize = 200;
/// The list is written after the Task: a second look finds what began a moment ago.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(250);
/// What may be cancelled.
const CANCELLABLE: [Status; 4] =
    [Status::Pending, Status::Running, Status::PendingConfirmation, Status::Cancelling];

pub(super) fn not_running() -> Problem {
    Problem::new(409, "wrong_state", "this message is not part of the turn that runs")
}

impl LiveTasks {
    /// Whether the row belongs to the Task's last turn: the one that runs, if one does.
    pub(super) async fn in_last_turn(
        &self,
        address: &TaskAddress,
        row: MessageId,
    ) -> Result<bool, Problem> {
        let page = address.turns(None, 1).await.map_err(|e| task_problem(&e))?;
        Ok(page.turns.iter().flat_map(|turn| &turn.messages).any(|m| m.message == row))
    }

    /// The caller's Task whose running turn holds the row.
    pub(super) async fn task_of_running(
        &self,
        caller: &Caller,
        row: MessageId,
    ) -> Result<TaskAddress, Problem> {
        if let Some(address) = self.look_for(caller, row).await? {
            return Ok(address);
        }
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
        let found = self.look_for(caller, row).await?;
        found.ok_or_else(|| Problem::not_found("message"))
    }

    async fn look_for(
        &self,
        caller: &Caller,
        row: MessageId,
    ) -> Result<Option<TaskAddress>, Problem> {
        let running = RowFilter {
            statuses: CANCELLABLE.iter().map(|status| word(*status)).collect(),
            text: None,
            archived: false,
            asks: false,
        };
        let tasks = self.projections.list_tasks(caller.user, &running, None, TASKS_MAX).await;
        for task in tasks.map_err(|e| read_problem(&e))? {
            let address = self.address(task.task);
            match self.in_last_turn(&address, row).await {
                Ok(true) => return Ok(Some(address)),
                // Deleted since it was listed.
                Err(problem) if problem.status != 404 => return Err(problem),
                Ok(false) | Err(_) => {}
            }
        }
        Ok(None)
    }
}
