//! Rows of the journal: writing, reading, checking.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use troupe_store::{Activation, AppendError, CorruptPart, Entry, effective::Starts};
use troupe_types::{EntityId, Epoch, Fence, FrameSeq, Seq};

use super::key;
use crate::{
    ScyllaStore, checksum,
    cql::{int, uint},
    error::Failed,
};

/// Entries of one batch when rows are written again or archived.
const BATCH_ROWS_MAX: usize = 128;
/// Bytes of one such batch, about.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What conditional updates guard, one per entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statics {
    pub(crate) epoch: Epoch,
    pub(crate) fence: Fence,
    pub(crate) starts: Starts,
    pub(crate) snapshot_seq: Seq,
    pub(super) snapshot_fence: Fence,
}

type StaticsRow = (Option<i64>, Option<i64>, Option<BTreeMap<i64, i64>>, Option<i64>, Option<i64>);

/// A row as it lies there; the checksum is looked at only if the row counts.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    entry: Entry,
    append_last: Seq,
    crc: i32,
}

type StoredRow = (i64, i64, i64, i64, i64, i32, Option<Bytes>);

impl Stored {
    /// The last entry of the append that it came with.
    pub(crate) fn append_last(&self) -> Seq {
        self.append_last
    }

    pub(crate) fn check(self, entity: EntityId) -> Result<Entry, CorruptPart> {
        checked(entity, self.entry, self.crc)
    }
}

pub(super) fn checked(entity: EntityId, entry: Entry, crc: i32) -> Result<Entry, CorruptPart> {
    if checksum::of_entry(entity, &entry) == crc {
        Ok(entry)
    } else {
        Err(CorruptPart::Entry(entry.seq))
    }
}

pub(super) fn to_entry(seq: i64, first_frame: i64, frames: i64, body: Option<Bytes>) -> Entry {
    Entry {
        seq: Seq(uint(seq)),
        first_frame: FrameSeq(uint(first_frame)),
        frames: u32::try_from(frames).unwrap_or(u32::MAX),
        // A page is one piece of memory; a body that is kept must not keep all of it.
        body: body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(&body)),
    }
}

/// Runs of rows that are small enough for one batch.
pub(super) fn batches<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut all = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (n, row) in rows.iter().enumerate() {
        if n > start && (n - start >= BATCH_ROWS_MAX || size + bytes(row) > BATCH_BYTES_MAX) {
            all.push(&rows[start..n]);
            (start, size) = (n, 0);
        }
        size += bytes(row);
    }
    if start < rows.len() {
        all.push(&rows[start..]);
    }
    all
}

impl ScyllaStore {
    pub(crate) async fn statics(
        &self,
        entity: EntityId,
        serial: bool,
    ) -> Result<Option<Statics>, Failed> {
        let statements = self.statements();
        let read = if serial { &statements.statics_serial } else { &statements.statics };
        let row: Option<StaticsRow> = self.cql().row(read, key(entity)).await?;
        // Rows of a fenced writer alone make no entity.
        let Some((Some(epoch), Some(fence), starts, upto, by)) = row else { return Ok(None) };
        let starts = starts.unwrap_or_default();
        let pair = |(fence, start)| (Fence(uint(fence)), Seq(uint(start)));
        Ok(Some(Statics {
            epoch: Epoch(uint(epoch)),
            fence: Fence(uint(fence)),
            starts: starts.into_iter().map(pair).collect(),
            snapshot_seq: Seq(upto.map_or(0, uint)),
            snapshot_fence: Fence(by.map_or(0, uint)),
        }))
    }

    /// All rows in `above+1..=upto`, of any fence.
    pub(crate) async fn rows_between(
        &self,
        entity: EntityId,
        above: Seq,
        upto: Seq,
    ) -> Result<HashMap<(Seq, Fence), Stored>, Failed> {
        let (kind, id) = key(entity);
        let values = (kind, id, int(above.0), int(upto.0));
        let rows: Vec<StoredRow> = self.cql().rows(&self.statements().journal_rows, values).await?;
        let stored = |(seq, tag, last, first_frame, frames, crc, body): StoredRow| {
            let entry = to_entry(seq, first_frame, frames, body);
            let stored = Stored { entry, append_last: Seq(uint(last)), crc };
            ((stored.entry.seq, Fence(uint(tag))), stored)
        };
        Ok(rows.into_iter().map(stored).collect())
    }

    /// One append: whole or not at all at each replica.
    pub(super) async fn insert_rows(
        &self,
        at: &Activation,
        entries: &[Entry],
    ) -> Result<(), AppendError> {
        let Some(last) = entries.last() else { return Ok(()) };
        let (entity, fence) = (at.entity(), at.fence());
        let (kind, id) = key(entity);
        let row = |entry: &Entry| {
            (
                kind,
                id,
                int(entry.seq.0),
                int(fence.0),
                int(last.seq.0),
                int(entry.first_frame.0),
                i64::from(entry.frames),
                checksum::of_entry(entity, entry),
                entry.body.clone(),
            )
        };
        let rows: Vec<_> = entries.iter().map(row).collect();
        Ok(self.cql().write_all(&self.statements().journal_insert, &rows).await?)
    }

    /// Writes the rows of the last fence of a log as they are, so that what one replica alone
    /// has cannot vanish any more.
    pub(super) async fn write_again(
        &self,
        entity: EntityId,
        log: &[(Fence, Stored)],
    ) -> Result<(), Failed> {
        let Some((last, _)) = log.last() else { return Ok(()) };
        let (kind, id) = key(entity);
        let rows: Vec<_> = log.iter().filter(|(fence, _)| fence == last).collect();
        for batch in batches(&rows, |(_, row)| row.entry.body.len()) {
            let row = |(fence, row): &&(Fence, Stored)| {
                (
                    kind,
                    id,
                    int(row.entry.seq.0),
                    int(fence.0),
                    int(row.append_last.0),
                    int(row.entry.first_frame.0),
                    i64::from(row.entry.frames),
                    row.crc,
                    row.entry.body.clone(),
                )
            };
            let values: Vec<_> = batch.iter().map(row).collect();
            self.cql().write_all(&self.statements().journal_insert, &values).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_row_once_and_not_too_many() {
        for sizes in [vec![], vec![1; 1000], vec![BATCH_BYTES_MAX; 3], vec![300_000; 10]] {
            let batches = batches(&sizes, |size| *size);
            assert_eq!(batches.concat(), sizes);
            for batch in batches {
                assert!(!batch.is_empty() && batch.len() <= BATCH_ROWS_MAX);
                assert!(batch.len() == 1 || batch.iter().sum::<usize>() <= BATCH_BYTES_MAX);
            }
        }
    }
}
