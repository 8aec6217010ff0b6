//! What the rest of the node sees of the cluster: who owns what, and whether its own lease holds.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc;
use troupe_placement::{LeaseView, PeerMessage};
use troupe_types::{
    Clock, Epoch, LeaseRow, MonoTime, NodeState, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId, Uuid,
};
use troupe_wire::{Handoff, Heartbeat, Hello};

use super::{ClusterStatus, driver::Event, words};
use crate::{
    node::observer::NodeObserver,
    placement::{NodeName, Owner, Placement},
};

/// Words of peers that wait for the driver; more are dropped, as on a lossy link.
pub(super) const EVENTS_MAX: usize = 16_384;
/// Who renews is seen to within this: twice the time between two renewals.
const RENEWS_WITHIN: Duration = Duration::from_secs(5);
/// All Shards there are.
pub(super) const SHARDS: u16 = SHARDS_GENERAL + SHARDS_KNOWLEDGE;

/// The cluster as this node knows it. Read for every message, so nothing here waits. Made before
/// the store, the shard host and the node link, which all ask it; the
/// [`Membership`](super::Membership) keeps it up to date.
pub struct ClusterView {
    clock: Arc<dyn Clock>,
    owners: Box<[ArcSwap<Owner>]>,
    lease: ArcSwapOption<LeaseView>,
    unowned: AtomicUsize,
    /// Shards without owner that messages wait for, since the driver looked.
    wanted: Box<[AtomicBool]>,
    any_wanted: AtomicBool,
    status: ArcSwap<ClusterStatus>,
    pub(super) events: mpsc::Sender<Event>,
    /// Taken by the driver.
    pub(super) incoming: std::sync::Mutex<Option<mpsc::Receiver<Event>>>,
}

impl fmt::Debug for ClusterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterView").field("lease", &self.lease.load()).finish_non_exhaustive()
    }
}

impl ClusterView {
    /// A node that has not joined: it owns nothing and may handle nothing.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        Arc::new(Self {
            clock,
            owners: (0..SHARDS).map(|_| ArcSwap::from_pointee(Owner::Nobody)).collect(),
            lease: ArcSwapOption::empty(),
            unowned: AtomicUsize::new(usize::from(SHARDS)),
            wanted: (0..SHARDS).map(|_| AtomicBool::new(false)).collect(),
            any_wanted: AtomicBool::new(false),
            status: ArcSwap::default(),
            events,
            incoming: std::sync::Mutex::new(Some(incoming)),
        })
    }

    /// Whether the own lease holds right now, by this node's own clock. For the store, which
    /// asks before every write and before every ack.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.lease.load().as_ref().is_some_and(|lease| self.clock.mono() < lease.valid_until)
    }

    /// The own lease, while it holds.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseView> {
        let lease = self.lease.load();
        lease.as_ref().filter(|lease| self.clock.mono() < lease.valid_until).map(|lease| **lease)
    }

    /// Whether this node lost its lease while others go on with theirs: it alone does not reach
    /// the store. Not so while nobody does.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        let renews = |(row, since): &(LeaseRow, Duration)| {
            row.state == NodeState::Alive && *since < RENEWS_WITHIN
        };
        !self.is_valid() && self.status().leases.iter().any(renews)
    }

    /// How many Shards are this node's.
    #[must_use]
    pub fn owned(&self) -> usize {
        let here = |owner: &&ArcSwap<Owner>| matches!(**owner.load(), Owner::Here(_));
        if self.is_valid() { self.owners.iter().filter(here).count() } else { 0 }
    }

    /// The epoch under which this node owns a Shard now.
    #[must_use]
    pub fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        match self.owner(shard) {
            Owner::Here(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Shards that some node should own and none is known to.
    #[must_use]
    pub fn unowned(&self) -> usize {
        self.unowned.load(Ordering::Relaxed)
    }

    /// The lease comes before the owners: without it nothing is `Here`.
    pub(super) fn publish_lease(&self, lease: Option<LeaseView>, unowned: usize) {
        self.unowned.store(unowned, Ordering::Relaxed);
        if self.lease.load().as_deref() != lease.as_ref() {
            self.lease.store(lease.map(Arc::new));
        }
    }

    pub(super) fn publish(&self, shard: ShardId, owner: Owner) {
        self.owners[usize::from(shard.0)].store(Arc::new(owner));
    }

    /// Shards without owner that messages came for since the last call.
    pub(super) fn take_wanted(&self) -> Vec<ShardId> {
        if !self.any_wanted.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        let all = (0..SHARDS).map(ShardId).zip(&self.wanted);
        let wanted = all.filter(|(_, wanted)| wanted.swap(false, Ordering::Relaxed));
        wanted.map(|(shard, _)| shard).collect()
    }

    /// The cluster for operators, at most half a second old.
    #[must_use]
    pub fn status(&self) -> Arc<ClusterStatus> {
        self.status.load_full()
    }

    pub(super) fn show(&self, status: ClusterStatus) {
        self.status.store(Arc::new(status));
    }

    pub(super) fn mono(&self) -> MonoTime {
        self.clock.mono()
    }

    fn hear(&self, from: &NodeName, message: PeerMessage) {
        // Words may get lost; whoever sent them does not count on them.
        let _ = self.events.try_send(Event::Peer { from: from.clone(), message });
    }
}

impl Placement for ClusterView {
    fn owner(&self, shard: ShardId) -> Owner {
        let Some(place) = self.owners.get(usize::from(shard.0)) else { return Owner::Nobody };
        match &**place.load() {
            Owner::Here(epoch) if self.is_valid() => Owner::Here(*epoch),
            Owner::Here(_) => Owner::Nobody,
            other => other.clone(),
        }
    }

    fn wanted(&self, shard: ShardId) {
        if let Some(wanted) = self.wanted.get(usize::from(shard.0)) {
            wanted.store(true, Ordering::Relaxed);
            self.any_wanted.store(true, Ordering::Release);
        }
    }
}

impl NodeObserver for ClusterView {
    fn heartbeat(&self) -> Heartbeat {
        self.lease().map_or(Heartbeat { inc: 0, seq: 0 }, |lease| Heartbeat {
            inc: lease.inc.0,
            seq: lease.seq,
        })
    }

    /// As the driver has shown it, so half a second late; the driver itself hears of a new lease
    /// with its next listing.
    fn leased_boot(&self, node: &NodeName) -> Option<Uuid> {
        let status = self.status.load();
        let mut rows = status.leases.iter().map(|(row, _)| row);
        let row = rows.find(|row| row.node == *node && row.state != NodeState::Dead)?;
        Some(row.boot_id)
    }

    fn up(&self, peer: &Hello) {
        tracing::info!(peer = peer.node, build = peer.build, "linked with a peer");
    }

    fn down(&self, node: &NodeName) {
        tracing::info!(peer = %node, "the link with a peer ended");
    }

    fn heard(&self, node: &NodeName, beat: Heartbeat) {
        // A node without a lease has nothing to say about it.
        if beat.inc > 0 {
            let inc = troupe_types::Incarnation(beat.inc);
            self.hear(node, PeerMessage::Heartbeat { inc, seq: beat.seq });
        }
    }

    fn handoff(&self, node: &NodeName, handoff: Handoff) {
        if let Some(message) = words::read(handoff) {
            self.hear(node, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::{Incarnation, Roles, SystemClock};

    use super::*;

    #[test]
    fn the_link_is_for_the_boot_that_the_lease_names_while_there_is_one() {
        let view = ClusterView::new(SystemClock::shared());
        let row = |node: &str, boot, state| LeaseRow {
            node: NodeName::from(node),
            boot_id: Uuid::from_u128(boot),
            inc: Incarnation(1),
            seq: 1,
            state,
            addr: String::new(),
            build: String::new(),
            roles: Roles::ALL,
            weight: 100,
        };
        let rows = [
            row("node-1", 1, NodeState::Alive),
            row("node-2", 2, NodeState::Draining),
            row("node-3", 3, NodeState::Dead),
        ];
        let leases = rows.into_iter().map(|row| (row, Duration::ZERO)).collect();
        view.show(ClusterStatus { leases, ..ClusterStatus::default() });
        let named = |node| view.leased_boot(&NodeName::from(node)).map(|boot: Uuid| boot.as_u128());
        let all = ["node-1", "node-2", "node-3", "node-4"].map(named);
        assert_eq!(all, [Some(1), Some(2), None, None]);
    }
}
