//! Snapshots: archive, parts, barrier, switch, trim.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use troupe_store::{
    Activation, AppendError, Entry,
    effective::{effective_log, prune},
};
use troupe_types::{EntityId, Fence, Seq};

use super::{
    LWT_TRIES,
    archive::bucket,
    key,
    rows::{Statics, batches},
    unknown,
};
use crate::{
    ScyllaStore, checksum,
    cql::{Lwt, int, uint},
    error::Unread,
};

/// Bytes of one part of a snapshot.
const PART_BYTES: usize = 512 * 1024;
/// Parts that are written at once.
const PARTS_AT_ONCE: usize = 4;

type Part = (i32, i32, i32, Option<Bytes>);

/// An archived entry, as it is bound.
type ArchiveRow = (i8, troupe_types::Uuid, i64, i64, i64, i64, i32, Bytes);

impl ScyllaStore {
    pub(super) async fn write_snapshot(
        &self,
        at: &Activation,
        upto: Seq,
        state: Bytes,
    ) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        let fenced = || AppendError::Fenced { entity, fence };
        let found = self.statics(entity, false).await?.ok_or_else(fenced)?;
        if found.fence != fence {
            return Err(fenced());
        }
        if upto <= found.snapshot_seq {
            return Ok(());
        }
        if entity.kind.archives() {
            self.archive(entity, &found, upto).await?;
        }
        self.write_parts(entity, upto, fence, &state).await?;
        self.commit_barrier(at).await?;
        self.switch(at, &found, upto).await?;
        self.trim(entity, upto).await;
        Ok(())
    }

    /// Begins a journal without entries at a snapshot.
    pub(crate) async fn begin_journal_at(
        &self,
        at: &Activation,
        upto: Seq,
        state: Bytes,
    ) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        if !at.is_claimed() {
            self.create(at).await?;
            at.set_claimed();
        }
        let fenced = || AppendError::Fenced { entity, fence };
        let found = self.statics(entity, false).await?.ok_or_else(fenced)?;
        self.write_parts(entity, upto, fence, &state).await?;
        self.commit_barrier(at).await?;
        self.switch(at, &found, upto).await
    }

    /// Copies what the snapshot covers to where it is never changed again.
    async fn archive(
        &self,
        entity: EntityId,
        found: &Statics,
        upto: Seq,
    ) -> Result<(), AppendError> {
        let above = found.snapshot_seq;
        let rows = self.rows_between(entity, above, upto).await?;
        let log = effective_log(rows, &found.starts, above);
        if log.len() as u64 != upto.0 - above.0 {
            // Committed entries cannot be missing; another snapshot has trimmed them just now.
            return Err(unknown("the entries of the snapshot are being trimmed"));
        }
        let entries: Result<Vec<Entry>, _> =
            log.into_iter().map(|(_, row)| row.check(entity)).collect();
        let entries = entries.map_err(|part| {
            tracing::error!(%entity, %part, "a committed entry is damaged");
            unknown("a committed entry is damaged")
        })?;
        for of_bucket in entries.chunk_by(|a, b| bucket(a.seq) == bucket(b.seq)) {
            for batch in batches(of_bucket, |entry| entry.body.len()) {
                let rows: Vec<ArchiveRow> =
                    batch.iter().map(|entry| archive_row(entity, entry)).collect();
                self.cql().write_all(&self.statements().archive_insert, &rows).await?;
            }
        }
        Ok(())
    }

    async fn write_parts(
        &self,
        entity: EntityId,
        upto: Seq,
        fence: Fence,
        state: &Bytes,
    ) -> Result<(), AppendError> {
        let (kind, id) = key(entity);
        let crc = checksum::of_snapshot(entity, upto, state);
        let count = state.len().div_ceil(PART_BYTES).max(1);
        let parts = i32::try_from(count).map_err(|_| unknown("too many parts"))?;
        let part = |n: usize| {
            let end = state.len().min((n + 1) * PART_BYTES);
            let body = state.slice(n * PART_BYTES..end);
            let number = i32::try_from(n).unwrap_or(i32::MAX);
            (kind, id, int(upto.0), int(fence.0), number, parts, crc, body)
        };
        let insert = &self.statements().snapshot_insert;
        let write = |n| async move { self.cql().write(insert, part(n)).await };
        let all = stream::iter((0..count).map(write)).buffer_unordered(PARTS_AT_ONCE);
        Ok(all.try_collect::<()>().await?)
    }

    /// Makes the snapshot current.
    async fn switch(&self, at: &Activation, found: &Statics, upto: Seq) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        let (kind, id) = key(entity);
        // Nobody else changes the starts while the fence is ours.
        let starts: std::collections::BTreeMap<i64, i64> =
            prune(&found.starts, upto).iter().map(|(f, s)| (int(f.0), int(s.0))).collect();
        let (upto_int, fence_int) = (int(upto.0), int(fence.0));
        for _ in 0..LWT_TRIES {
            let values = (upto_int, fence_int, &starts, kind, id, fence_int, upto_int);
            match self.cql().lwt(&self.statements().journal_switch, values).await? {
                Lwt::Applied => return Ok(()),
                Lwt::Refused(_) | Lwt::Unknown(_) => {}
            }
            let now = self.statics(entity, true).await;
            match now.map_err(|e| AppendError::OutcomeUnknown { source: e.cause() })? {
                Some(now) if now.fence == fence && now.snapshot_seq >= upto => return Ok(()),
                Some(now) if now.fence == fence => {}
                _ => return Err(AppendError::Fenced { entity, fence }),
            }
        }
        Err(unknown("nobody knows whether the snapshot is current"))
    }

    /// What stays behind is garbage below the snapshot, and goes with the next one.
    async fn trim(&self, entity: EntityId, upto: Seq) {
        let (kind, id) = key(entity);
        let values = (kind, id, int(upto.0));
        let rows = self.cql().write(&self.statements().journal_trim, values).await;
        let snapshots = self.cql().write(&self.statements().snapshot_trim, values).await;
        if let Err(failed) = rows.and(snapshots) {
            tracing::debug!(%entity, ?failed, "rows below a snapshot stay behind");
        }
    }

    /// The state of a snapshot, put together and checked; `None` if a part is missing or wrong.
    pub(super) async fn snapshot_state(
        &self,
        entity: EntityId,
        upto: Seq,
        by: Fence,
    ) -> Result<Option<Bytes>, Unread> {
        let (kind, id) = key(entity);
        let values = (kind, id, int(upto.0), int(by.0));
        let rows: Vec<Part> = self.cql().rows(&self.statements().snapshot_parts, values).await?;
        let Some(&(_, count, crc, _)) = rows.first() else { return Ok(None) };
        let mut state = BytesMut::new();
        for (expected, (part, _, _, body)) in (0..count).zip(&rows) {
            if *part != expected {
                return Ok(None);
            }
            state.extend_from_slice(body.as_deref().unwrap_or_default());
        }
        let whole = rows.len() as u64 >= uint(i64::from(count));
        let state = state.freeze();
        Ok((whole && checksum::of_snapshot(entity, upto, &state) == crc).then_some(state))
    }
}

fn archive_row(entity: EntityId, entry: &Entry) -> ArchiveRow {
    let (kind, id) = key(entity);
    (
        kind,
        id,
        bucket(entry.seq),
        int(entry.seq.0),
        int(entry.first_frame.0),
        i64::from(entry.frames),
        checksum::of_entry(entity, entry),
        entry.body.clone(),
    )
}
