//! Recent entries: a table in the order of commits, and where each entity's rows are in it.
//!
//! A row in the order of (entity, seq) costs a page of its own when a thousand entities append
//! in turn; in the order of commits a page takes a dozen. So entries go to `recent` first, and
//! whole runs of one entity are copied to `journal` once `recent` has grown: few pages again.
//! Rows are only ever added at the end of `recent` and deleted at its start.
//!
//! Invariants:
//! - Of one entity all rows in `journal` are older than all rows that count in `recent`. A row
//!   there counts if it is above the last one in `journal`, and above what was trimmed.
//! - The index holds the rows that count, as the last commit left them. A commit after which a
//!   row no longer counts raises the era: a reader whose transaction is older begins again.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, params};
use troupe_store::Entry;
use troupe_types::{EntityId, EntityKind, Seq, Uuid};

use crate::{
    checksum,
    error::ReadFailure,
    journal::{int, uint},
};

/// Bytes of bodies in `recent` from which on rows move.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Rows that one transaction moves, unless it adds more than half as many itself.
const MOVE_ROWS: usize = 256;
/// Bytes that one transaction moves, unless it adds more than half as many itself.
const MOVE_BYTES: usize = 256 * 1024;
/// Rows that one transaction deletes, unless it adds more than a quarter as many itself.
const DELETE_ROWS: usize = 1_024;
/// How often a reader begins again before it gives up.
const RETRIES_MAX: usize = 10_000;

/// Where recent rows are. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    index: Arc<Mutex<Index>>,
    /// Rows in `recent` from which on rows move.
    rows_max: usize,
}

#[derive(Debug, Default)]
struct Index {
    era: i64,
    next_id: i64,
    /// The first row of the table, whether it counts or not.
    start: i64,
    rows: usize,
    bytes: usize,
    entities: HashMap<EntityId, Run>,
    /// The first row of each entity: whose rows have been here longest.
    oldest: BTreeMap<i64, EntityId>,
}

/// The recent rows of one entity.
#[derive(Clone, Debug)]
struct Run {
    first: Seq,
    /// Row and size of each entry from `first` on.
    rows: VecDeque<(i64, u32)>,
    /// The entry that is not where it should be, if the table is damaged. What comes behind it
    /// is kept and moves along, but nobody opens the journal.
    missing: Option<Seq>,
}

impl Index {
    /// Adds a row. Its run begins at `expected` if it is the first one.
    fn add(&mut self, entity: EntityId, seq: Seq, expected: Seq, id: i64, bytes: u32) {
        let run = self.entities.entry(entity).or_insert_with(|| {
            self.oldest.insert(id, entity);
            Run { first: expected, rows: VecDeque::new(), missing: None }
        });
        let next = run.first.plus(run.rows.len() as u64);
        if seq != next {
            run.missing.get_or_insert(next);
        }
        run.rows.push_back((id, bytes));
        self.rows += 1;
        self.bytes += bytes as usize;
    }

    /// The entity's rows up to `upto` count no longer.
    fn remove(&mut self, entity: EntityId, upto: Seq) {
        let Some(run) = self.entities.get_mut(&entity) else { return };
        if let Some((id, _)) = run.rows.front() {
            self.oldest.remove(id);
        }
        while run.first <= upto
            && let Some((_, bytes)) = run.rows.pop_front()
        {
            run.first = run.first.next();
            self.rows -= 1;
            self.bytes -= bytes as usize;
        }
        match run.rows.front() {
            Some((id, _)) => _ = self.oldest.insert(*id, entity),
            None => _ = self.entities.remove(&entity),
        }
    }

    /// What to copy: runs from their start, those that have been here longest first.
    fn victims(&self, mut rows: usize, mut bytes: usize) -> Vec<(EntityId, Seq, Vec<i64>)> {
        let mut victims = Vec::new();
        for entity in self.oldest.values() {
            let Some(run) = self.entities.get(entity) else { continue };
            let mut ids = Vec::new();
            for (id, size) in &run.rows {
                if rows == 0 || bytes == 0 {
                    break;
                }
                (rows, bytes) = (rows - 1, bytes.saturating_sub(*size as usize + 64));
                ids.push(*id);
            }
            if ids.is_empty() {
                break;
            }
            let last = Seq(run.first.0 + ids.len() as u64 - 1);
            victims.push((*entity, last, ids));
        }
        victims
    }

    /// The first row that counts; all before it may be deleted.
    fn first_needed(&self) -> i64 {
        self.oldest.keys().next().copied().unwrap_or(self.next_id)
    }
}

/// The entry up to which an entity's rows in `recent` no longer count.
fn base_of(db: &Connection, entity: EntityId) -> rusqlite::Result<Seq> {
    let key = params![entity.kind.code(), entity.id.as_bytes()];
    let mut read = db.prepare_cached(
        "SELECT coalesce(max(seq), 0) FROM journal WHERE kind = ?1 AND entity = ?2",
    )?;
    let settled: i64 = read.query_row(key, |row| row.get(0))?;
    if entity.kind.archives() {
        return Ok(Seq(uint(settled)));
    }
    let mut read = db.prepare_cached(
        "SELECT coalesce(max(upto), 0) FROM snapshot WHERE kind = ?1 AND entity = ?2",
    )?;
    let trimmed: i64 = read.query_row(key, |row| row.get(0))?;
    Ok(Seq(uint(settled.max(trimmed))))
}

impl Recent {
    pub(crate) fn new(rows_max: usize) -> Self {
        Self { index: Arc::default(), rows_max }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads where everything is, at the start and whenever a commit's outcome was unknown.
    pub(crate) fn load(&self, db: &Connection) -> rusqlite::Result<()> {
        let era = "SELECT value FROM meta WHERE key = 'era'";
        let mut index = Index { era: db.query_row(era, [], |row| row.get(0))?, ..Index::default() };
        let mut read =
            db.prepare("SELECT id, kind, entity, seq, length(body) FROM recent ORDER BY id")?;
        let mut rows = read.query([])?;
        let (mut bases, mut start) = (HashMap::new(), None);
        while let Some(row) = rows.next()? {
            let (id, code): (i64, u8) = (row.get(0)?, row.get(1)?);
            let kind = EntityKind::from_code(code);
            let kind = kind.ok_or(rusqlite::Error::IntegralValueOutOfRange(1, code.into()))?;
            let entity = EntityId { kind, id: Uuid::from_bytes(row.get(2)?) };
            start.get_or_insert(id);
            index.next_id = id + 1;
            let base = match bases.get(&entity) {
                Some(base) => *base,
                None => *bases.entry(entity).or_insert(base_of(db, entity)?),
            };
            let seq = Seq(uint(row.get(3)?));
            if seq > base {
                index.add(entity, seq, base.next(), id, row.get(4)?);
            }
        }
        index.start = start.unwrap_or(index.next_id);
        *self.lock() = index;
        Ok(())
    }

    /// Runs `read` in a read transaction together with where `entity`'s recent rows are in it.
    pub(crate) fn read<T>(
        &self,
        db: &Connection,
        entity: EntityId,
        read: impl Fn(&Connection, &RecentRows) -> Result<T, ReadFailure>,
    ) -> Result<T, ReadFailure> {
        for _ in 0..RETRIES_MAX {
            db.prepare_cached("BEGIN")?.execute([])?;
            let mut era = db.prepare_cached("SELECT value FROM meta WHERE key = 'era'")?;
            let era: i64 = era.query_row([], |row| row.get(0))?;
            let outcome = self.rows_at(era, entity).map(|rows| read(db, &rows));
            db.prepare_cached("COMMIT")?.execute([])?;
            match outcome {
                Some(outcome) => return outcome,
                None => std::thread::yield_now(),
            }
        }
        Err(ReadFailure::Refused(troupe_store::cause("rows move faster than they can be read")))
    }

    fn rows_at(&self, era: i64, entity: EntityId) -> Option<RecentRows> {
        let index = self.lock();
        if index.era != era {
            return None;
        }
        let none = RecentRows { first: Seq(u64::MAX), ids: Vec::new(), missing: None };
        Some(index.entities.get(&entity).map_or(none, |run| RecentRows {
            first: run.first,
            ids: run.rows.iter().map(|(id, _)| *id).collect(),
            missing: run.missing,
        }))
    }
}

/// Where one entity's recent rows are.
#[derive(Debug)]
pub(crate) struct RecentRows {
    /// The first one; everything below is in `journal`.
    pub(crate) first: Seq,
    ids: Vec<i64>,
    missing: Option<Seq>,
}

impl RecentRows {
    /// Whether an entry that is nowhere should be somewhere: recent ones stand behind it.
    pub(crate) fn is_missing(&self, seq: Seq) -> bool {
        (seq < self.first && !self.ids.is_empty()) || self.missing == Some(seq)
    }

    /// The row of an entry, if it is a recent one.
    pub(crate) fn id(&self, seq: Seq) -> Option<i64> {
        if self.missing.is_some_and(|missing| seq >= missing) {
            return None;
        }
        let place = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        self.ids.get(place).copied()
    }
}

/// A write transaction, and what it will change in the index if it commits.
pub(crate) struct Tx<'a> {
    pub(crate) db: &'a Connection,
    recent: &'a Recent,
    next_id: i64,
    added: Vec<(EntityId, Seq, i64, u32)>,
    added_bytes: usize,
    removed: Vec<(EntityId, Seq)>,
    /// The new start of the table, if rows were deleted.
    start: Option<i64>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(db: &'a Connection, recent: &'a Recent) -> Self {
        let next_id = recent.lock().next_id;
        let (added, removed) = (Vec::new(), Vec::new());
        Self { db, recent, next_id, added, added_bytes: 0, removed, start: None }
    }

    /// Adds an entry.
    pub(crate) fn insert(&mut self, entity: EntityId, entry: &Entry) -> rusqlite::Result<()> {
        let mut insert = self.db.prepare_cached(
            "INSERT INTO recent (id, kind, entity, seq, first_frame, frames, crc, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert.execute(params![
            self.next_id,
            entity.kind.code(),
            entity.id.as_bytes(),
            int(entry.seq.0),
            int(entry.first_frame.0),
            entry.frames,
            checksum::of_entry(entity, entry),
            entry.body.as_ref(),
        ])?;
        let bytes = u32::try_from(entry.body.len()).unwrap_or(u32::MAX);
        self.added.push((entity, entry.seq, self.next_id, bytes));
        self.added_bytes += entry.body.len();
        self.next_id += 1;
        Ok(())
    }

    /// Removes all entries up to `upto`; those in `recent` count no longer, because the
    /// snapshot of a kind without an archive says so.
    pub(crate) fn trim(&mut self, entity: EntityId, upto: Seq) -> rusqlite::Result<()> {
        let mut trim = self
            .db
            .prepare_cached("DELETE FROM journal WHERE kind = ?1 AND entity = ?2 AND seq <= ?3")?;
        trim.execute(params![entity.kind.code(), entity.id.as_bytes(), int(upto.0)])?;
        self.removed.push((entity, upto));
        Ok(())
    }

    /// Last of all: copies rows if there are too many, deletes those that do not count any
    /// more, and raises the era if there are such.
    pub(crate) fn finish(&mut self) -> rusqlite::Result<()> {
        // What was trimmed in this transaction is still in the index: not both at once.
        if self.removed.is_empty() {
            self.settle()?;
        }
        if !self.removed.is_empty() {
            let raise = "UPDATE meta SET value = value + 1 WHERE key = 'era'";
            self.db.prepare_cached(raise)?.execute([])?;
        }
        let (start, needed) = {
            let index = self.recent.lock();
            (index.start, index.first_needed())
        };
        let most = DELETE_ROWS.max(self.added.len() * 4);
        let end = needed.min(start.saturating_add(i64::try_from(most).unwrap_or(i64::MAX)));
        if start < end {
            let delete = "DELETE FROM recent WHERE id >= ?1 AND id < ?2";
            self.db.prepare_cached(delete)?.execute([start, end])?;
            self.start = Some(end);
        }
        Ok(())
    }

    fn settle(&mut self) -> rusqlite::Result<()> {
        let victims = {
            let index = self.recent.lock();
            if index.rows <= self.recent.rows_max && index.bytes <= BYTES_MAX {
                return Ok(());
            }
            let rows = MOVE_ROWS.min(self.recent.rows_max).max(self.added.len() * 2);
            index.victims(rows, MOVE_BYTES.max(self.added_bytes * 2))
        };
        let mut copy = self.db.prepare_cached(
            "INSERT OR IGNORE INTO journal (kind, entity, seq, first_frame, frames, crc, body)
             SELECT kind, entity, seq, first_frame, frames, crc, body FROM recent WHERE id = ?1",
        )?;
        for (entity, last, ids) in victims {
            for id in &ids {
                copy.execute([id])?;
            }
            self.removed.push((entity, last));
        }
        Ok(())
    }

    /// It is committed: from here on readers look for rows where they are now.
    pub(crate) fn committed(self) {
        let mut index = self.recent.lock();
        index.era += i64::from(!self.removed.is_empty());
        for (entity, upto) in self.removed {
            index.remove(entity, upto);
        }
        for (entity, seq, id, bytes) in self.added {
            index.add(entity, seq, seq, id, bytes);
        }
        index.next_id = self.next_id;
        index.start = self.start.unwrap_or(index.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(n: u128) -> EntityId {
        EntityId { kind: EntityKind::Task, id: Uuid::from_u128(n) }
    }

    #[test]
    fn what_was_here_longest_goes_first_and_runs_stay_whole() {
        let mut index = Index::default();
        for n in 0..30u32 {
            let (which, seq) = (u128::from(n % 3), Seq(u64::from(n / 3) + 1));
            index.add(entity(which), seq, seq, n.into(), 10);
        }
        let victims = index.victims(15, 1_000_000);
        let sizes: Vec<_> =
            victims.iter().map(|(id, last, ids)| (*id, last.0, ids.len())).collect();
        assert_eq!(sizes, [(entity(0), 10, 10), (entity(1), 5, 5)]);
        for (id, last, _) in victims {
            index.remove(id, last);
        }
        assert_eq!((index.rows, index.bytes), (15, 150));
        assert_eq!(index.oldest.values().copied().collect::<Vec<_>>(), [entity(2), entity(1)]);
        assert!(!index.entities.contains_key(&entity(0)));
        assert_eq!(index.first_needed(), 2);
        let (next, left) = (&index.entities[&entity(1)], index.victims(1, 1_000));
        assert_eq!((next.first, left[0].0), (Seq(6), entity(2)));
    }
}
