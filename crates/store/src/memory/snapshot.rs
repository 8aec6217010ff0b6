//! Entities without rows, snapshots, the archive.

use bytes::Bytes;
use troupe_types::{EntityId, Epoch, Seq};

use super::{
    MemoryStore, TRIES_MAX, World,
    journal::{Lwt, Statics, unavailable, unknown},
    replicas::Cell,
};
use crate::{
    Activation, AppendError, Entry, OpenError, Opened, ReadError, cause,
    effective::{effective_log, prune},
    journal::take_bytes,
};

impl MemoryStore {
    /// An activation that has claimed nothing. `None`: an older one made the entity meanwhile.
    pub(super) async fn open_empty(
        &self,
        entity: EntityId,
        epoch: Epoch,
    ) -> Result<Option<Opened>, OpenError> {
        let fence = self.activations.newest(entity).next();
        let activation = self.activations.begin(entity, epoch, fence)?;
        activation.quiet().await?;
        if self.world().serial_read(entity).ok_or_else(unavailable)?.is_some() {
            return Ok(None);
        }
        activation.start(Seq::ZERO);
        let (head, snapshot, tail) = (Seq::ZERO, None, Vec::new());
        Ok(Some(Opened { fence, head, snapshot, tail, activation }))
    }

    pub(super) fn write_snapshot(
        &self,
        at: &Activation,
        found: &Statics,
        upto: Seq,
        state: Bytes,
    ) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        let mut world = self.world();
        let above = found.snapshot_seq();
        let rows = world.rows_above(entity, above).ok_or_else(unknown)?;
        let log = effective_log(rows, &found.starts, above);
        let World { archive, snapshots, dice, .. } = &mut *world;
        if entity.kind.archives() {
            let below = log.into_iter().map(|(_, entry)| entry).filter(|entry| entry.seq <= upto);
            let cell = |entry: Entry| ((entity, entry.seq), Cell { stamp: 0, value: Some(entry) });
            archive.write(dice, &below.map(cell).collect()).map_err(|_| unknown())?;
        }
        let cell = Cell { stamp: 0, value: Some(state) };
        snapshots.write(dice, &vec![((entity, upto, fence), cell)]).map_err(|_| unknown())
    }

    pub(super) async fn switch_snapshot(
        &self,
        at: &Activation,
        upto: Seq,
    ) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        for _ in 0..TRIES_MAX * 4 {
            let outcome = self.world().lwt(entity, |now| {
                let now = now.filter(|now| now.fence == fence)?;
                let starts = prune(&now.starts, upto);
                Some(Statics { starts, snapshot: Some((upto, fence)), ..now.clone() })
            });
            match outcome {
                Lwt::Applied => return Ok(()),
                Lwt::Refused => return Err(AppendError::Fenced { entity, fence }),
                Lwt::Unknown => self.breathe().await,
                Lwt::Unavailable => return Err(unknown()),
            }
        }
        Err(unknown())
    }

    pub(super) fn archived(
        &self,
        entity: EntityId,
        from: Seq,
        bytes_max: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Entry>, ReadError> {
        let none = || ReadError::Unavailable { source: cause("no quorum of replicas") };
        let mut world = self.world();
        let found = world.serial_read(entity).ok_or_else(none)?;
        let upto = found.map_or(Seq::ZERO, |statics| statics.snapshot_seq());
        if from > upto {
            return Ok(Vec::new());
        }
        let World { archive, dice, .. } = &mut *world;
        let rows = archive.read(dice, (entity, from)..=(entity, upto)).ok_or_else(none)?;
        take_bytes(rows.into_values().filter(|entry| wanted(entry)).map(Ok), bytes_max)
    }
}
