//! What lies in a store, for copies of all of it.

use std::fmt;

use async_trait::async_trait;
use troupe_types::{EntityId, Seq, Timestamp};

use crate::{
    AppendError, BlobHash, Entry, Opened, ReadError, Snapshot, TaskRow, WakeKind, WakeRow,
    WakeStore, effective::Tags,
};

/// Wake rows that are read at once when those of one entity are looked for.
const WAKE_PAGE: usize = 1_000;

/// One entity as it was at one moment, read without owning it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// The current snapshot. What lies below it is in the archive, if the kind keeps one.
    pub snapshot: Option<Snapshot>,
    /// All entries above the snapshot, in order.
    pub tail: Vec<Entry>,
    /// When and why it wants to be looked at. At least what this state of the journal needs;
    /// false rows are harmless here as everywhere.
    pub wake: Vec<(Timestamp, WakeKind)>,
    /// Its row in its owner's list, if it is a Task that has one. Never ahead of the journal.
    pub task: Option<TaskRow>,
}

impl Peeked {
    /// The last entry of the snapshot, zero without one.
    #[must_use]
    pub fn archived_upto(&self) -> Seq {
        self.snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto)
    }

    /// The last entry.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.tail.last().map_or_else(|| self.archived_upto(), |entry| entry.seq)
    }
}

/// Everything that lies in a store, and the one write that a copy needs beside the other traits.
///
/// Reading claims nothing and disturbs no owner. A page is in an order of the store's own;
/// reading page by page finds everything that was there when the first page was read.
#[async_trait]
pub trait Inventory: fmt::Debug + Send + Sync + 'static {
    /// At most `limit` entities that have a journal, those behind `after`.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn entities(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> Result<Vec<EntityId>, ReadError>;

    /// What an [`open`](crate::JournalStore::open) at this moment would find, and what belongs
    /// to it; `None` if there is no entry. Everything that was acked before the call is in it;
    /// an append that is under way may be. `tail` is as large as one of `open`.
    ///
    /// # Errors
    /// See [`ReadError`]; `Unavailable` too if the entity moves faster than it can be read.
    async fn peek(&self, entity: EntityId) -> Result<Option<Peeked>, ReadError>;

    /// What guards a journal and which rows lie in it, at most `rows_max` of the newest; for those
    /// who check it. `None`: there is no entry, or the store has one row per number and no fences,
    /// because one process alone writes it.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn tags(&self, entity: EntityId, rows_max: usize) -> Result<Option<Tags>, ReadError>;

    /// The names of at most `limit` blobs, those behind `after`.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn blobs(
        &self,
        after: Option<BlobHash>,
        limit: usize,
    ) -> Result<Vec<BlobHash>, ReadError>;

    /// Begins a journal without entries at a snapshot, as if all entries below had been there
    /// and were trimmed. For kinds without an archive. `at` is used up: open again.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing but the snapshot may have been written.
    async fn begin_at(&self, at: &Opened, snapshot: Snapshot) -> Result<(), AppendError>;
}

/// The wake rows of one entity; for implementations whose pages go through a whole shard.
///
/// # Errors
/// See [`ReadError`].
pub async fn wake_of(
    store: &(impl WakeStore + ?Sized),
    entity: EntityId,
) -> Result<Vec<(Timestamp, WakeKind)>, ReadError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let until = Timestamp::from_millis(i64::MAX);
        let page = store.due(&[entity.shard()], until, after, WAKE_PAGE).await?;
        after = page.last().copied();
        let whole = page.len() < WAKE_PAGE;
        let mine = |row: &WakeRow| (row.entity == entity).then_some((row.due, row.kind));
        found.extend(page.iter().filter_map(mine));
        if whole {
            // The same time and kind under several fences is one wish.
            found.sort_unstable();
            found.dedup();
            return Ok(found);
        }
    }
}
