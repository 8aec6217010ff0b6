//! Numbers for `/metrics`, the administrator's pages and tests.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use troupe_types::{EntityId, EntityKind, ShardId};

use super::{ShardHost, shared::HostShared};
use crate::shard::slot::Doing;

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
        let now = self.shared.clock.mono();
        let mut list = Vec::new();
        for shard in self.shared.used_shards() {
            list.extend(shard.lock().slots().map(|(id, slot)| EntityInfo {
                entity: *id,
                shard: shard.id,
                state: state_name(&slot.doing),
                age: match &slot.doing {
                    Doing::Live { since, .. } => Some(now.since(*since)),
                    _ => None,
                },
                unused: now.since(slot.last_used),
                unanswered: slot.unanswered(),
                restarts: slot.trouble.as_ref().map_or(0, |trouble| trouble.restarts),
                last_error: slot.trouble.as_ref().map(|trouble| trouble.last_error.clone()),
            }));
        }
        list.sort_by(|a, b| {
            (b.unanswered, b.restarts, a.entity).cmp(&(a.unanswered, a.restarts, b.entity))
        });
        list.truncate(limit);
        list
    }
}
