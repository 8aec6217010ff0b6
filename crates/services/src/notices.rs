//! Notices to users: best effort, they only say "look again".

use std::fmt;

use serde_json::Value;
use tokio::sync::broadcast;
use troupe_types::UserId;

/// Notices that may wait for a slow reader; older ones are lost to it.
const NOTICES_MAX: usize = 4_096;

/// Something that clients of a user may want to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Whose clients.
    pub user: UserId,
    /// Name of the event: `task:created`, `task:status`, `task:deleted`.
    pub event: &'static str,
    /// Its payload.
    pub payload: Value,
}

/// Where notices are put. Never waits, never fails: a notice may get lost.
pub trait Notices: fmt::Debug + Send + Sync + 'static {
    /// Tells the clients of a user.
    fn notify(&self, user: UserId, event: &'static str, payload: Value);
}

/// Notices within one process.
#[derive(Clone, Debug)]
pub struct NoticeBoard {
    to: broadcast::Sender<Notice>,
}

impl NoticeBoard {
    /// A board without readers.
    #[must_use]
    pub fn new() -> Self {
        Self { to: broadcast::Sender::new(NOTICES_MAX) }
    }

    /// Notices from now on. A reader that lags loses the oldest ones.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.to.subscribe()
    }
}

impl Default for NoticeBoard {
    fn default() -> Self {
        Self::new()
    }
}

impl Notices for NoticeBoard {
    fn notify(&self, user: UserId, event: &'static str, payload: Value) {
        // Without readers nobody misses it.
        let _ = self.to.send(Notice { user, event, payload });
    }
}
