//! What was deleted and can be brought back for a while.
//!
//! A journal entry says only what is removed and what is written, so that every version of the
//! program reads it: what is kept follows from the fold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use troupe_types::Timestamp;

use super::{Fault, Item, Key};

/// Days that a deleted resource can be brought back.
pub const KEPT_DAYS: i64 = 30;
/// Most deleted resources that one Namespace keeps; of more, the one deleted first is let go.
pub const KEPT_MAX: usize = 100;

const KEPT_MILLIS: i64 = KEPT_DAYS * 24 * 3_600 * 1_000;

/// A resource that was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deleted {
    /// As it was.
    pub item: Item,
    /// When it was deleted.
    pub at: Timestamp,
}

impl Deleted {
    /// Whether it can be brought back.
    #[must_use]
    pub fn is_kept(&self, now: Timestamp) -> bool {
        now.as_millis() - self.at.as_millis() < KEPT_MILLIS
    }
}

/// Lets go what is too old, and of what is too much the oldest.
pub(super) fn trim(deleted: &mut BTreeMap<Key, Deleted>, now: Timestamp) {
    deleted.retain(|_, gone| gone.is_kept(now));
    while deleted.len() > KEPT_MAX {
        let oldest = deleted.iter().min_by_key(|(key, gone)| (gone.at, *key));
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
        deleted.remove(&oldest);
    }
}

/// The item that a restore brings back.
pub(super) fn kept<'a>(
    deleted: &'a BTreeMap<Key, Deleted>,
    key: &Key,
    live: Option<&Item>,
    now: Timestamp,
) -> Result<&'a Item, Fault> {
    if live.is_some() {
        return Err(Fault::Exists { key: key.clone() });
    }
    let gone = deleted.get(key).filter(|gone| gone.is_kept(now));
    gone.map(|gone| &gone.item).ok_or_else(|| Fault::Missing { key: key.clone() })
}
