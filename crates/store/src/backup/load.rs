//! Filling an empty store from a backup.
//!
//! Every write is one that a repetition finds done: entries by their number, rows by their
//! content. So a restore that was interrupted is run again with the same file and goes on.

use std::io::{Read, Seek};

use bytes::Bytes;
use thiserror::Error;
use troupe_types::{EntityId, Seq, Uuid};

use super::{
    file::{FileError, Totals, Verified},
    mark::{Mark, Restored, StartError},
    record::Record,
};
use crate::{
    AppendError, CasError, DirectoryRow, DirectoryTable, Entry, OpenError, Opened, ReadError,
    RowWrite, Snapshot, Stores, WakeChange, WriteError,
};

/// Entries and bytes of one append; small enough for a batch of any store.
const APPEND_ENTRIES: usize = 256;
const APPEND_BYTES: usize = 512 * 1024;
/// Wake rows of one append.
const WAKE_ROWS: usize = 256;
/// Entries and bytes that may stand above a snapshot while an archive is being filled: a store
/// moves them in one go.
const STEP_ENTRIES: u64 = 1_024;
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// Why a restore ended early.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The backup is not whole.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is something in the store.
    #[error("the store is not empty: it holds {}", .0.join(", "))]
    NotEmpty(Vec<&'static str>),
    /// Another restore was begun and has not ended.
    #[error(
        "the store is half restored from another backup, {0}: run that one again, or take an \
         empty store"
    )]
    Other(Uuid),
    /// The mark of a restore does not read.
    #[error(transparent)]
    Mark(StartError),
    /// Something that is there differs from the backup: the store is, or was, in use.
    #[error("{what} is there and differs from the backup; take an empty store")]
    Differs {
        /// What.
        what: String,
    },
    /// No room.
    #[error("the store is full; make room and run the restore again")]
    Full,
    /// The store did not answer.
    #[error("the store could not be written; run the restore again")]
    Write(#[source] crate::Cause),
    /// The store did not answer.
    #[error("the store could not be read; run the restore again")]
    Read(#[from] ReadError),
}

impl From<AppendError> for LoadError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::Full,
            other => Self::Write(crate::cause(other)),
        }
    }
}

impl From<OpenError> for LoadError {
    fn from(error: OpenError) -> Self {
        Self::Write(crate::cause(error))
    }
}

impl From<WriteError> for LoadError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Full => Self::Full,
            other => Self::Write(crate::cause(other)),
        }
    }
}

impl From<CasError> for LoadError {
    fn from(error: CasError) -> Self {
        match error {
            CasError::Full => Self::Full,
            other => Self::Write(crate::cause(other)),
        }
    }
}

/// Writes everything of a backup into an empty store that nobody works on. `restore` is a fresh
/// name; `step` is told after every record what has been read of what there is.
///
/// # Errors
/// See [`LoadError`]. `NotEmpty` and `Other` changed nothing; after anything else nodes refuse the
/// store until the same file is restored to its end.
pub async fn load<R: Read + Seek>(
    stores: &Stores,
    from: Verified<R>,
    restore: Uuid,
    mut step: impl FnMut(&Totals, &Totals),
) -> Result<(), LoadError> {
    let (backup, at) = (from.head().id, from.head().at);
    begin(stores, backup).await?;
    let (mut from, whole) = from.read()?;
    let mut open: Option<Journal<'_>> = None;
    while let Some(record) = from.next()? {
        match (record, open.as_mut()) {
            (Record::Entity { entity, upto }, before) => {
                if let Some(journal) = before {
                    journal.finish().await?;
                }
                open = Some(Journal::open(stores, entity, upto).await?);
            }
            (Record::Entry(entry), Some(journal)) => journal.entry(entry).await?,
            (Record::Snapshot(snapshot), Some(journal)) => journal.snapshot(snapshot).await?,
            (Record::Wake(due, kind), Some(journal)) => {
                journal.wake.push(WakeChange::Insert { due, kind });
            }
            // A list is repaired by its entity, so a row before the last entries does no harm.
            (Record::Task(row), _) => stores.projections.put_task(row).await?,
            (Record::Row(row), _) => put_row(stores, row).await?,
            (Record::Blob(bytes), _) => _ = stores.blobs.put(bytes).await?,
            (Record::DeadLetter(letter), _) => stores.dead_letters.put(letter).await?,
            (Record::Head(_) | Record::Entry(_) | Record::Snapshot(_) | Record::Wake(..), _) => {
                let what = "a record stands where it cannot";
                return Err(FileError::Damaged { at: from.totals().bytes, what }.into());
            }
        }
        step(from.totals(), &whole);
    }
    if let Some(mut journal) = open {
        journal.finish().await?;
    }
    let directory = stores.directory.as_ref();
    if let Some((row, Mark::Half { .. })) = Mark::read(directory).await.map_err(LoadError::Mark)? {
        Mark::Done(Restored { backup, restore, at }).write(directory, Some(&row)).await?;
    }
    Ok(())
}

/// Whether this backup may be written into the store: it is empty, or half restored from it.
/// Changes nothing; [`load`] looks again.
///
/// # Errors
/// See [`LoadError`].
pub async fn may_load(stores: &Stores, backup: Uuid) -> Result<(), LoadError> {
    is_begun(stores, backup).await.map(drop)
}

async fn is_begun(stores: &Stores, backup: Uuid) -> Result<bool, LoadError> {
    match Mark::read(stores.directory.as_ref()).await.map_err(LoadError::Mark)? {
        Some((_, Mark::Half { backup: begun })) if begun == backup => return Ok(true),
        Some((_, Mark::Half { backup })) => return Err(LoadError::Other(backup)),
        Some((_, Mark::Done(_))) | None => {}
    }
    let found = contents(stores).await?;
    if found.is_empty() { Ok(false) } else { Err(LoadError::NotEmpty(found)) }
}

/// Marks the store as half restored from this backup if it may be written into it: from here on
/// no node begins to work on it. [`load`] does the same first; who has to look around between the
/// mark and the first write calls this before.
///
/// # Errors
/// See [`LoadError`]. `NotEmpty` and `Other` changed nothing.
pub async fn begin(stores: &Stores, backup: Uuid) -> Result<(), LoadError> {
    if !is_begun(stores, backup).await? {
        Mark::Half { backup }.write(stores.directory.as_ref(), None).await?;
    }
    Ok(())
}

/// Names of what there is.
async fn contents(stores: &Stores) -> Result<Vec<&'static str>, ReadError> {
    let mut found = Vec::new();
    if !stores.inventory.entities(None, 1).await?.is_empty() {
        found.push("tasks, resources or devices");
    }
    for code in 0..=u8::MAX {
        let Some(table) = DirectoryTable::from_code(code) else { continue };
        if !stores.directory.list(table, None, None, 1).await?.is_empty() {
            found.push(name(table));
        }
    }
    if !stores.inventory.blobs(None, 1).await?.is_empty() {
        found.push("blobs");
    }
    if !stores.dead_letters.list(None, 1).await?.is_empty() {
        found.push("dead letters");
    }
    Ok(found)
}

const fn name(table: DirectoryTable) -> &'static str {
    match table {
        DirectoryTable::User => "users",
        DirectoryTable::UserName => "user names",
        DirectoryTable::ApiKey => "API keys",
        DirectoryTable::Session => "logins",
        DirectoryTable::OneUse => "one-use tokens",
        DirectoryTable::Setting => "settings",
        DirectoryTable::Membership => "memberships",
        DirectoryTable::Audit => "an audit log",
        DirectoryTable::Device => "devices",
        DirectoryTable::Container => "containers",
        DirectoryTable::GitToken => "git tokens",
    }
}

async fn put_row(stores: &Stores, row: DirectoryRow) -> Result<(), LoadError> {
    let directory = &stores.directory;
    let DirectoryRow { table, key, owner, body, .. } = row;
    let mut write = RowWrite::insert(table, key.clone(), body.clone());
    write.owner = owner;
    match directory.compare_and_set(write).await {
        Ok(_) => Ok(()),
        // An earlier run of this restore may have written it.
        Err(CasError::Conflict { .. } | CasError::OutcomeUnknown { .. }) => {
            match directory.get(table, &key).await? {
                Some(found) if found.body == body && found.owner == owner => Ok(()),
                Some(_) => Err(LoadError::Differs { what: format!("a row of {}", name(table)) }),
                None => Err(LoadError::Write(crate::cause("a row was not written"))),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// One journal while it is written.
struct Journal<'a> {
    stores: &'a Stores,
    entity: EntityId,
    /// Where its snapshot ends.
    upto: Seq,
    at: Opened,
    /// The end of what is written.
    head: Seq,
    /// The end of the snapshot that is written, an empty one perhaps.
    snapped: Seq,
    unsnapped_bytes: usize,
    batch: Vec<Entry>,
    batch_bytes: usize,
    wake: Vec<WakeChange>,
}

impl<'a> Journal<'a> {
    async fn open(stores: &'a Stores, entity: EntityId, upto: Seq) -> Result<Self, LoadError> {
        let at = stores.journal.open(entity, stores.boot_epoch).await?;
        let snapped = at.snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto);
        let head = at.head;
        let (batch, wake) = (Vec::new(), Vec::new());
        let (unsnapped_bytes, batch_bytes) = (0, 0);
        Ok(Self {
            stores,
            entity,
            upto,
            at,
            head,
            snapped,
            unsnapped_bytes,
            batch,
            batch_bytes,
            wake,
        })
    }

    async fn entry(&mut self, entry: Entry) -> Result<(), LoadError> {
        if entry.seq <= self.head {
            return Ok(()); // From an earlier run.
        }
        let bytes = entry.body.len();
        if self.batch.len() >= APPEND_ENTRIES || self.batch_bytes + bytes > APPEND_BYTES {
            self.flush().await?;
        }
        self.batch_bytes += bytes;
        self.batch.push(entry);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LoadError> {
        let batch = std::mem::take(&mut self.batch);
        let Some((first, last)) = batch.first().zip(batch.last()).map(|(a, b)| (a.seq, b.seq))
        else {
            return Ok(());
        };
        self.stores.journal.append(&self.at, first, batch, Vec::new()).await?;
        self.unsnapped_bytes += std::mem::take(&mut self.batch_bytes);
        self.head = last;
        let many = last.0 - self.snapped.0 >= STEP_ENTRIES || self.unsnapped_bytes >= STEP_BYTES;
        if many && last < self.upto {
            // Nobody reads this one: nodes refuse the store until the real one is there.
            self.stores.journal.snapshot(&self.at, last, Bytes::new()).await?;
            (self.snapped, self.unsnapped_bytes) = (last, 0);
        }
        Ok(())
    }

    async fn snapshot(&mut self, snapshot: Snapshot) -> Result<(), LoadError> {
        self.flush().await?;
        let upto = snapshot.upto;
        if self.snapped >= upto {
            return Ok(()); // From an earlier run.
        }
        if self.head == Seq::ZERO {
            self.stores.inventory.begin_at(&self.at, snapshot).await?;
            self.at = self.stores.journal.open(self.entity, self.stores.boot_epoch).await?;
            self.head = self.at.head;
        } else {
            self.stores.journal.snapshot(&self.at, upto, snapshot.state).await?;
        }
        (self.snapped, self.unsnapped_bytes) = (upto, 0);
        if self.head < upto {
            return Err(LoadError::Differs { what: format!("the journal of {}", self.entity) });
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), LoadError> {
        self.flush().await?;
        let rows = std::mem::take(&mut self.wake);
        for rows in rows.chunks(WAKE_ROWS) {
            let next = self.head.next();
            self.stores.journal.append(&self.at, next, Vec::new(), rows.to_vec()).await?;
        }
        Ok(())
    }
}
