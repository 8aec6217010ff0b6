//! The wake index: which entity to look at again, and when. The only durable timer.

use std::fmt;

use async_trait::async_trait;
use troupe_types::{EntityId, Fence, ShardId, Timestamp};

use crate::{
    Opened,
    error::{InvalidWrite, ReadError, WriteError},
};

/// Why an entity wants to be looked at; the numbers lie on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum WakeKind {
    /// A run that must go on.
    Run = 1,
    /// An approval that expires.
    ApprovalExpiry = 2,
    /// A device that may stay away.
    DeviceLease = 3,
    /// A cron time.
    Cron = 4,
    /// The end of a delete delay.
    DeleteDelay = 5,
    /// A projection that is not yet written.
    Projection = 6,
}

impl WakeKind {
    /// The number on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this number on disk.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Run),
            2 => Some(Self::ApprovalExpiry),
            3 => Some(Self::DeviceLease),
            4 => Some(Self::Cron),
            5 => Some(Self::DeleteDelay),
            6 => Some(Self::Projection),
            _ => None,
        }
    }
}

/// A change of the wake index that travels with an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeChange {
    /// Writes a row under the append's own fence.
    Insert {
        /// When to look.
        due: Timestamp,
        /// Why.
        kind: WakeKind,
    },
    /// Removes the entity's rows with this time and kind, of this fence and of older ones.
    Remove {
        /// The row's time.
        due: Timestamp,
        /// The row's kind.
        kind: WakeKind,
    },
}

/// A row of the wake index. Rows sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WakeRow {
    /// When to look; durations are measured by the entity, not by this.
    pub due: Timestamp,
    /// The shard of the entity.
    pub shard: ShardId,
    /// Why.
    pub kind: WakeKind,
    /// At whom.
    pub entity: EntityId,
    /// The activation that wrote the row.
    pub fence: Fence,
}

impl WakeRow {
    /// The row that an activation of `entity` writes.
    #[must_use]
    pub fn new(entity: EntityId, fence: Fence, due: Timestamp, kind: WakeKind) -> Self {
        Self { due, shard: entity.shard(), kind, entity, fence }
    }
}

/// The wake index. Rows are inserted by [`JournalStore::append`] and only ever inserted or
/// deleted, so false rows (of work that is done) occur and are harmless; missing ones do not.
///
/// [`JournalStore::append`]: crate::JournalStore::append
#[async_trait]
pub trait WakeStore: fmt::Debug + Send + Sync + 'static {
    /// The first `limit` rows of these shards that are due at or before `until`, above
    /// `after`, in the order of [`WakeRow`]. Reading page by page finds every row that was
    /// there when the first page was read.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn due(
        &self,
        shards: &[ShardId],
        until: Timestamp,
        after: Option<WakeRow>,
        limit: usize,
    ) -> Result<Vec<WakeRow>, ReadError>;

    /// Removes rows of this activation's entity: rows of its own fence, and older ones once it
    /// has written a wake row itself. Rows that are gone already are no error.
    ///
    /// # Errors
    /// [`InvalidWrite::NotYours`] removes nothing. A superseded activation removes nothing and
    /// gets it too.
    async fn remove(&self, by: &Opened, rows: Vec<WakeRow>) -> Result<(), WriteError>;
}

/// Whether `by` may remove these rows; for implementations.
///
/// # Errors
/// [`InvalidWrite::NotYours`].
pub fn check_remove(by: &Opened, rows: &[WakeRow]) -> Result<(), InvalidWrite> {
    let older_too = by.activation.wrote_wake();
    let mine = |row: &WakeRow| {
        row.entity == by.entity() && (row.fence == by.fence || (older_too && row.fence < by.fence))
    };
    if by.is_superseded() || !rows.iter().all(mine) {
        return Err(InvalidWrite::NotYours);
    }
    Ok(())
}
