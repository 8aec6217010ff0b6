//! The journal: tagged rows, a claim by lightweight transaction, a commit barrier.

mod archive;
mod open;
mod rows;
mod snapshot;

pub(crate) use self::rows::Statics;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;
use troupe_store::{
    Activation, AppendError, Entry, InFlight, InvalidAppend, JournalStore, OpenError, Opened,
    ReadError, SNAPSHOT_STATE_BYTES_MAX, WakeChange, cause, journal::check_append,
};
use troupe_types::{EntityId, Epoch, FrameSeq, Seq};

use crate::{ScyllaStore, barrier::Stopped, cql::Lwt, error::Failed};

/// How often a conditional update is sent again after its outcome was unknown.
const LWT_TRIES: usize = 4;

/// An entity's partition key, as it is bound.
pub(crate) fn key(entity: EntityId) -> (i8, troupe_types::Uuid) {
    (crate::cql::tiny(entity.kind.code()), entity.id)
}

fn unknown(text: &'static str) -> AppendError {
    AppendError::OutcomeUnknown { source: cause(text) }
}

impl ScyllaStore {
    /// Refuses what this process knows to be over.
    fn check(&self, at: &Activation) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        if self.may_not_write(entity.shard(), at.epoch()) {
            return Err(AppendError::Fenced { entity, fence });
        }
        at.check()
    }

    /// Passes only if everything confirmed before the call will be found by every later owner.
    async fn commit_barrier(&self, at: &Activation) -> Result<(), AppendError> {
        self.barrier().await.map_err(|stopped| match stopped {
            Stopped::Fenced => AppendError::Fenced { entity: at.entity(), fence: at.fence() },
            Stopped::Unknown(source) => AppendError::OutcomeUnknown { source },
        })?;
        self.check(at)
    }

    /// No row is written before the fence is known to be this activation's own. One that found
    /// no rows when it was opened has claimed nothing yet, and another node may have chosen the
    /// same number; under one tag the rows of both would mix.
    async fn ensure_claimed(&self, append: &InFlight, first: Seq) -> Result<(), AppendError> {
        let at = append.activation();
        if !at.is_claimed() {
            append.predecessors(first).await?;
            if !at.is_claimed() {
                self.create(at).await?;
                at.set_claimed();
            }
        }
        Ok(())
    }

    /// The first append of an entity without rows makes its statics.
    async fn create(&self, at: &Activation) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        let (epoch_int, fence_int) = (crate::cql::int(at.epoch().0), crate::cql::int(fence.0));
        let starts = std::collections::BTreeMap::from([(fence_int, 1i64)]);
        for _ in 0..LWT_TRIES {
            self.check(at)?;
            let (kind, id) = key(entity);
            let values = (epoch_int, fence_int, &starts, kind, id);
            match self.cql().lwt(&self.statements().journal_create, values).await? {
                Lwt::Applied => return Ok(()),
                Lwt::Refused(_) | Lwt::Unknown(_) => {}
            }
            let found = self.statics(entity, true).await;
            match found.map_err(|e| AppendError::OutcomeUnknown { source: e.cause() })? {
                // Epochs have one owner each, so this can only be our own row.
                Some(now) if (now.epoch, now.fence) == (at.epoch(), fence) => return Ok(()),
                Some(_) => return Err(AppendError::Fenced { entity, fence }),
                None => {}
            }
        }
        Err(unknown("nobody knows whether the entity was made"))
    }

    async fn commit(
        &self,
        append: &InFlight,
        first: Seq,
        entries: &[Entry],
        wake: &[WakeChange],
        tick: u64,
    ) -> Result<(), AppendError> {
        let at = append.activation();
        self.check(at)?;
        self.ensure_claimed(append, first).await?;
        self.insert_wake(at, wake, tick).await?;
        self.insert_rows(at, entries).await?;
        self.commit_barrier(at).await?;
        append.predecessors(first).await?;
        // Once more, with nothing to wait for between this and the ack.
        self.check(at)
    }
}

#[async_trait]
impl JournalStore for ScyllaStore {
    async fn open(&self, entity: EntityId, epoch: Epoch) -> Result<Opened, OpenError> {
        if self.may_not_write(entity.shard(), epoch) {
            return Err(OpenError::Fenced { entity, asked: epoch });
        }
        if let Some(source) = self.not_joined() {
            return Err(OpenError::Unavailable { source });
        }
        self.open_entity(entity, epoch).await
    }

    async fn append(
        &self,
        at: &Opened,
        first: Seq,
        entries: Vec<Entry>,
        wake: Vec<WakeChange>,
    ) -> Result<(), AppendError> {
        check_append(first, &entries, &wake).map_err(AppendError::Invalid)?;
        let last = entries.last().map_or(Seq(first.0.saturating_sub(1)), |entry| entry.seq);
        let turn = at.activation.turn(first).await?;
        // The tick is taken in turn: a later append's wake rows are later, whoever is faster.
        let (append, tick) = turn.send(last, |append| {
            let tick = append.activation().tick();
            (append, tick)
        });
        // All waits below have limits of their own but this: an append waits for those before.
        let limit = self.cql().timeouts.request * 4;
        let commit = timeout(limit, self.commit(&append, first, &entries, &wake, tick)).await;
        match commit.unwrap_or_else(|_| Err(unknown("the appends before this one hang"))) {
            Ok(()) => {
                let wrote = wake.iter().any(|c| matches!(c, WakeChange::Insert { .. }));
                append.committed(wrote);
                // A row that stays behind is a false one, and those are harmless.
                if let Err(failed) = self.remove_wake(&at.activation, &wake, tick).await {
                    tracing::debug!(entity = %at.entity(), ?failed, "a wake row stays behind");
                }
                Ok(())
            }
            Err(e) => {
                append.failed(&e);
                Err(e)
            }
        }
    }

    async fn snapshot(&self, at: &Opened, upto: Seq, state: Bytes) -> Result<(), AppendError> {
        if state.len() > SNAPSHOT_STATE_BYTES_MAX {
            return Err(AppendError::Invalid(InvalidAppend::SnapshotTooLarge(state.len())));
        }
        self.check(&at.activation)?;
        if upto > at.activation.committed() {
            return Err(AppendError::Invalid(InvalidAppend::NotCommitted { upto }));
        }
        if upto == Seq::ZERO {
            return Ok(());
        }
        self.write_snapshot(&at.activation, upto, state).await
    }

    async fn read_archive(
        &self,
        entity: EntityId,
        from: FrameSeq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let read = self.archived_frames(entity, from, bytes_max).await;
        read.map_err(|unread| unread.of(entity))
    }

    async fn read_archive_entries(
        &self,
        entity: EntityId,
        from: Seq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let read = async {
            let upto = self.archived_upto(entity).await?;
            self.archived(entity, from.max(Seq(1)), upto, bytes_max, true).await
        };
        read.await.map_err(|unread| unread.of(entity))
    }
}

impl From<Failed> for OpenError {
    fn from(failed: Failed) -> Self {
        Self::Unavailable { source: failed.cause() }
    }
}
