//! Numbers for `/metrics`, the administrator's pages and tests.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use troupe_actor::{ActorInfo, settle};
use troupe_types::{EntityId, EntityKind, MonoTime, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId};

use super::{
    ShardHost,
    shared::{HostShared, Woken},
};
use crate::{
    placement::Owner,
    shard::{
        Shard,
        slot::{Doing, Slot},
    },
};

/// How long it is waited for an entity that was asked to passivate.
const PASSIVATED_IN: Duration = Duration::from_secs(2);

/// Numbers of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Live activations.
    pub live: usize,
    /// Entities that wait for an activation, or are in one.
    pub starting: usize,
    /// Entities that wait after a crash, or are remembered because of one.
    pub resting: usize,
    /// Messages in queues.
    pub queued: usize,
    /// Messages without an answer, queued ones included.
    pub unanswered: usize,
    /// Crashes and failed activations since the start of the host.
    pub restarts: u64,
    /// Asks through this host's Router that were refused because a queue or the memory was full,
    /// since the start of the host.
    pub overloaded: u64,
}

/// Numbers of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostStats {
    /// By kind; kinds that are registered are always there.
    pub kinds: BTreeMap<EntityKind, KindStats>,
    /// Entities that are in memory in any way; idle ones are not.
    pub entities: usize,
    /// Shards with entities in memory.
    pub shards: usize,
    /// It takes nothing new.
    pub draining: bool,
}

/// What is known of one entity in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityInfo {
    /// Which.
    pub entity: EntityId,
    /// Where.
    pub shard: ShardId,
    /// `live`, `starting`, `closing` or `resting`.
    pub state: &'static str,
    /// How long it has been live.
    pub age: Option<Duration>,
    /// Since its last message from outside or its own work in hand.
    pub unused: Duration,
    /// Messages without an answer.
    pub unanswered: usize,
    /// Crashes and failed activations since it came to memory.
    pub restarts: u64,
    /// The last of them.
    pub last_error: Option<String>,
}

const fn state_name(doing: &Doing) -> &'static str {
    match doing {
        Doing::New | Doing::Wanted | Doing::Starting => "starting",
        Doing::Live { .. } => "live",
        Doing::Closing => "closing",
        Doing::Resting { .. } => "resting",
    }
}

impl HostShared {
    pub(crate) fn stats(&self) -> HostStats {
        let mut stats = HostStats { draining: self.is_draining(), ..HostStats::default() };
        for kind in self.kinds() {
            let of = stats.kinds.entry(kind.host.kind()).or_default();
            of.restarts = kind.restarts.load(Ordering::Relaxed);
            of.overloaded = kind.metrics.overloaded();
        }
        for shard in self.used_shards() {
            let table = shard.lock();
            let before = stats.entities;
            for (id, slot) in table.slots() {
                stats.entities += 1;
                let of = stats.kinds.entry(id.kind).or_default();
                match slot.doing {
                    Doing::Live { .. } | Doing::Closing => of.live += 1,
                    Doing::New | Doing::Wanted | Doing::Starting => of.starting += 1,
                    Doing::Resting { .. } => of.resting += 1,
                }
                of.queued += slot.queue.len();
                of.unanswered += slot.unanswered();
            }
            stats.shards += usize::from(stats.entities > before);
        }
        stats
    }
}

impl ShardHost {
    /// Entities, queues, restarts.
    #[must_use]
    pub fn stats(&self) -> HostStats {
        self.shared.stats()
    }

    /// At most `limit` entities in memory, those with the most unanswered messages first.
    #[must_use]
    pub fn entities(&self, limit: usize) -> Vec<EntityInfo> {
        self.shared.list(limit)
    }

    /// A look at this host that outlives it and does not keep it.
    #[must_use]
    pub fn watch(&self) -> HostWatch {
        HostWatch(Arc::downgrade(&self.shared))
    }
}

fn info(id: EntityId, slot: &Slot, now: MonoTime) -> EntityInfo {
    EntityInfo {
        entity: id,
        shard: id.shard(),
        state: state_name(&slot.doing),
        age: match &slot.doing {
            Doing::Live { since, .. } => Some(now.since(*since)),
            _ => None,
        },
        unused: now.since(slot.last_used),
        unanswered: slot.unanswered(),
        restarts: slot.trouble.as_ref().map_or(0, |trouble| trouble.restarts),
        last_error: slot.trouble.as_ref().map(|trouble| trouble.last_error.clone()),
    }
}

impl HostShared {
    fn list(&self, limit: usize) -> Vec<EntityInfo> {
        let now = self.clock.mono();
        let mut list = Vec::new();
        for shard in self.used_shards() {
            list.extend(shard.lock().slots().map(|(id, slot)| info(*id, slot, now)));
        }
        list.sort_by(|a, b| {
            (b.unanswered, b.restarts, a.entity).cmp(&(a.unanswered, a.restarts, b.entity))
        });
        list.truncate(limit);
        list
    }

    fn used(&self, id: EntityId) -> Option<&Arc<Shard>> {
        self.used_shards().find(|shard| shard.id == id.shard())
    }

    fn entity(&self, id: EntityId) -> Option<EntityInfo> {
        let table = self.used(id)?.lock();
        table
            .slots()
            .find(|(other, _)| **other == id)
            .map(|(_, slot)| info(id, slot, self.clock.mono()))
    }
}

/// What a host knows of one Shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Which.
    pub shard: ShardId,
    /// Who owns it, as far as this node knows.
    pub owner: Owner,
    /// Its entities in this node's memory.
    pub entities: usize,
    /// This node is letting go of it, or let go of it.
    pub is_released: bool,
}

/// What became of a wish to passivate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passivation {
    /// It is not in memory any more, or was not.
    Gone,
    /// It is not idle: something runs, waits or looks on. It stays.
    NotIdle,
}

/// Looks at a host and asks small things of it, for operators. Cheap to clone; once the host is
/// gone, everything is empty.
#[derive(Clone, Default)]
pub struct HostWatch(Weak<HostShared>);

impl fmt::Debug for HostWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostWatch").finish()
    }
}

impl HostWatch {
    /// See [`ShardHost::stats`].
    #[must_use]
    pub fn stats(&self) -> HostStats {
        self.0.upgrade().map(|host| host.stats()).unwrap_or_default()
    }

    /// See [`ShardHost::entities`].
    #[must_use]
    pub fn entities(&self, limit: usize) -> Vec<EntityInfo> {
        self.0.upgrade().map(|host| host.list(limit)).unwrap_or_default()
    }

    /// One entity; `None`: it is not in this node's memory.
    #[must_use]
    pub fn entity(&self, id: EntityId) -> Option<EntityInfo> {
        self.0.upgrade()?.entity(id)
    }

    /// Every Shard there is.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardInfo> {
        let Some(host) = self.0.upgrade() else { return Vec::new() };
        let mut list: Vec<_> = (0..SHARDS_GENERAL + SHARDS_KNOWLEDGE)
            .map(ShardId)
            .map(|shard| ShardInfo {
                shard,
                owner: host.owner(shard),
                entities: 0,
                is_released: false,
            })
            .collect();
        for shard in host.used_shards() {
            if let Some(info) = list.get_mut(usize::from(shard.id.0)) {
                let table = shard.lock();
                info.entities = table.slots().count();
                info.is_released = table.is_released();
            }
        }
        list
    }

    /// Who owns one Shard, as far as this node knows.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Owner {
        self.0.upgrade().map_or(Owner::Nobody, |host| host.owner(shard))
    }

    /// The actors of this node, parents before their children; entities are not among them.
    #[must_use]
    pub fn actors(&self) -> Vec<ActorInfo> {
        self.0.upgrade().map(|host| host.tree.list()).unwrap_or_default()
    }

    /// Has an entity closed and activated anew, at once if it rests after a crash, else when its
    /// handler has returned. Whoever waits for an answer of the old activation learns that the
    /// outcome is unknown. `false`: it is not in this node's memory.
    #[must_use]
    pub fn restart(&self, id: EntityId) -> bool {
        let Some(host) = self.0.upgrade() else { return false };
        let Some(shard) = host.used(id) else { return false };
        let nudge = shard.lock().restart(id);
        let known = nudge.is_some();
        if let Some(nudge) = nudge {
            host.nudge(shard, nudge);
        }
        known
    }

    /// Has an entity of this node woken, active or not. `false`: it does not live here.
    #[must_use]
    pub fn wake(&self, id: EntityId) -> bool {
        self.0.upgrade().is_some_and(|host| host.wake(id) != Woken::NotHere)
    }

    /// Asks an entity to leave the memory and waits up to two seconds for it.
    pub async fn passivate(&self, id: EntityId) -> Passivation {
        let asked = self.0.upgrade().is_some_and(|host| {
            let Some(shard) = host.used(id) else { return true };
            let mut table = shard.lock();
            let known = table.slots().any(|(other, _)| *other == id);
            !known || table.passivate_now(id)
        });
        let gone = asked && settle(PASSIVATED_IN, || self.entity(id).is_none()).await;
        if gone { Passivation::Gone } else { Passivation::NotIdle }
    }
}
