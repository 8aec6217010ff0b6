//! Opening: claim the next fence, read, write the tail again, start.

use tokio::time::sleep;
use troupe_store::{
    CorruptPart, Entry, OpenError, Opened, Snapshot, cause,
    effective::{drop_partial, effective_log},
};
use troupe_types::{EntityId, Epoch, Fence, Seq};

use super::{LWT_TRIES, key, rows::Statics};
use crate::{
    ScyllaStore,
    cql::{Lwt, int},
    error::Unread,
};

/// How often a claim is tried when others claim too.
const CLAIM_TRIES: u32 = 8;
/// The pause between two of them, times their number.
const CLAIM_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

fn unavailable(text: &'static str) -> OpenError {
    OpenError::Unavailable { source: cause(text) }
}

fn unread(entity: EntityId, unread: Unread) -> OpenError {
    match unread {
        Unread::Corrupt(part) => OpenError::Corrupt { entity, part },
        Unread::Unavailable(source) => OpenError::Unavailable { source },
    }
}

impl ScyllaStore {
    pub(super) async fn open_entity(
        &self,
        entity: EntityId,
        epoch: Epoch,
    ) -> Result<Opened, OpenError> {
        for _ in 0..CLAIM_TRIES {
            match self.claim(entity, epoch).await? {
                Some(fence) => return self.open_claimed(entity, epoch, fence).await,
                None => {
                    if let Some(opened) = self.open_empty(entity, epoch).await? {
                        return Ok(opened);
                    }
                }
            }
        }
        Err(unavailable("it is just being made"))
    }

    /// Claims the next fence. `None`: the entity has no rows, so there is nothing to claim.
    async fn claim(&self, entity: EntityId, epoch: Epoch) -> Result<Option<Fence>, OpenError> {
        let mut serial = false;
        for n in 0..CLAIM_TRIES {
            if n > 0 {
                sleep(CLAIM_PAUSE * n).await;
            }
            let Some(found) = self.statics(entity, serial).await? else { return Ok(None) };
            if found.epoch > epoch {
                return Err(OpenError::Fenced { entity, asked: epoch });
            }
            let fence = found.fence.max(self.inner.activations.newest(entity)).next();
            let (kind, id) = key(entity);
            let (epoch_int, fence_int) = (int(epoch.0), int(fence.0));
            let values = (epoch_int, fence_int, kind, id, epoch_int, int(found.fence.0));
            match self.cql().lwt(&self.statements().journal_claim, values).await? {
                Lwt::Applied => return Ok(Some(fence)),
                // Ours or another's: the next claim goes above it either way.
                Lwt::Refused(_) | Lwt::Unknown(_) => serial = true,
            }
        }
        Err(unavailable("too many others open the entity, or the database is too slow"))
    }

    async fn open_claimed(
        &self,
        entity: EntityId,
        epoch: Epoch,
        fence: Fence,
    ) -> Result<Opened, OpenError> {
        let activation = self.inner.activations.begin(entity, epoch, fence)?;
        activation.set_claimed();
        let fenced = || OpenError::Fenced { entity, asked: epoch };
        let found = self.statics(entity, false).await?.ok_or_else(fenced)?;
        if found.fence != fence {
            return Err(fenced());
        }
        let above = found.snapshot_seq;
        let snapshot = self.read_snapshot(entity, &found);
        let rows = self.rows_between(entity, above, Seq(u64::MAX));
        let (snapshot, rows) = futures::join!(snapshot, rows);
        let mut log = effective_log(rows?, &found.starts, above);
        drop_partial(&mut log, above, |row| row.append_last());
        let snapshot = snapshot.map_err(|e| unread(entity, e))?;
        self.write_again(entity, &log).await?;
        let head = above.plus(log.len() as u64);
        self.set_start(entity, fence, head.next(), epoch).await?;
        let checked = log.into_iter().map(|(_, row)| row.check(entity));
        let tail: Result<Vec<Entry>, _> = checked.collect();
        let tail = tail.map_err(|part| OpenError::Corrupt { entity, part })?;
        activation.start(head);
        Ok(Opened { fence, head, snapshot, tail, activation })
    }

    /// An activation that has claimed nothing. `None`: somebody has made the entity meanwhile.
    async fn open_empty(
        &self,
        entity: EntityId,
        epoch: Epoch,
    ) -> Result<Option<Opened>, OpenError> {
        let fence = self.inner.activations.newest(entity).next();
        let activation = self.inner.activations.begin(entity, epoch, fence)?;
        activation.quiet().await?;
        if self.statics(entity, false).await?.is_some() {
            return Ok(None);
        }
        activation.start(Seq::ZERO);
        let (head, snapshot, tail) = (Seq::ZERO, None, Vec::new());
        Ok(Some(Opened { fence, head, snapshot, tail, activation }))
    }

    async fn set_start(
        &self,
        entity: EntityId,
        fence: Fence,
        start: Seq,
        asked: Epoch,
    ) -> Result<(), OpenError> {
        let (kind, id) = key(entity);
        for _ in 0..LWT_TRIES {
            let values = (int(fence.0), int(start.0), kind, id, int(fence.0));
            match self.cql().lwt(&self.statements().journal_start, values).await? {
                Lwt::Applied => return Ok(()),
                Lwt::Refused(_) => return Err(OpenError::Fenced { entity, asked }),
                Lwt::Unknown(_) => {} // The same again is harmless.
            }
        }
        Err(unavailable("the database does not answer"))
    }

    pub(crate) async fn read_snapshot(
        &self,
        entity: EntityId,
        statics: &Statics,
    ) -> Result<Option<Snapshot>, Unread> {
        let (upto, by) = (statics.snapshot_seq, statics.snapshot_fence);
        if upto == Seq::ZERO {
            return Ok(None);
        }
        let state = self.snapshot_state(entity, upto, by).await?;
        let state = state.ok_or(Unread::Corrupt(CorruptPart::Snapshot(upto)))?;
        Ok(Some(Snapshot { upto, state }))
    }
}
