//! Everything beside the journals.

use std::cmp::Reverse;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_types::{EntityId, EntityKind, Fence, Seq, ShardId, TaskId, Timestamp, UserId, Uuid};

use super::{
    MemoryStore, World,
    replicas::{Cell, Missed},
};
use crate::{
    BLOB_BYTES_MAX, BlobHash, Blobs, CasError, Change, ChangeCursor, Changes, CorruptPart,
    DeadLetter, DeadLetters, Directory, DirectoryRow, DirectoryTable, InvalidWrite, Opened,
    Projections, ReadError, RowWrite, TaskCursor, TaskFilter, TaskRow, WakeKind, WakeRow,
    WakeStore, WriteError, cause, dead_letters::fit, directory::check_row, projections::check_task,
    wake::check_remove,
};

fn written(outcome: Result<(), Missed>) -> Result<(), WriteError> {
    let source = cause("no quorum of replicas");
    outcome.map_err(|missed| match missed {
        Missed::Refused => WriteError::Unavailable { source },
        Missed::Unknown => WriteError::OutcomeUnknown { source },
    })
}

fn unread() -> ReadError {
    ReadError::Unavailable { source: cause("no quorum of replicas") }
}

#[async_trait]
impl WakeStore for MemoryStore {
    async fn due(
        &self,
        shards: &[ShardId],
        until: Timestamp,
        after: Option<WakeRow>,
        limit: usize,
    ) -> Result<Vec<WakeRow>, ReadError> {
        let all = wake_key(Timestamp::from_millis(i64::MIN), 0)..=wake_key(until, u16::MAX);
        let mut world = self.world();
        let World { wake, dice, .. } = &mut *world;
        let rows = wake.read(dice, all).ok_or_else(unread)?.into_keys();
        let wanted = |row: &WakeRow| shards.contains(&row.shard) && Some(*row) > after;
        Ok(rows.filter(wanted).take(limit).collect())
    }

    async fn remove(&self, by: &Opened, rows: Vec<WakeRow>) -> Result<(), WriteError> {
        check_remove(by, &rows).map_err(WriteError::Invalid)?;
        let mut world = self.world();
        let stamp = world.stamp();
        let World { wake, dice, .. } = &mut *world;
        let batch = rows.into_iter().map(|row| (row, Cell { stamp, value: None })).collect();
        written(wake.write(dice, &batch))
    }
}

/// A bound of the order of wake rows.
fn wake_key(due: Timestamp, shard: u16) -> WakeRow {
    let (id, fence) = (if shard == 0 { Uuid::nil() } else { Uuid::max() }, Fence(u64::MAX));
    let entity = EntityId { kind: EntityKind::KnowledgeBase, id };
    WakeRow { due, shard: ShardId(shard), kind: WakeKind::Projection, entity, fence }
}

impl MemoryStore {
    /// A conditional update of a directory row: `change` gives the new row, or `None` to
    /// remove it.
    fn cas(
        &self,
        table: DirectoryTable,
        key: &Bytes,
        expected: u64,
        announce: bool,
        change: impl FnOnce(Option<&DirectoryRow>) -> Option<DirectoryRow>,
    ) -> Result<(), CasError> {
        let source = cause("no quorum of replicas");
        let mut world = self.world();
        let World { directory, dice, changes, .. } = &mut *world;
        if !dice.has_quorum() {
            return Err(CasError::Unavailable { source });
        }
        let unknown = dice.chance(dice.faults.unknown);
        if unknown && dice.chance(0.5) {
            return Err(CasError::OutcomeUnknown { source });
        }
        let place = (table, key.clone());
        let found = directory.get(&place);
        let current = found.map_or(0, |row| row.version);
        if current != expected {
            return Err(CasError::Conflict { current });
        }
        let new = change(found);
        if announce {
            let owner = new.as_ref().or(found).and_then(|row| row.owner);
            changes.push(Change { table, key: key.clone(), owner });
        }
        match new {
            Some(row) => _ = directory.insert(place, row),
            None => _ = directory.remove(&place),
        }
        if unknown { Err(CasError::OutcomeUnknown { source }) } else { Ok(()) }
    }
}

#[async_trait]
impl Directory for MemoryStore {
    async fn get(
        &self,
        table: DirectoryTable,
        key: &[u8],
    ) -> Result<Option<DirectoryRow>, ReadError> {
        let world = self.world();
        if !world.dice.has_quorum() {
            return Err(unread());
        }
        Ok(world.directory.get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    async fn compare_and_set(&self, write: RowWrite) -> Result<u64, CasError> {
        check_row(&write.key, &write.body).map_err(CasError::Invalid)?;
        let RowWrite { table, key, owner, expected, body, announce } = write;
        let version = expected + 1;
        self.cas(table, &key.clone(), expected, announce, |found| {
            let owner = found.map_or(owner, |row| row.owner);
            Some(DirectoryRow { table, key, owner, version, body })
        })?;
        Ok(version)
    }

    async fn remove(
        &self,
        table: DirectoryTable,
        key: &[u8],
        expected: u64,
        announce: bool,
    ) -> Result<(), CasError> {
        if expected == 0 {
            return Err(CasError::Conflict { current: 0 });
        }
        self.cas(table, &Bytes::copy_from_slice(key), expected, announce, |_| None)
    }

    async fn list(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DirectoryRow>, ReadError> {
        let world = self.world();
        if !world.dice.has_quorum() {
            return Err(unread());
        }
        let rows = world.directory.values().filter(|row| {
            row.table == table
                && (owner.is_none() || row.owner == owner)
                && after.is_none_or(|after| row.key.as_ref() > after)
        });
        Ok(rows.take(limit).cloned().collect())
    }

    async fn revocations_since(
        &self,
        cursor: ChangeCursor,
        limit: usize,
    ) -> Result<Changes, ReadError> {
        let world = self.world();
        let start = usize::try_from(cursor.0).unwrap_or(usize::MAX).min(world.changes.len());
        let changes: Vec<_> = world.changes[start..].iter().take(limit).cloned().collect();
        let next = ChangeCursor((start + changes.len()) as u64);
        Ok(Changes { changes, next })
    }

    async fn revocations_now(&self) -> Result<ChangeCursor, ReadError> {
        Ok(ChangeCursor(self.world().changes.len() as u64))
    }
}

/// A write time made of a seq; at one seq a deletion beats the row.
fn stamp(seq: Seq, deletes: bool) -> u64 {
    seq.0.saturating_mul(2) + u64::from(deletes)
}

impl MemoryStore {
    fn tasks_of(&self, owner: UserId, filter: &TaskFilter) -> Result<Vec<TaskRow>, ReadError> {
        let mut world = self.world();
        let World { tasks, dice, .. } = &mut *world;
        let rows = tasks.read(dice, ..).ok_or_else(unread)?.into_values();
        let mut rows: Vec<_> =
            rows.filter(|row| row.owner == owner && filter.admits(row)).collect();
        rows.sort_by_key(|row| Reverse((row.updated_at, row.task)));
        Ok(rows)
    }
}

#[async_trait]
impl Projections for MemoryStore {
    async fn put_task(&self, row: TaskRow) -> Result<(), WriteError> {
        check_task(&row).map_err(WriteError::Invalid)?;
        let mut world = self.world();
        let World { tasks, dice, .. } = &mut *world;
        let cell = (row.task, Cell { stamp: stamp(row.seq, false), value: Some(row) });
        written(tasks.write(dice, &vec![cell]))
    }

    async fn delete_task(&self, _: UserId, task: TaskId, seq: Seq) -> Result<(), WriteError> {
        let mut world = self.world();
        let World { tasks, dice, .. } = &mut *world;
        let cell = (task, Cell { stamp: stamp(seq, true), value: None });
        written(tasks.write(dice, &vec![cell]))
    }

    async fn list_tasks(
        &self,
        owner: UserId,
        filter: &TaskFilter,
        after: Option<TaskCursor>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, ReadError> {
        let mut rows = self.tasks_of(owner, filter)?;
        if let Some(TaskCursor { updated_at, task }) = after {
            rows.retain(|row| (row.updated_at, row.task) < (updated_at, task));
        }
        rows.truncate(limit);
        Ok(rows)
    }

    async fn count_tasks(&self, owner: UserId, filter: &TaskFilter) -> Result<u64, ReadError> {
        Ok(self.tasks_of(owner, filter)?.len() as u64)
    }

    async fn get_tasks(&self, ids: &[TaskId]) -> Result<Vec<TaskRow>, ReadError> {
        let mut world = self.world();
        let World { tasks, dice, .. } = &mut *world;
        let mut found = Vec::new();
        for id in ids {
            found.extend(tasks.read(dice, *id..=*id).ok_or_else(unread)?.into_values());
        }
        Ok(found)
    }
}

#[async_trait]
impl Blobs for MemoryStore {
    async fn put(&self, bytes: Bytes) -> Result<BlobHash, WriteError> {
        let size = bytes.len();
        if size > BLOB_BYTES_MAX {
            let invalid = InvalidWrite::TooLarge { bytes: size, max: BLOB_BYTES_MAX };
            return Err(WriteError::Invalid(invalid));
        }
        let hash = BlobHash::of(&bytes);
        let mut world = self.world();
        let World { blobs, dice, .. } = &mut *world;
        written(blobs.write(dice, &vec![(hash, Cell { stamp: 0, value: Some(bytes) })]))?;
        Ok(hash)
    }

    async fn get(&self, hash: BlobHash) -> Result<Option<Bytes>, ReadError> {
        let mut world = self.world();
        let World { blobs, dice, .. } = &mut *world;
        let found = blobs.read(dice, hash..=hash).ok_or_else(unread)?.into_values().next();
        if found.as_ref().is_some_and(|bytes| BlobHash::of(bytes) != hash) {
            return Err(ReadError::CorruptRow { what: "a blob", part: CorruptPart::Blob });
        }
        Ok(found)
    }

    async fn exists(&self, hash: BlobHash) -> Result<bool, ReadError> {
        Blobs::get(self, hash).await.map(|found| found.is_some())
    }
}

#[async_trait]
impl DeadLetters for MemoryStore {
    async fn put(&self, letter: DeadLetter) -> Result<(), WriteError> {
        let letter = fit(letter)?;
        let mut world = self.world();
        let World { dead_letters, dice, .. } = &mut *world;
        let cell = (letter.id, Cell { stamp: 0, value: Some(letter) });
        written(dead_letters.write(dice, &vec![cell]))
    }

    async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let mut world = self.world();
        let World { dead_letters, dice, .. } = &mut *world;
        let letters = dead_letters.read(dice, ..).ok_or_else(unread)?.into_values();
        Ok(letters.filter(|letter| Some(letter.id) > after).take(limit).collect())
    }

    async fn get(&self, id: Uuid) -> Result<Option<DeadLetter>, ReadError> {
        let mut world = self.world();
        let World { dead_letters, dice, .. } = &mut *world;
        Ok(dead_letters.read(dice, id..=id).ok_or_else(unread)?.into_values().next())
    }

    async fn remove(&self, id: Uuid) -> Result<(), WriteError> {
        let mut world = self.world();
        let World { dead_letters, dice, .. } = &mut *world;
        written(dead_letters.write(dice, &vec![(id, Cell { stamp: 1, value: None })]))
    }
}
