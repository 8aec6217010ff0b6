//! The wake index.
//!
//! Write times are made of the activation's fence and a count, not of a clock: a newer
//! activation's removal always beats an older one's row, and within an activation the later
//! change wins.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::value::CqlTimestamp;
use troupe_store::{
    Activation, AppendError, Opened, ReadError, WakeChange, WakeKind, WakeRow, WakeStore,
    WriteError, cause, wake::check_remove,
};
use troupe_types::{EntityId, EntityKind, Fence, ShardId, Timestamp, Uuid};

use crate::{
    ScyllaStore,
    cql::{from_tiny, int, tiny, uint},
    error::{Failed, unread},
};

const WHAT: &str = "the wake index";
/// Shards that one call reads at once.
const SHARDS_AT_ONCE: usize = 16;

type Found = (CqlTimestamp, i8, i8, Bytes, i64);

fn stamp(time: Timestamp) -> CqlTimestamp {
    CqlTimestamp(time.as_millis())
}

/// Ids as bytes: CQL sorts its own uuids by their version first.
fn id_bytes(entity: EntityId) -> Bytes {
    Bytes::copy_from_slice(entity.id.as_bytes())
}

fn to_row(shard: ShardId, (due, why, kind, id, fence): Found) -> Result<WakeRow, Failed> {
    let odd = || Failed::Odd(cause("a wake row names no known kind, or no id"));
    Ok(WakeRow {
        due: Timestamp::from_millis(due.0),
        shard,
        kind: WakeKind::from_code(from_tiny(why)).ok_or_else(odd)?,
        entity: EntityId {
            kind: EntityKind::from_code(from_tiny(kind)).ok_or_else(odd)?,
            id: Uuid::from_slice(&id).map_err(|_| odd())?,
        },
        fence: Fence(uint(fence)),
    })
}

impl ScyllaStore {
    /// Inserts the rows that come before the entries of an append.
    pub(crate) async fn insert_wake(
        &self,
        at: &Activation,
        changes: &[WakeChange],
        tick: u64,
    ) -> Result<(), AppendError> {
        let entity = at.entity();
        let shard = i32::from(entity.shard().0);
        let (fence, tick) = (int(at.fence().0), int(tick));
        let row = |change: &WakeChange| match *change {
            WakeChange::Insert { due, kind } => {
                let (why, kind) = (tiny(kind.code()), tiny(entity.kind.code()));
                Some((self.cluster(), shard, stamp(due), why, kind, id_bytes(entity), fence, tick))
            }
            WakeChange::Remove { .. } => None,
        };
        let rows: Vec<_> = changes.iter().filter_map(row).collect();
        Ok(self.cql().write_all(&self.statements().wake_insert, &rows).await?)
    }

    /// Removes what an append removes, of its own fence and of older ones.
    pub(crate) async fn remove_wake(
        &self,
        at: &Activation,
        changes: &[WakeChange],
        tick: u64,
    ) -> Result<(), Failed> {
        let entity = at.entity();
        let shard = i32::from(entity.shard().0);
        let (fence, tick) = (int(at.fence().0), int(tick));
        let row = |change: &WakeChange| match *change {
            WakeChange::Remove { due, kind } => {
                let (why, kind) = (tiny(kind.code()), tiny(entity.kind.code()));
                Some((tick, self.cluster(), shard, stamp(due), why, kind, id_bytes(entity), fence))
            }
            WakeChange::Insert { .. } => None,
        };
        let rows: Vec<_> = changes.iter().filter_map(row).collect();
        self.cql().write_all(&self.statements().wake_remove_upto, &rows).await
    }

    /// The first rows of one shard above `after`.
    async fn due_of(
        &self,
        shard: ShardId,
        until: Timestamp,
        after: Option<WakeRow>,
        limit: i32,
    ) -> Result<Vec<WakeRow>, Failed> {
        let (statements, cluster) = (self.statements(), self.cluster());
        let (number, until) = (i32::from(shard.0), stamp(until));
        let from = |due: i64| (cluster, number, CqlTimestamp(due), until, limit);
        let rows: Vec<Found> = match after {
            None => self.cql().rows(&statements.wake_from, from(i64::MIN)).await?,
            // Rows sort by time first, then by shard.
            Some(after) if shard > after.shard => {
                self.cql().rows(&statements.wake_from, from(after.due.as_millis())).await?
            }
            Some(after) if shard < after.shard => {
                let next = after.due.as_millis().saturating_add(1);
                self.cql().rows(&statements.wake_from, from(next)).await?
            }
            Some(after) => {
                let (why, kind) = (tiny(after.kind.code()), tiny(after.entity.kind.code()));
                let (id, fence) = (id_bytes(after.entity), int(after.fence.0));
                let values =
                    (cluster, number, stamp(after.due), why, kind, id, fence, until, limit);
                self.cql().rows(&statements.wake_after, values).await?
            }
        };
        rows.into_iter().map(|row| to_row(shard, row)).collect()
    }
}

#[async_trait]
impl WakeStore for ScyllaStore {
    async fn due(
        &self,
        shards: &[ShardId],
        until: Timestamp,
        after: Option<WakeRow>,
        limit: usize,
    ) -> Result<Vec<WakeRow>, ReadError> {
        let rows_max = i32::try_from(limit).unwrap_or(i32::MAX);
        if rows_max == 0 {
            return Ok(Vec::new());
        }
        let reads = shards.iter().map(|shard| self.due_of(*shard, until, after, rows_max));
        let reads: Vec<_> = reads.collect();
        let mut all = stream::iter(reads).buffer_unordered(SHARDS_AT_ONCE);
        let mut rows: Vec<WakeRow> = Vec::new();
        while let Some(more) = all.try_next().await.map_err(unread(WHAT))? {
            rows.extend(more);
            rows.sort_unstable();
            rows.truncate(limit);
        }
        Ok(rows)
    }

    async fn remove(&self, by: &Opened, rows: Vec<WakeRow>) -> Result<(), WriteError> {
        check_remove(by, &rows).map_err(WriteError::Invalid)?;
        let tick = int(by.activation.tick());
        let row = |row: &WakeRow| {
            let (why, kind) = (tiny(row.kind.code()), tiny(row.entity.kind.code()));
            let (shard, due) = (i32::from(row.shard.0), stamp(row.due));
            (tick, self.cluster(), shard, due, why, kind, id_bytes(row.entity), int(row.fence.0))
        };
        // All of one entity, so of one partition.
        let rows: Vec<_> = rows.iter().map(row).collect();
        Ok(self.cql().write_all(&self.statements().wake_remove, &rows).await?)
    }
}
