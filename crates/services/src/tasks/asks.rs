//! What waits for a person, over all their Tasks.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use troupe_api::{
    Problem,
    task::{OpenAsk, OpenAsks},
};
use troupe_store::{TaskFilter as RowFilter, TaskRow};

use super::{live::LiveTasks, problems::read_problem};
use crate::caller::Caller;

/// Tasks that are asked what they wait for.
const TASKS_MAX: usize = 50;
/// How many of them at once.
const AT_ONCE: usize = 8;
/// Approvals and questions of one answer.
const ASKS_MAX: usize = 100;
/// One Task that does not answer does not hold up the others for longer.
const TASK_TIMEOUT: Duration = Duration::from_secs(5);

impl LiveTasks {
    /// The list says which Tasks ask, and they themselves say what: an answer that was given a
    /// moment ago counts already.
    pub(super) async fn open_asks(&self, caller: &Caller) -> Result<OpenAsks, Problem> {
        let filter = RowFilter { asks: true, ..RowFilter::default() };
        let rows = self.projections.list_tasks(caller.user, &filter, None, TASKS_MAX + 1).await;
        let mut rows = rows.map_err(|e| read_problem(&e))?;
        let mut more = rows.len() > TASKS_MAX;
        rows.truncate(TASKS_MAX);
        let all = stream::iter(rows.into_iter().rev().map(|row| self.asks_of(row)));
        let all: Vec<Option<Vec<OpenAsk>>> = all.buffered(AT_ONCE).collect().await;
        more |= all.iter().any(Option::is_none);
        let mut asks: Vec<OpenAsk> = all.into_iter().flatten().flatten().collect();
        more |= asks.len() > ASKS_MAX;
        asks.truncate(ASKS_MAX);
        Ok(OpenAsks { asks, more })
    }

    /// `None`: it did not say, or said less than it has.
    async fn asks_of(&self, row: TaskRow) -> Option<Vec<OpenAsk>> {
        let address = self.address(row.task);
        match tokio::time::timeout(TASK_TIMEOUT, address.asks()).await {
            Ok(Ok(asks)) => Some(asks),
            Ok(Err(error)) => {
                tracing::debug!(task = %row.task, %error, "a task did not say what it asks");
                None
            }
            Err(_) => None,
        }
    }
}
