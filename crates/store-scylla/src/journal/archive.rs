//! The archive: entries by number, in buckets that are never rewritten.

use bytes::Bytes;
use troupe_store::{CorruptPart, Entry};
use troupe_types::{EntityId, FrameSeq, Seq};

use super::{
    key,
    rows::{checked, to_entry},
};
use crate::{
    ScyllaStore,
    cql::{int, uint},
    error::Unread,
};

/// Entries of one bucket, so of one partition.
const BUCKET_ENTRIES: u64 = 256;

type ArchivedRow = (i64, i64, i64, i32, Option<Bytes>);

pub(super) fn bucket(seq: Seq) -> i64 {
    int(seq.0 / BUCKET_ENTRIES)
}

fn missing(seq: Seq) -> Unread {
    Unread::Corrupt(CorruptPart::Entry(seq))
}

impl ScyllaStore {
    /// The end of the archive, zero if the kind keeps none.
    pub(super) async fn archived_upto(&self, entity: EntityId) -> Result<Seq, Unread> {
        if !entity.kind.archives() {
            return Ok(Seq::ZERO);
        }
        let found = self.statics(entity, false).await?;
        Ok(found.map_or(Seq::ZERO, |found| found.snapshot_seq))
    }

    /// Entries `from..=upto`, those without frames only if `all`, bucket by bucket, until
    /// `bytes_max` would be exceeded.
    pub(super) async fn archived(
        &self,
        entity: EntityId,
        from: Seq,
        upto: Seq,
        bytes_max: usize,
        all: bool,
    ) -> Result<Vec<Entry>, Unread> {
        let (kind, id) = key(entity);
        let (mut found, mut bytes, mut next) = (Vec::new(), 0usize, from);
        let (mut taken, mut full) = (0usize, false);
        while next <= upto && !full {
            let end = upto.0.min((next.0 / BUCKET_ENTRIES + 1) * BUCKET_ENTRIES - 1);
            let values = (kind, id, bucket(next), int(next.0), int(end));
            let fits = |row: &ArchivedRow| {
                if all || row.2 > 0 {
                    bytes = bytes.saturating_add(row.4.as_ref().map_or(0, Bytes::len));
                    full = bytes > bytes_max && taken > 0;
                    taken += 1;
                }
                !full
            };
            let read = &self.statements().archive_rows;
            let rows: Vec<ArchivedRow> = self.cql().rows_while(read, values, fits).await?;
            for (seq, first_frame, frames, crc, body) in rows {
                let entry = to_entry(seq, first_frame, frames, body);
                if entry.seq != next {
                    return Err(missing(next));
                }
                let entry = checked(entity, entry, crc).map_err(Unread::Corrupt)?;
                next = next.next();
                if all || entry.frames > 0 {
                    found.push(entry);
                }
            }
            if !full && next.0 <= end {
                return Err(missing(next));
            }
        }
        Ok(found)
    }

    pub(super) async fn archived_frames(
        &self,
        entity: EntityId,
        from: FrameSeq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, Unread> {
        let upto = self.archived_upto(entity).await?;
        // By bisection: frames rise with entries, and the archive has no gaps.
        let (mut low, mut high) = (1, upto.0 + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.next_frame(entity, Seq(middle)).await? > from {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        self.archived(entity, Seq(low), upto, bytes_max, false).await
    }

    async fn next_frame(&self, entity: EntityId, seq: Seq) -> Result<FrameSeq, Unread> {
        let (kind, id) = key(entity);
        let values = (kind, id, bucket(seq), int(seq.0));
        let row: Option<(i64, i64)> =
            self.cql().row(&self.statements().archive_frame, values).await?;
        let (first, frames) = row.ok_or_else(|| missing(seq))?;
        Ok(FrameSeq(uint(first.saturating_add(frames))))
    }
}
