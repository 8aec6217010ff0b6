//! Carries notices of entities to the gateway's board.

use serde_json::Value;
use troupe_entities::task::Notifier;
use troupe_services::{NoticeBoard, Notices as _};
use troupe_types::UserId;

/// The board, as entities see it.
#[derive(Clone, Debug)]
pub(crate) struct ToBoard(pub(crate) NoticeBoard);

impl Notifier for ToBoard {
    fn notify(&self, user: UserId, event: &'static str, payload: Value) {
        self.0.notify(user, event, payload);
    }
}
