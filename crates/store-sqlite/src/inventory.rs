//! Everything in it, for copies.

use std::{collections::BTreeSet, fs, io, path::Path, sync::Arc};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::task::spawn_blocking;
use troupe_store::{
    AppendError, BlobHash, CorruptPart, Inventory, Opened, Peeked, ReadError, Snapshot, cause,
    effective::Tags,
};
use troupe_types::{EntityId, EntityKind, Seq, TaskId, Uuid};

use crate::{
    SqliteStore, checksum,
    error::{ReadFailure, append_error, entity_read_error, read_error},
    home::Home,
    journal::{int, write_snapshot},
    projections,
    recent::Tx,
    wake,
};

/// The next entity, by a seek behind the last entry that the one before may have: a scan of its
/// entries would read all bodies on the way.
const NEXT_OF_JOURNAL: &str = "SELECT kind, entity FROM journal
     WHERE (kind, entity, seq) > (?1, ?2, 9223372036854775807)
     ORDER BY kind, entity, seq LIMIT 1";
/// Entries in `recent` are few.
const ALL_OF_RECENT: &str =
    "SELECT DISTINCT kind, entity FROM recent WHERE (kind, entity) > (?1, ?2)";
/// An entity without an archive may have a snapshot alone.
const SOME_OF_SNAPSHOTS: &str = "SELECT kind, entity FROM snapshot WHERE (kind, entity) > (?1, ?2)
     ORDER BY kind, entity LIMIT ?3";

type Key = (u8, [u8; 16]);

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok((row.get(0)?, row.get(1)?))
}

/// Entities behind one, in the order of their keys.
fn entities(
    db: &Connection,
    after: Option<EntityId>,
    limit: usize,
) -> Result<Vec<EntityId>, ReadFailure> {
    let (kind, id): Key = after.map_or((0, [0; 16]), |at| (at.kind.code(), *at.id.as_bytes()));
    let mut found = BTreeSet::new();
    let mut some = db.prepare_cached(SOME_OF_SNAPSHOTS)?;
    for row in some.query_map(params![kind, id, int(limit as u64)], key)? {
        found.insert(row?);
    }
    let mut all = db.prepare_cached(ALL_OF_RECENT)?;
    for row in all.query_map(params![kind, id], key)? {
        found.insert(row?);
    }
    let mut next = db.prepare_cached(NEXT_OF_JOURNAL)?;
    let mut last = (kind, id);
    for _ in 0..limit {
        let Some(row) = next.query_row(params![last.0, last.1], key).optional()? else { break };
        found.insert(row);
        last = row;
    }
    let entity = |(kind, id): Key| {
        let kind = EntityKind::from_code(kind).ok_or(ReadFailure::Corrupt(CorruptPart::Row))?;
        Ok(EntityId { kind, id: Uuid::from_bytes(id) })
    };
    found.into_iter().take(limit).map(entity).collect()
}

/// Names behind `after`, shelf by shelf.
fn blobs(home: &Home, after: Option<BlobHash>, limit: usize) -> io::Result<Vec<BlobHash>> {
    let after_name = after.map(|hash| hash.to_string());
    let mut found: Vec<BlobHash> = Vec::new();
    for n in after.map_or(0, |hash| hash.0[0])..=u8::MAX {
        let shelf = format!("{n:02x}");
        let mut names = names_in(&home.blobs().join(&shelf))?;
        names.sort_unstable();
        for rest in names {
            let name = format!("{shelf}{rest}");
            if Some(&name) > after_name.as_ref()
                && let Ok(hash) = name.parse()
            {
                found.push(hash);
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let files = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    files.map(|file| Ok(file?.file_name().to_string_lossy().into_owned())).collect()
}

#[async_trait]
impl Inventory for SqliteStore {
    async fn entities(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> Result<Vec<EntityId>, ReadError> {
        let read = move |db: &Connection| entities(db, after, limit);
        self.inner.readers.read(read).await.map_err(read_error("the journals"))
    }

    /// One read transaction sees all of it at one moment.
    async fn peek(&self, entity: EntityId) -> Result<Option<Peeked>, ReadError> {
        let read = self.read_view(entity, move |view| {
            let snapshot = view.snapshot()?;
            let above = snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto);
            let tail = view.range(above.next(), Seq(u64::MAX), usize::MAX, |_| true)?;
            let wake = wake::of_entity(view.db, entity)?;
            let mut peeked = Peeked { snapshot, tail, wake, task: None };
            if entity.kind == EntityKind::Task {
                let row = projections::get(view.db, TaskId::from_uuid(entity.id))?;
                peeked.task = row.filter(|row| row.seq <= peeked.head());
            }
            Ok((peeked.head() > Seq::ZERO).then_some(peeked))
        });
        read.await.map_err(entity_read_error(entity))
    }

    /// One row per number, and fences live in the process.
    async fn tags(&self, _: EntityId, _: usize) -> Result<Option<Tags>, ReadError> {
        Ok(None)
    }

    async fn blobs(
        &self,
        after: Option<BlobHash>,
        limit: usize,
    ) -> Result<Vec<BlobHash>, ReadError> {
        let home = Arc::clone(&self.inner.home);
        let read = spawn_blocking(move || blobs(&home, after, limit)).await;
        let failed = |source| ReadError::Unavailable { source };
        read.map_err(|e| failed(cause(e)))?.map_err(|e| failed(cause(e)))
    }

    async fn begin_at(&self, at: &Opened, snapshot: Snapshot) -> Result<(), AppendError> {
        self.check_epoch(at)?;
        let (entity, guard) = (at.entity(), at.activation.clone());
        let Snapshot { upto, state } = snapshot;
        let (crc, bytes) = (checksum::of_snapshot(entity, upto, &state), state.len());
        let write = move |tx: &mut Tx<'_>| match guard.check() {
            Ok(()) => write_snapshot(tx, entity, upto, crc, &state).map(Ok),
            Err(e) => Ok(Err(e)),
        };
        let written: Result<Result<(), AppendError>, _> =
            self.inner.writer.write_tx(bytes, write).await;
        written.unwrap_or_else(|failure| Err(append_error(failure, &at.activation)))
    }
}
