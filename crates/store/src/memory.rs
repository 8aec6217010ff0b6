//! The in-memory store: three simulated replicas, quorum reads and writes, and faults.
//!
//! It is the twin of a clustered store, not of the embedded one: rows are keyed by (seq,
//! fence), a conditional update claims the fence, a barrier stands before every ack. So the
//! conformance suites show that the rules of that design hold when replicas lose, delay and
//! reorder writes, and every other crate's tests can run against it.

mod dice;
mod inventory;
mod journal;
mod ownership;
mod replicas;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use troupe_types::{
    EntityId, Epoch, Fence, LeaseRow, NodeName, NodeState, Seq, ShardId, ShardRow, TaskId, Uuid,
};

pub use self::dice::{Faults, ScriptedFailure};
use self::{dice::Dice, journal::Statics, replicas::Replicas};
use crate::{
    Activations, BlobHash, Change, DeadLetter, DirectoryRow, DirectoryTable, Entry, Floors, Stores,
    TaskRow, WakeRow,
};

/// Simulated copies of every row.
pub const REPLICAS: usize = 3;
/// Copies that a read or a write must reach.
pub(crate) const QUORUM: usize = 2;
/// Tries of one quorum operation.
pub(crate) const TRIES_MAX: usize = 4;

/// One node's view of a simulated storage cluster. Cloning gives the same node.
#[derive(Clone)]
pub struct MemoryStore {
    cluster: Arc<Cluster>,
    activations: Activations,
    floors: Floors,
    /// The lease that this handle joined with, if it did.
    lease: Arc<Mutex<Option<LeaseRow>>>,
    epoch: Epoch,
}

struct Cluster {
    world: Mutex<World>,
    open_gate: watch::Sender<bool>,
}

/// Everything the simulated cluster holds.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) statics: HashMap<EntityId, Statics>,
    pub(crate) entries: Replicas<(EntityId, Seq, Fence), Entry>,
    pub(crate) snapshots: Replicas<(EntityId, Seq, Fence), Bytes>,
    pub(crate) archive: Replicas<(EntityId, Seq), Entry>,
    pub(crate) wake: Replicas<WakeRow, ()>,
    pub(crate) tasks: Replicas<TaskId, TaskRow>,
    pub(crate) blobs: Replicas<BlobHash, Bytes>,
    pub(crate) dead_letters: Replicas<Uuid, DeadLetter>,
    pub(crate) directory: BTreeMap<(DirectoryTable, Bytes), DirectoryRow>,
    pub(crate) changes: Vec<Change>,
    pub(crate) leases: BTreeMap<NodeName, LeaseRow>,
    pub(crate) shards: BTreeMap<ShardId, ShardRow>,
    pub(crate) grants: Vec<ShardRow>,
    stamp: u64,
    epoch: Epoch,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::with_faults(StdRng::seed_from_u64(0), Faults::default())
    }

    /// An empty store whose replicas misbehave as the generator decides.
    #[must_use]
    pub fn with_faults(rng: StdRng, faults: Faults) -> Self {
        let world = World {
            dice: Dice::new(rng, faults),
            statics: HashMap::new(),
            entries: Replicas::new(),
            snapshots: Replicas::new(),
            archive: Replicas::new(),
            wake: Replicas::new(),
            tasks: Replicas::new(),
            blobs: Replicas::new(),
            dead_letters: Replicas::new(),
            directory: BTreeMap::new(),
            changes: Vec::new(),
            leases: BTreeMap::new(),
            shards: BTreeMap::new(),
            grants: Vec::new(),
            stamp: 0,
            epoch: Epoch(1),
        };
        let cluster = Cluster { world: Mutex::new(world), open_gate: watch::Sender::new(true) };
        Self::over(Arc::new(cluster), Epoch(1))
    }

    /// Another process over the same rows, with the next epoch. This one lives on as what a
    /// node is that has lost its lease and does not know it.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut world = self.world();
        world.epoch = world.epoch.next();
        let epoch = world.epoch;
        drop(world);
        Self::over(Arc::clone(&self.cluster), epoch)
    }

    /// Another node over the same rows, beside this one. It takes no epoch away: epochs come
    /// from claims, and its journal depends on the lease that it joins with.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self::over(Arc::clone(&self.cluster), self.epoch)
    }

    fn over(cluster: Arc<Cluster>, epoch: Epoch) -> Self {
        let (activations, floors, lease) = Default::default();
        Self { cluster, activations, floors, lease, epoch }
    }

    /// The journal of this handle depends on this lease from here on.
    pub(crate) fn hold(&self, lease: &LeaseRow) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.clone());
    }

    /// Whether this handle has joined under another boot id.
    pub(crate) fn holds_another(&self, boot_id: Uuid) -> bool {
        let held = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().is_some_and(|held| held.boot_id != boot_id)
    }

    /// Whether this node must not write under this epoch any more.
    pub(crate) fn is_over(&self, world: &World, shard: ShardId, epoch: Epoch) -> bool {
        let lost = |held: &LeaseRow| {
            let now = world.leases.get(&held.node);
            now.is_none_or(|now| now.inc != held.inc || now.state == NodeState::Dead)
        };
        let held = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        world.epoch > epoch || !self.floors.admits(shard, epoch) || held.as_ref().is_some_and(lost)
    }

    /// The epoch to open journals with.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// All traits of this store.
    #[must_use]
    pub fn stores(&self) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            journal: this.clone(),
            wake: this.clone(),
            directory: this.clone(),
            projections: this.clone(),
            blobs: this.clone(),
            dead_letters: this.clone(),
            inventory: this,
            boot_epoch: self.epoch,
        }
    }

    /// Changes how the replicas misbehave from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world().dice.faults = faults;
    }

    /// Cuts a replica off, or lets it answer again. It keeps what it has.
    ///
    /// # Panics
    /// If there is no replica of this number.
    pub fn set_replica_down(&self, replica: usize, down: bool) {
        self.world().dice.down[replica] = down;
    }

    /// Holds back all appends after they were handed over, or lets them go on: what a slow
    /// store looks like to an actor.
    pub fn hold_appends(&self, hold: bool) {
        self.cluster.open_gate.send_replace(!hold);
    }

    /// How many appends are held back, of all entities.
    #[must_use]
    pub fn held_appends(&self) -> usize {
        // Each of them, and nobody else, holds a receiver of the gate.
        if *self.cluster.open_gate.borrow() { 0 } else { self.cluster.open_gate.receiver_count() }
    }

    /// Lets the next append fail in this way; several calls queue up.
    pub fn fail_next_append(&self, failure: ScriptedFailure) {
        self.world().dice.scripted.push_back(failure);
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.cluster.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn gate(&self) {
        let mut open = self.cluster.open_gate.subscribe();
        // An error would mean that the sender is gone; it lives in the same cluster as `self`.
        let _ = open.wait_for(|open| *open).await;
    }
}

impl World {
    /// A write time that is later than all before it, on every node.
    pub(crate) fn stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }
}
