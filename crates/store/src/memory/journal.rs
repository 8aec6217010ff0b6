//! The journal over three replicas: claim, read, write again, start; tagged rows; a barrier.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::yield_now;
use troupe_types::{EntityId, Epoch, Fence, FrameSeq, Seq};

use super::{
    MemoryStore, TRIES_MAX, World,
    dice::ScriptedFailure,
    replicas::{Cell, Missed, Progress},
};
use crate::{
    Activation, AppendError, CorruptPart, Entry, InFlight, InvalidAppend, JournalStore, OpenError,
    Opened, ReadError, SNAPSHOT_STATE_BYTES_MAX, Snapshot, WakeChange, WakeRow, cause,
    effective::{Starts, effective_log},
    journal::check_append,
};

/// What conditional updates guard, one row per entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statics {
    pub(super) epoch: Epoch,
    pub(super) fence: Fence,
    pub(super) starts: Starts,
    /// The current snapshot and who wrote it.
    pub(super) snapshot: Option<(Seq, Fence)>,
}

impl Statics {
    pub(super) fn snapshot_seq(&self) -> Seq {
        self.snapshot.map_or(Seq::ZERO, |(upto, _)| upto)
    }
}

/// The answer to a conditional update.
pub(super) enum Lwt {
    Applied,
    Refused,
    Unknown,
    Unavailable,
}

impl World {
    pub(super) fn serial_read(&self, entity: EntityId) -> Option<Option<Statics>> {
        self.dice.has_quorum().then(|| self.statics.get(&entity).cloned())
    }

    /// Replaces the statics if `change` finds them as it wants them.
    pub(super) fn lwt(
        &mut self,
        entity: EntityId,
        change: impl FnOnce(Option<&Statics>) -> Option<Statics>,
    ) -> Lwt {
        if !self.dice.has_quorum() {
            return Lwt::Unavailable;
        }
        let unknown = self.dice.chance(self.dice.faults.unknown);
        if unknown && self.dice.chance(0.5) {
            return Lwt::Unknown; // It never arrived.
        }
        let Some(new) = change(self.statics.get(&entity)) else {
            return if unknown { Lwt::Unknown } else { Lwt::Refused };
        };
        self.statics.insert(entity, new);
        if unknown { Lwt::Unknown } else { Lwt::Applied }
    }

    pub(super) fn rows_above(
        &mut self,
        entity: EntityId,
        above: Seq,
    ) -> Option<HashMap<(Seq, Fence), Entry>> {
        let range = (entity, above.next(), Fence::ZERO)..=(entity, Seq(u64::MAX), Fence(u64::MAX));
        let rows = self.entries.read(&mut self.dice, range)?;
        Some(rows.into_iter().map(|((_, seq, fence), entry)| ((seq, fence), entry)).collect())
    }
}

pub(super) fn unavailable() -> OpenError {
    OpenError::Unavailable { source: cause("no quorum of replicas") }
}

pub(super) fn unknown() -> AppendError {
    AppendError::OutcomeUnknown { source: cause("no quorum of replicas answered") }
}

fn tagged(entity: EntityId, fence: Fence, entry: &Entry) -> ((EntityId, Seq, Fence), Cell<Entry>) {
    ((entity, entry.seq, fence), Cell { stamp: 0, value: Some(entry.clone()) })
}

impl MemoryStore {
    pub(super) async fn breathe(&self) {
        let interrupted = {
            let mut world = self.world();
            let p = world.dice.faults.interrupted;
            world.dice.chance(p)
        };
        if interrupted {
            yield_now().await;
        }
    }

    /// Claims the next fence. `None`: the entity has no rows, so there is nothing to claim.
    async fn claim(
        &self,
        entity: EntityId,
        epoch: Epoch,
    ) -> Result<Option<(Fence, Statics)>, OpenError> {
        for _ in 0..TRIES_MAX {
            self.breathe().await;
            let newest_here = self.activations.newest(entity);
            let mut world = self.world();
            let found = world.serial_read(entity).ok_or_else(unavailable)?;
            if self.is_over(&world, entity.shard(), epoch)
                || found.as_ref().is_some_and(|found| found.epoch > epoch)
            {
                return Err(OpenError::Fenced { entity, asked: epoch });
            }
            let Some(found) = found else { return Ok(None) };
            let fence = found.fence.max(newest_here).next();
            let claimed = Statics { epoch, fence, ..found.clone() };
            let outcome = world.lwt(entity, |now| {
                now.filter(|now| now.fence == found.fence && now.epoch <= epoch)?;
                Some(claimed.clone())
            });
            match outcome {
                Lwt::Applied => return Ok(Some((fence, claimed))),
                // After a timeout it may be ours or another's: the next claim settles it.
                Lwt::Refused | Lwt::Unknown => {}
                Lwt::Unavailable => return Err(unavailable()),
            }
        }
        Err(unavailable())
    }

    /// Writes rows that one replica alone may hold again, so that they cannot vanish.
    async fn write_again(&self, entity: EntityId, log: &[(Fence, Entry)]) -> Result<(), OpenError> {
        let Some((last, _)) = log.last() else { return Ok(()) };
        let rows = log.iter().filter(|(fence, _)| fence == last);
        let batch = rows.map(|(fence, entry)| tagged(entity, *fence, entry)).collect();
        let mut progress = Progress::default();
        loop {
            self.breathe().await;
            let mut world = self.world();
            let World { entries, dice, .. } = &mut *world;
            if let Some(outcome) = entries.attempt(dice, &batch, &mut progress) {
                return outcome.map_err(|_| unavailable());
            }
        }
    }

    async fn set_start(
        &self,
        entity: EntityId,
        fence: Fence,
        start: Seq,
        asked: Epoch,
    ) -> Result<(), OpenError> {
        for _ in 0..TRIES_MAX * 4 {
            self.breathe().await;
            let outcome = self.world().lwt(entity, |now| {
                let mut new = now.filter(|now| now.fence == fence)?.clone();
                new.starts.insert(fence, start);
                Some(new)
            });
            match outcome {
                Lwt::Applied => return Ok(()),
                Lwt::Refused => return Err(OpenError::Fenced { entity, asked }),
                Lwt::Unknown => {} // The same again is harmless.
                Lwt::Unavailable => return Err(unavailable()),
            }
        }
        Err(unavailable())
    }

    pub(super) fn read_snapshot(
        &self,
        entity: EntityId,
        statics: &Statics,
    ) -> Result<Option<Snapshot>, OpenError> {
        let Some((upto, by)) = statics.snapshot else { return Ok(None) };
        let key = (entity, upto, by);
        let mut world = self.world();
        let World { snapshots, dice, .. } = &mut *world;
        let found = snapshots.read(dice, key..=key).ok_or_else(unavailable)?;
        let part = CorruptPart::Snapshot(upto);
        let state = found.into_values().next().ok_or(OpenError::Corrupt { entity, part })?;
        Ok(Some(Snapshot { upto, state }))
    }

    /// The first append of an entity without rows makes its statics.
    pub(super) async fn create(&self, at: &Activation) -> Result<(), AppendError> {
        let (entity, epoch, fence) = (at.entity(), at.epoch(), at.fence());
        let starts = BTreeMap::from([(fence, Seq(1))]);
        let mine = Statics { epoch, fence, starts, snapshot: None };
        for _ in 0..TRIES_MAX * 4 {
            self.breathe().await;
            let mut world = self.world();
            if self.is_over(&world, entity.shard(), epoch) {
                return Err(AppendError::Fenced { entity, fence });
            }
            match world.lwt(entity, |now| now.is_none().then(|| mine.clone())) {
                Lwt::Applied => return Ok(()),
                Lwt::Unavailable => return Err(unknown()),
                Lwt::Refused | Lwt::Unknown => match world.serial_read(entity) {
                    // Epochs have one owner each, so this can only be our own row.
                    Some(Some(now)) if (now.epoch, now.fence) == (epoch, fence) => return Ok(()),
                    Some(Some(_)) => return Err(AppendError::Fenced { entity, fence }),
                    Some(None) => {}
                    None => return Err(unknown()),
                },
            }
        }
        Err(unknown())
    }

    /// A read that is sent after a write was confirmed and still shows the own lease and fence
    /// proves that every later owner will find the write.
    fn barrier(&self, at: &Activation) -> Result<(), AppendError> {
        at.check()?;
        let (entity, fence) = (at.entity(), at.fence());
        let world = self.world();
        if self.is_over(&world, entity.shard(), at.epoch()) {
            return Err(AppendError::Fenced { entity, fence });
        }
        match world.serial_read(entity) {
            Some(Some(now)) if now.fence == fence => Ok(()),
            Some(_) => Err(AppendError::Fenced { entity, fence }),
            None => Err(unknown()),
        }
    }

    async fn write_rows(
        &self,
        at: &Activation,
        entries: &[Entry],
        wake: &[WakeChange],
    ) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        self.change_wake(at, wake, true)?;
        let batch = entries.iter().map(|entry| tagged(entity, fence, entry)).collect();
        let mut progress = Progress::default();
        loop {
            self.breathe().await;
            at.check()?;
            let mut world = self.world();
            let World { entries, dice, .. } = &mut *world;
            match entries.attempt(dice, &batch, &mut progress) {
                Some(Ok(())) => return Ok(()),
                Some(Err(Missed::Refused)) => {
                    let source = cause("all replicas refused the write");
                    return Err(AppendError::Unavailable { source });
                }
                Some(Err(Missed::Unknown)) => return Err(unknown()),
                None => {}
            }
        }
    }

    fn change_wake(
        &self,
        at: &Activation,
        changes: &[WakeChange],
        inserts: bool,
    ) -> Result<(), AppendError> {
        let (entity, fence) = (at.entity(), at.fence());
        let mut world = self.world();
        let stamp = world.stamp();
        let World { wake, dice, .. } = &mut *world;
        let mut batch = Vec::new();
        for change in changes {
            match *change {
                WakeChange::Insert { due, kind } if inserts => {
                    let row = WakeRow::new(entity, fence, due, kind);
                    batch.push((row, Cell { stamp, value: Some(()) }));
                }
                WakeChange::Remove { due, kind } if !inserts => {
                    let row = |fence| WakeRow::new(entity, fence, due, kind);
                    let older = wake.read(dice, row(Fence::ZERO)..=row(fence)).unwrap_or_default();
                    batch.extend(older.into_keys().map(|row| (row, Cell { stamp, value: None })));
                }
                WakeChange::Insert { .. } | WakeChange::Remove { .. } => {}
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        wake.write(dice, &batch).map_err(|missed| match missed {
            Missed::Refused => {
                AppendError::Unavailable { source: cause("all replicas refused the write") }
            }
            Missed::Unknown => unknown(),
        })
    }

    /// No row is written before the fence is known to be this activation's own. One that found
    /// no rows when it was opened has claimed nothing yet, and another node may have chosen the
    /// same number; under one tag the rows of both would mix.
    async fn ensure_claimed(&self, append: &InFlight, first: Seq) -> Result<(), AppendError> {
        let at = append.activation();
        let (entity, fence) = (at.entity(), at.fence());
        let read = || match self.world().serial_read(entity) {
            Some(Some(now)) if (now.epoch, now.fence) == (at.epoch(), fence) => Ok(true),
            Some(Some(_)) => Err(AppendError::Fenced { entity, fence }),
            Some(None) => Ok(false),
            None => Err(AppendError::Unavailable { source: cause("no quorum of replicas") }),
        };
        if !read()? {
            append.predecessors(first).await?;
            if !read()? {
                self.create(at).await?;
            }
        }
        Ok(())
    }

    async fn commit(
        &self,
        append: &InFlight,
        first: Seq,
        entries: &[Entry],
        wake: &[WakeChange],
    ) -> Result<(), AppendError> {
        let at = append.activation();
        let (entity, fence) = (at.entity(), at.fence());
        if !self.floors.admits(entity.shard(), at.epoch()) {
            return Err(AppendError::Fenced { entity, fence });
        }
        let scripted = self.world().dice.scripted.pop_front();
        match scripted {
            Some(ScriptedFailure::Full) => return Err(AppendError::Full),
            Some(ScriptedFailure::Unavailable) => {
                return Err(AppendError::Unavailable { source: cause("as the test says") });
            }
            Some(ScriptedFailure::OutcomeUnknown { written: false }) => return Err(unknown()),
            Some(ScriptedFailure::OutcomeUnknown { written: true }) | None => {}
        }
        self.ensure_claimed(append, first).await?;
        self.write_rows(at, entries, wake).await?;
        append.predecessors(first).await?;
        self.breathe().await;
        self.barrier(at)?;
        if scripted.is_some() {
            return Err(unknown());
        }
        Ok(())
    }
}

#[async_trait]
impl JournalStore for MemoryStore {
    async fn open(&self, entity: EntityId, epoch: Epoch) -> Result<Opened, OpenError> {
        let Some((fence, statics)) = self.claim(entity, epoch).await? else {
            if let Some(empty) = self.open_empty(entity, epoch).await? {
                return Ok(empty);
            }
            return Err(OpenError::Unavailable { source: cause("it was just being created") });
        };
        let activation = self.activations.begin(entity, epoch, fence)?;
        self.breathe().await;
        let above = statics.snapshot_seq();
        let rows = self.world().rows_above(entity, above).ok_or_else(unavailable)?;
        let log = effective_log(rows, &statics.starts, above);
        let snapshot = self.read_snapshot(entity, &statics)?;
        self.write_again(entity, &log).await?;
        let head = log.last().map_or(above, |(_, entry)| entry.seq);
        self.set_start(entity, fence, head.next(), epoch).await?;
        activation.start(head);
        let tail = log.into_iter().map(|(_, entry)| entry).collect();
        Ok(Opened { fence, head, snapshot, tail, activation })
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
        let append = at.activation.turn(first).await?.send(last, |append| append);
        self.gate().await;
        match self.commit(&append, first, &entries, &wake).await {
            Ok(()) => {
                let wrote = wake.iter().any(|c| matches!(c, WakeChange::Insert { .. }));
                append.committed(wrote);
                // A row that stays behind is a false one, and those are harmless.
                let _ = self.change_wake(&at.activation, &wake, false);
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
        let at = &at.activation;
        at.check()?;
        if upto > at.committed() {
            return Err(AppendError::Invalid(InvalidAppend::NotCommitted { upto }));
        }
        let (entity, fence) = (at.entity(), at.fence());
        let Some(found) = self.world().serial_read(entity).ok_or_else(unknown)? else {
            return Ok(()); // Nothing was ever written, so `upto` is zero.
        };
        if found.fence != fence {
            return Err(AppendError::Fenced { entity, fence });
        }
        if upto <= found.snapshot_seq() {
            return Ok(());
        }
        self.write_snapshot(at, &found, upto, state)?;
        self.breathe().await;
        self.barrier(at)?;
        self.switch_snapshot(at, upto).await?;
        let mut world = self.world();
        let World { entries, snapshots, dice, .. } = &mut *world;
        let old = |upto| (entity, Seq::ZERO, Fence::ZERO)..(entity, upto, Fence::ZERO);
        entries.purge(dice, old(upto.next()));
        snapshots.purge(dice, old(upto));
        Ok(())
    }

    async fn read_archive(
        &self,
        entity: EntityId,
        from: FrameSeq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let wanted = |entry: &Entry| entry.frames > 0 && entry.next_frame() > from;
        self.archived(entity, Seq(1), bytes_max, wanted)
    }

    async fn read_archive_entries(
        &self,
        entity: EntityId,
        from: Seq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.archived(entity, from, bytes_max, |_| true)
    }
}
