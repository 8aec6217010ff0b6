//! Everything in it, for copies.

use async_trait::async_trait;
use troupe_types::{EntityId, EntityKind, Seq, TaskId};

use super::{
    MemoryStore, World,
    journal::{Statics, unknown},
    replicas::Cell,
};
use crate::{
    AppendError, BlobHash, Inventory, OpenError, Opened, Peeked, ReadError, Snapshot,
    effective::{Tags, effective_log},
    inventory::wake_of,
};

fn unread() -> ReadError {
    ReadError::Unavailable { source: crate::cause("no quorum of replicas") }
}

fn unopened(error: OpenError) -> ReadError {
    match error {
        OpenError::Corrupt { entity, part } => ReadError::Corrupt { entity, part },
        OpenError::Fenced { .. } | OpenError::Unavailable { .. } => unread(),
    }
}

#[async_trait]
impl Inventory for MemoryStore {
    async fn entities(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> Result<Vec<EntityId>, ReadError> {
        let world = self.world();
        let mut all: Vec<_> =
            world.statics.keys().copied().filter(|id| Some(*id) > after).collect();
        all.sort_unstable();
        all.truncate(limit);
        Ok(all)
    }

    async fn peek(&self, entity: EntityId) -> Result<Option<Peeked>, ReadError> {
        let before = self.world().serial_read(entity).ok_or_else(unread)?;
        let Some(statics) = before else { return Ok(None) };
        // What a run that begins and ends in between would need is not in it; no test does that.
        let mut wake = wake_of(self, entity).await?;
        let task = (entity.kind == EntityKind::Task).then(|| TaskId::from_uuid(entity.id));
        let mut peeked = {
            let above = statics.snapshot_seq();
            let snapshot = self.read_snapshot(entity, &statics).map_err(unopened)?;
            let mut world = self.world();
            let rows = world.rows_above(entity, above).ok_or_else(unread)?;
            let log = effective_log(rows, &statics.starts, above);
            let tail = log.into_iter().map(|(_, entry)| entry).collect();
            Peeked { snapshot, tail, ..Peeked::default() }
        };
        let now = self.world().serial_read(entity).ok_or_else(unread)?;
        if now.as_ref().map(Statics::snapshot_seq) != Some(statics.snapshot_seq()) {
            return Err(unread()); // Trimmed meanwhile: read it again.
        }
        wake.extend(wake_of(self, entity).await?);
        wake.sort_unstable();
        wake.dedup();
        let World { tasks, dice, .. } = &mut *self.world();
        let row = task.map(|id| tasks.read(dice, id..=id).ok_or_else(unread)).transpose()?;
        let row = row.and_then(|rows| rows.into_values().next());
        peeked.task = row.filter(|row| row.seq <= peeked.head());
        peeked.wake = wake;
        Ok((peeked.head() > Seq::ZERO).then_some(peeked))
    }

    async fn tags(&self, entity: EntityId, rows_max: usize) -> Result<Option<Tags>, ReadError> {
        let mut world = self.world();
        let rows = world.rows_above(entity, Seq::ZERO).ok_or_else(unread)?;
        let Some(statics) = world.serial_read(entity).ok_or_else(unread)? else { return Ok(None) };
        let snapshot_seq = statics.snapshot_seq();
        let mut rows: Vec<_> = rows.into_keys().filter(|(seq, _)| *seq > snapshot_seq).collect();
        rows.sort_unstable_by(|a, b| b.cmp(a));
        let is_whole = rows.len() <= rows_max;
        rows.truncate(rows_max);
        let Statics { epoch, fence, starts, .. } = statics;
        Ok(Some(Tags { epoch, fence, starts, snapshot_seq, rows, is_whole }))
    }

    async fn blobs(
        &self,
        after: Option<BlobHash>,
        limit: usize,
    ) -> Result<Vec<BlobHash>, ReadError> {
        let mut world = self.world();
        let World { blobs, dice, .. } = &mut *world;
        let all = blobs.read(dice, ..).ok_or_else(unread)?.into_keys();
        Ok(all.filter(|hash| Some(*hash) > after).take(limit).collect())
    }

    async fn begin_at(&self, at: &Opened, snapshot: Snapshot) -> Result<(), AppendError> {
        let at = &at.activation;
        let (entity, fence, upto) = (at.entity(), at.fence(), snapshot.upto);
        if self.world().serial_read(entity).ok_or_else(unknown)?.is_none() {
            self.create(at).await?;
        }
        let cell = Cell { stamp: 0, value: Some(snapshot.state) };
        {
            let mut world = self.world();
            let World { snapshots, dice, .. } = &mut *world;
            snapshots.write(dice, &vec![((entity, upto, fence), cell)]).map_err(|_| unknown())?;
        }
        self.switch_snapshot(at, upto).await
    }
}
