//! Lists: rows derived from journals, written after the commit, repaired by their entities.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_types::{Seq, TaskId, Timestamp, UserId};

use crate::error::{InvalidWrite, ReadError, WriteError};

/// Largest body of a projection row, in bytes.
pub const PROJECTION_BYTES_MAX: usize = 64 * 1024;

/// One Task in its owner's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Which Task.
    pub task: TaskId,
    /// In whose list it stands.
    pub owner: UserId,
    /// The Task's last entry that this row knows of: a row with a lower one never wins.
    pub seq: Seq,
    /// When the Task began.
    pub created_at: Timestamp,
    /// When something last happened in it; lists are ordered by this, latest first.
    pub updated_at: Timestamp,
    /// Its status, in the contract's words.
    pub status: String,
    /// Its title.
    pub title: String,
    /// Name of its Team.
    pub team: String,
    /// Namespace of its Team.
    pub team_namespace: String,
    /// Put away by its owner; listed only when asked for.
    pub archived: bool,
    /// Deleted; never listed, still found by id.
    pub deleted: bool,
    /// Approvals and questions of its agents that wait for a person.
    pub asks: u32,
    /// Everything else a list shows, as the entity encoded it.
    pub body: Bytes,
}

/// Which Tasks of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// One of these statuses; empty means any.
    pub statuses: Vec<String>,
    /// The title contains this, whatever the case.
    pub text: Option<String>,
    /// Only those that are put away, or (`false`, as by default) only the others.
    pub archived: bool,
    /// Only those whose agents wait for a person.
    pub asks: bool,
}

impl TaskFilter {
    /// Whether a row belongs into the list.
    #[must_use]
    pub fn admits(&self, row: &TaskRow) -> bool {
        let text = || match &self.text {
            Some(text) => row.title.to_lowercase().contains(&text.to_lowercase()),
            None => true,
        };
        !row.deleted
            && row.archived == self.archived
            && (row.asks > 0 || !self.asks)
            && (self.statuses.is_empty() || self.statuses.contains(&row.status))
            && text()
    }
}

/// Where a page of a list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskCursor {
    /// Of the last row.
    pub updated_at: Timestamp,
    /// Of the last row.
    pub task: TaskId,
}

impl From<&TaskRow> for TaskCursor {
    fn from(row: &TaskRow) -> Self {
        Self { updated_at: row.updated_at, task: row.task }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPage {
    /// The rows of the page.
    pub rows: Vec<TaskRow>,
    /// How many rows pass the filter, on all pages.
    pub total: u64,
}

/// Rows derived from journals.
///
/// - **The newest seq wins**, in whatever order writes arrive; a repeated write changes
///   nothing. No clock matters.
/// - **May trail** the journal: a row is written after the commit it tells of, and an entity
///   writes it again when it is activated.
#[async_trait]
pub trait Projections: fmt::Debug + Send + Sync + 'static {
    /// Writes a row unless one with the same or a higher seq is there.
    ///
    /// # Errors
    /// See [`WriteError`]; it may be repeated after any of them.
    async fn put_task(&self, row: TaskRow) -> Result<(), WriteError>;

    /// Removes the row of a Task for good, unless one with a higher seq is there. A row
    /// with a seq up to `seq` that arrives later does not come back.
    ///
    /// # Errors
    /// See [`WriteError`]; it may be repeated after any of them.
    async fn delete_task(&self, owner: UserId, task: TaskId, seq: Seq) -> Result<(), WriteError>;

    /// The first `limit` rows of an owner that pass the filter and come after the cursor,
    /// latest `updated_at` first, then by descending id.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn list_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, ReadError>;

    /// How many rows of an owner pass the filter.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn count_tasks(&self, owner: UserId, filter: &TaskFilter) -> Result<u64, ReadError>;

    /// Both at once: what [`list_tasks`](Self::list_tasks) and [`count_tasks`](Self::count_tasks)
    /// give. A store that can read them as of one moment does.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn page_of_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<TaskPage, ReadError> {
        let rows = self.list_tasks(owner, filter, after, limit).await?;
        Ok(TaskPage { rows, total: self.count_tasks(owner, filter).await? })
    }

    /// The rows of these Tasks, whoever owns them, in the order asked for; deleted ones too,
    /// unknown ones left out.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn get_tasks(&self, tasks: &[TaskId]) -> Result<Vec<TaskRow>, ReadError>;
}

/// Sizes that every implementation checks before it writes.
///
/// # Errors
/// The body is larger than [`PROJECTION_BYTES_MAX`].
pub fn check_task(row: &TaskRow) -> Result<(), InvalidWrite> {
    let bytes = row.body.len() + row.title.len();
    if bytes > PROJECTION_BYTES_MAX {
        return Err(InvalidWrite::TooLarge { bytes, max: PROJECTION_BYTES_MAX });
    }
    Ok(())
}
