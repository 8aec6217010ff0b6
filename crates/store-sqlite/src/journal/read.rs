//! Reading a journal: the snapshot, the live entries, the archive.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use troupe_store::{CorruptPart, Entry, Snapshot, journal::take_bytes};
use troupe_types::{EntityId, FrameSeq, Seq};

use super::{int, uint};
use crate::{checksum, error::ReadFailure, recent::RecentRows};

/// One entity's rows, as one read transaction sees them.
pub(crate) struct View<'a> {
    pub(crate) db: &'a Connection,
    pub(super) recent: &'a RecentRows,
    pub(super) entity: EntityId,
}

fn corrupt(seq: u64) -> ReadFailure {
    ReadFailure::Corrupt(CorruptPart::Entry(Seq(seq)))
}

/// Columns: seq, first_frame, frames, crc, body.
fn to_entry(entity: EntityId, row: &Row<'_>) -> Result<Entry, ReadFailure> {
    let seq = Seq(uint(row.get(0)?));
    let bad = |_| corrupt(seq.0);
    let entry = Entry {
        seq,
        first_frame: FrameSeq(uint(row.get(1).map_err(bad)?)),
        frames: row.get(2).map_err(bad)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(4).map_err(bad)?),
    };
    let crc: u32 = row.get(3).map_err(bad)?;
    if crc == checksum::of_entry(entity, &entry) { Ok(entry) } else { Err(corrupt(seq.0)) }
}

impl View<'_> {
    /// The current snapshot, checked.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, ReadFailure> {
        let mut read = self.db.prepare_cached(
            "SELECT upto, crc, state FROM snapshot WHERE kind = ?1 AND entity = ?2",
        )?;
        let row = |row: &Row<'_>| {
            Ok((Seq(uint(row.get(0)?)), row.get::<_, u32>(1)?, row.get::<_, Vec<u8>>(2)?))
        };
        let key = params![self.entity.kind.code(), self.entity.id.as_bytes()];
        let Some((upto, crc, state)) = read.query_row(key, row).optional()? else {
            return Ok(None);
        };
        if crc != checksum::of_snapshot(self.entity, upto, &state) {
            return Err(ReadFailure::Corrupt(CorruptPart::Snapshot(upto)));
        }
        Ok(Some(Snapshot { upto, state: state.into() }))
    }

    /// The end of the archive, zero if the kind keeps none.
    pub(super) fn archived_upto(&self) -> Result<Seq, ReadFailure> {
        if !self.entity.kind.archives() {
            return Ok(Seq::ZERO);
        }
        let mut read =
            self.db.prepare_cached("SELECT upto FROM snapshot WHERE kind = ?1 AND entity = ?2")?;
        let key = params![self.entity.kind.code(), self.entity.id.as_bytes()];
        let upto = read.query_row(key, |row| row.get(0)).optional()?;
        Ok(Seq(upto.map_or(0, uint)))
    }

    /// Entries `from..=upto`, which must be there without a gap, until `bytes_max` is reached.
    /// `upto` may be beyond the end.
    pub(crate) fn range(
        &self,
        from: Seq,
        upto: Seq,
        bytes_max: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Entry>, ReadFailure> {
        let mut settled = self.db.prepare_cached(
            "SELECT seq, first_frame, frames, crc, body FROM journal
             WHERE kind = ?1 AND entity = ?2 AND seq BETWEEN ?3 AND ?4 ORDER BY seq",
        )?;
        let (kind, id) = (self.entity.kind.code(), self.entity.id.as_bytes());
        let mut rows = settled.query(params![kind, id, int(from.0), int(upto.0)])?;
        let mut recent = self.db.prepare_cached(
            "SELECT seq, first_frame, frames, crc, body FROM recent WHERE id = ?1",
        )?;
        let mut seq = from;
        let mut next = || -> Result<Option<Entry>, ReadFailure> {
            let entry = match rows.next()? {
                Some(row) => to_entry(self.entity, row)?,
                None if seq > upto => return Ok(None),
                None => match self.recent.id(seq) {
                    Some(id) => {
                        let mut rows = recent.query([id])?;
                        to_entry(self.entity, rows.next()?.ok_or_else(|| corrupt(seq.0))?)?
                    }
                    None if self.recent.is_missing(seq) => return Err(corrupt(seq.0)),
                    None => return Ok(None),
                },
            };
            if entry.seq != seq {
                return Err(corrupt(seq.0));
            }
            seq = seq.next();
            Ok(Some(entry))
        };
        let entries = std::iter::from_fn(|| next().transpose());
        take_bytes(entries.filter(|entry| entry.as_ref().map_or(true, &wanted)), bytes_max)
    }

    /// The first entry in the archive that ends behind frame `from`, by bisection: frames rise
    /// with entries, and the archive has no gaps.
    pub(super) fn first_with_frame(
        &self,
        upto: Seq,
        from: FrameSeq,
    ) -> Result<Option<Seq>, ReadFailure> {
        let (mut low, mut high) = (1, upto.0 + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.next_frame(Seq(middle))? > from {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok((low <= upto.0).then_some(Seq(low)))
    }

    fn next_frame(&self, seq: Seq) -> Result<FrameSeq, ReadFailure> {
        let next = |row: &Row<'_>| row.get::<_, i64>(0);
        let found = match self.recent.id(seq) {
            Some(id) => {
                let sql = "SELECT first_frame + frames FROM recent WHERE id = ?1";
                self.db.prepare_cached(sql)?.query_row([id], next).optional()?
            }
            None => {
                let mut read = self.db.prepare_cached(
                    "SELECT first_frame + frames FROM journal
                     WHERE kind = ?1 AND entity = ?2 AND seq = ?3",
                )?;
                let (kind, id) = (self.entity.kind.code(), self.entity.id.as_bytes());
                read.query_row(params![kind, id, int(seq.0)], next).optional()?
            }
        };
        Ok(FrameSeq(uint(found.ok_or_else(|| corrupt(seq.0))?)))
    }
}
