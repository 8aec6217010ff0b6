//! Everything in it, for copies: partitions in the order of their tokens, and journals read
//! without a claim.

use async_trait::async_trait;
use bytes::Bytes;
use troupe_store::{
    AppendError, BlobHash, Entry, Inventory, Opened, Peeked, Projections, ReadError, Snapshot,
    WakeKind, cause,
    effective::{Tags, drop_partial, effective_log},
    inventory::wake_of,
};
use troupe_types::{EntityId, EntityKind, Fence, Seq, TaskId, Timestamp, Uuid};

use crate::{
    ScyllaStore,
    cql::{from_tiny, int, tiny, uint},
    error::{Failed, Unread, unread},
    journal::Statics,
};

/// How often an entity that moves is read again.
const PEEKS: u32 = 4;

type Found = (i8, Uuid, Option<i64>);

/// What one look at a journal found.
struct Look {
    statics: Statics,
    snapshot: Option<Snapshot>,
    tail: Vec<Entry>,
}

impl Look {
    fn head(&self) -> Seq {
        self.tail.last().map_or(self.statics.snapshot_seq, |entry| entry.seq)
    }
}

impl ScyllaStore {
    /// The journal as an open would find it; `None` if it was trimmed while it was read.
    async fn look(&self, entity: EntityId, statics: Statics) -> Result<Option<Look>, Unread> {
        let above = statics.snapshot_seq;
        let rows = self.rows_between(entity, above, Seq(u64::MAX)).await?;
        let snapshot = self.read_snapshot(entity, &statics).await;
        let now = self.statics(entity, false).await?;
        if now.as_ref() != Some(&statics) {
            return Ok(None);
        }
        let mut log = effective_log(rows, &statics.starts, above);
        drop_partial(&mut log, above, |row| row.append_last());
        let checked = log.into_iter().map(|(_, row)| row.check(entity));
        let tail: Result<Vec<Entry>, _> = checked.collect();
        let tail = tail.map_err(Unread::Corrupt)?;
        Ok(Some(Look { statics, snapshot: snapshot?, tail }))
    }

    /// Whether nothing was added or changed since that look.
    async fn is_still(&self, entity: EntityId, look: &Look) -> Result<bool, Unread> {
        let newer = self.rows_between(entity, look.head(), Seq(u64::MAX)).await?;
        let newer = effective_log(newer, &look.statics.starts, look.head());
        let now = self.statics(entity, false).await?;
        Ok(newer.is_empty() && now.as_ref() == Some(&look.statics))
    }

    async fn list_row(
        &self,
        entity: EntityId,
        head: Seq,
    ) -> Result<Option<troupe_store::TaskRow>, ReadError> {
        if entity.kind != EntityKind::Task {
            return Ok(None);
        }
        let rows = self.get_tasks(&[TaskId::from_uuid(entity.id)]).await?;
        Ok(rows.into_iter().next().filter(|row| row.seq <= head))
    }
}

#[async_trait]
impl Inventory for ScyllaStore {
    async fn entities(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> Result<Vec<EntityId>, ReadError> {
        const WHAT: &str = "the journals";
        let (statements, mut after) = (self.statements(), after);
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        loop {
            let rows: Vec<Found> = match after {
                None => self.cql().rows(&statements.entities_first, (most,)).await,
                Some(EntityId { kind, id }) => {
                    let values = (tiny(kind.code()), id, most);
                    self.cql().rows(&statements.entities_after, values).await
                }
            }
            .map_err(unread(WHAT))?;
            let odd = || Failed::Odd(cause("a journal is of no known kind"));
            let mut found = Vec::new();
            for (kind, id, fence) in &rows {
                let kind = EntityKind::from_code(from_tiny(*kind)).ok_or_else(odd);
                let entity = EntityId { kind: kind.map_err(unread(WHAT))?, id: *id };
                after = Some(entity);
                // Rows of a fenced writer alone make no entity.
                if fence.is_some() {
                    found.push(entity);
                }
            }
            if !found.is_empty() || rows.len() < limit {
                return Ok(found);
            }
        }
    }

    /// Several reads, so it is looked whether the entity moved meanwhile. One that always
    /// moves gets a wake row of its own: then somebody looks at it, whatever it needs, and its
    /// list row is written anew.
    async fn peek(&self, entity: EntityId) -> Result<Option<Peeked>, ReadError> {
        let of = |unread: Unread| unread.of(entity);
        let mut last = None;
        for _ in 0..PEEKS {
            let statics = self.statics(entity, false).await;
            let Some(statics) = statics.map_err(|e| of(e.into()))? else { return Ok(None) };
            let Some(look) = self.look(entity, statics).await.map_err(of)? else { continue };
            if look.head() == Seq::ZERO {
                return Ok(None);
            }
            let wake = wake_of(self, entity).await?;
            let task = self.list_row(entity, look.head()).await?;
            let is_still = self.is_still(entity, &look).await.map_err(of)?;
            let Look { snapshot, tail, .. } = look;
            let peeked = Peeked { snapshot, tail, wake, task };
            if is_still {
                return Ok(Some(peeked));
            }
            last = Some(peeked);
        }
        let moves = || cause("the entity moves faster than it can be read");
        let mut peeked = last.ok_or_else(|| ReadError::Unavailable { source: moves() })?;
        peeked.wake.push((Timestamp::from_millis(0), WakeKind::Run));
        Ok(Some(peeked))
    }

    /// The rows before what guards them: a fence that is claimed meanwhile explains its rows.
    async fn tags(&self, entity: EntityId, rows_max: usize) -> Result<Option<Tags>, ReadError> {
        let of = |failed: Failed| Unread::from(failed).of(entity);
        let Some(before) = self.statics(entity, false).await.map_err(of)? else { return Ok(None) };
        let (kind, id) = (tiny(entity.kind.code()), entity.id);
        // One more than asked for tells whether these are all.
        let most = i32::try_from(rows_max.saturating_add(1)).unwrap_or(i32::MAX);
        let values = (kind, id, int(before.snapshot_seq.0), most);
        let rows: Vec<(i64, i64)> =
            self.cql().rows(&self.statements().journal_tags, values).await.map_err(of)?;
        let Some(now) = self.statics(entity, true).await.map_err(of)? else { return Ok(None) };
        let is_whole = rows.len() <= rows_max;
        let rows = rows.into_iter().take(rows_max);
        let rows = rows.map(|(seq, fence)| (Seq(uint(seq)), Fence(uint(fence))));
        Ok(Some(Tags {
            rows: rows.filter(|(seq, _)| *seq > now.snapshot_seq).collect(),
            epoch: now.epoch,
            fence: now.fence,
            starts: now.starts,
            snapshot_seq: now.snapshot_seq,
            is_whole,
        }))
    }

    async fn blobs(
        &self,
        after: Option<BlobHash>,
        limit: usize,
    ) -> Result<Vec<BlobHash>, ReadError> {
        const WHAT: &str = "the blobs";
        let statements = self.statements();
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows: Vec<(Bytes,)> = match after {
            None => self.cql().rows(&statements.blobs_first, (most,)).await,
            Some(after) => {
                self.cql().rows(&statements.blobs_after, (after.0.as_slice(), most)).await
            }
        }
        .map_err(unread(WHAT))?;
        let odd = |_| unread(WHAT)(Failed::Odd(cause("the name of a blob is no hash")));
        let hash = |(name,): (Bytes,)| Ok(BlobHash(name.as_ref().try_into().map_err(odd)?));
        rows.into_iter().map(hash).collect()
    }

    async fn begin_at(&self, at: &Opened, snapshot: Snapshot) -> Result<(), AppendError> {
        self.begin_journal_at(&at.activation, snapshot.upto, snapshot.state).await
    }
}
