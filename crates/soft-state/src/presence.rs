//! Who looks at which Task through which node.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::broadcast;
use troupe_api::task::Viewer;
use troupe_types::TaskId;

/// Viewers of one Task that are named, per node and in all.
pub const VIEWERS_MAX: usize = 50;
/// Changes that may wait for a slow reader; older ones are lost to it.
pub(crate) const CHANGES_MAX: usize = 1_024;

/// Who looks at a Task, through whichever node. A node's word counts until it says something
/// else, or for [`Lifetimes::presence`](crate::Lifetimes) after it last did.
#[async_trait]
pub trait Presence: fmt::Debug + Send + Sync + 'static {
    /// Says who looks at a Task through this node, nobody included, instead of what this node
    /// said before; answers who does through the others. At most [`VIEWERS_MAX`] are taken.
    ///
    /// Alone (degraded), the answer is empty.
    async fn announce(&self, task: TaskId, here: &[Viewer]) -> Vec<Viewer>;

    /// Who looks at a Task through other nodes, each person once, by id.
    async fn elsewhere(&self, task: TaskId) -> Vec<Viewer>;

    /// Tasks about which another node has just said something new. Lossy: a reader that lags
    /// looks again.
    fn presence_changes(&self) -> broadcast::Receiver<TaskId>;
}

/// Each person once, by id, and no more than are named.
pub(crate) fn named(mut viewers: Vec<Viewer>) -> Vec<Viewer> {
    viewers.sort_by_key(|viewer| viewer.user_id);
    viewers.dedup_by_key(|viewer| viewer.user_id);
    viewers.truncate(VIEWERS_MAX);
    viewers
}
