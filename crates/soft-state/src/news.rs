//! What nodes tell each other: best effort, bounded, and only ever "look again".

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use troupe_types::{TaskId, UserId};

use crate::presence;

/// Largest payload of a notice that reaches other nodes, in bytes as JSON.
pub const NOTICE_BYTES_MAX: usize = 16 * 1024;
/// Notices that may wait for a slow reader; older ones are lost to it.
const NOTICES_MAX: usize = 4_096;

/// Something that clients of a user may want to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Whose clients.
    pub user: UserId,
    /// Name of the event: `task:created`, `task:status`, `task:asks`, `task:deleted`.
    pub event: Cow<'static, str>,
    /// Its payload.
    pub payload: Value,
}

/// Notices to the rooms of users and news of revocations. Telling never waits and never fails;
/// what is told may get lost, and reaches no one twice.
pub trait News: fmt::Debug + Send + Sync + 'static {
    /// Tells the clients of a user, whichever node they are connected to.
    fn notify(&self, notice: Notice);

    /// Notices of this node and of the others from now on. A reader that lags loses the oldest.
    fn notices(&self) -> broadcast::Receiver<Notice>;

    /// Tells the other nodes that revocations were written: read them now instead of at the
    /// next poll.
    fn tell_revoked(&self);

    /// Changes whenever another node has told of revocations, and when telling became
    /// possible again: some may have been missed.
    fn revocations(&self) -> watch::Receiver<u64>;
}

/// Where a node's readers listen.
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) presence: broadcast::Sender<TaskId>,
    pub(crate) revocations: watch::Sender<u64>,
}

impl Ears {
    pub(crate) fn new() -> Self {
        Self {
            notices: broadcast::Sender::new(NOTICES_MAX),
            presence: broadcast::Sender::new(presence::CHANGES_MAX),
            revocations: watch::Sender::new(0),
        }
    }

    /// Without readers nobody misses it; this holds for all three.
    pub(crate) fn notice(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    pub(crate) fn presence(&self, task: TaskId) {
        let _ = self.presence.send(task);
    }

    pub(crate) fn revoked(&self) {
        self.revocations.send_modify(|told| *told = told.wrapping_add(1));
    }
}
