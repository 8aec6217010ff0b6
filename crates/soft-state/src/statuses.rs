//! What lists show of Tasks that move faster than their rows are written.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use troupe_types::{Seq, Status, TaskId, Timestamp};

/// Longest last line that is kept, in characters.
pub(crate) const LINE_CHARS_MAX: usize = 200;

/// A Task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNote {
    /// The last entry of the Task that this knows of.
    pub seq: Seq,
    /// How far it is.
    pub status: Status,
    /// When something last happened in it.
    pub updated_at: Timestamp,
    /// The last line of its last answer; cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<String>,
}

impl TaskNote {
    /// With a last line of bearable length.
    pub(crate) fn bounded(&self) -> Self {
        let cut = |line: &String| line.chars().take(LINE_CHARS_MAX).collect();
        Self { last_line: self.last_line.as_ref().map(cut), ..self.clone() }
    }
}

/// A cache that any gateway reads. The note with the highest seq wins, in whatever order they
/// come; one is forgotten [`Lifetimes::status`](crate::Lifetimes) after it was put.
#[async_trait]
pub trait Statuses: fmt::Debug + Send + Sync + 'static {
    /// Keeps a note unless one with a higher seq is there.
    async fn put_status(&self, task: TaskId, note: &TaskNote);

    /// What is known of each, in the order asked. Alone (degraded), what this node has put.
    async fn statuses(&self, tasks: &[TaskId]) -> Vec<Option<TaskNote>>;
}
