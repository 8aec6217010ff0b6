//! What Router, Shards and entities of one host share.

use std::{
    collections::BTreeSet,
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ractor::ActorRef;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use troupe_actor::{ActorTree, RateLimit};
use troupe_store::Stores;
use troupe_types::{
    Clock, EntityId, EntityKind, Epoch, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId, Timestamp,
};

use super::{HostParts, StartError, actor::HostMsg};
use crate::{
    kind::{Kind, RegisteredKind},
    options::HostOptions,
    placement::{NotOwner, Owner, Placement},
    router::Router,
    shard::{Nudge, Shard, slot::Census},
};

/// All Shards there are; those of other nodes stay empty places.
const SHARDS: usize = SHARDS_GENERAL as usize + SHARDS_KNOWLEDGE as usize;
/// Places for kinds, by their numbers.
const KINDS: usize = 16;
/// Wake rows that were just written and wait for the wake loop.
const NOTES_MAX: usize = 4_096;

/// What became of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It is on its way.
    Now,
    /// The Shard is this node's, but something from before is still active.
    Later,
    /// Nobody here makes such ones, or the Shard is not this node's.
    NotHere,
}

/// Lets activations pass at their rate and number.
#[derive(Debug)]
pub(crate) struct ActivationGate {
    rate: RateLimit,
    at_once: Arc<Semaphore>,
}

impl ActivationGate {
    fn new(per_second: NonZeroU32, burst: NonZeroU32, at_once: usize) -> Self {
        let at_once = Arc::new(Semaphore::new(at_once));
        Self { rate: RateLimit::new(per_second, burst), at_once }
    }

    /// Waits for its turn; the activation is under way until the pass is dropped.
    pub(crate) async fn pass(&self) -> Option<OwnedSemaphorePermit> {
        let pass = Arc::clone(&self.at_once).acquire_owned().await.ok();
        self.rate.ready().await;
        pass
    }
}

/// The shared part of a host.
pub(crate) struct HostShared {
    pub(crate) options: HostOptions,
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) router: Router,
    pub(crate) tree: ActorTree,
    pub(crate) gate: ActivationGate,
    pub(crate) census: Census,
    /// There are too many in memory: look for idle ones at once.
    pub(crate) sweep_soon: Notify,
    placement: Arc<dyn Placement>,
    kinds: [Option<Kind>; KINDS],
    shards: Box<[OnceLock<Arc<Shard>>]>,
    actor: OnceLock<ActorRef<HostMsg>>,
    draining: AtomicBool,
    /// Shards that came to this node: read their wake rows.
    claimed: Mutex<BTreeSet<ShardId>>,
    /// One was added.
    pub(crate) claims: Notify,
    notes: mpsc::Sender<(EntityId, Timestamp)>,
    /// A note was lost: read the wake index again.
    pub(crate) note_lost: AtomicBool,
}

impl fmt::Debug for HostShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostShared").finish_non_exhaustive()
    }
}

impl HostShared {
    #[expect(clippy::type_complexity, reason = "the second part goes to the wake loop at once")]
    pub(crate) fn new(
        parts: HostParts,
        registered: Vec<RegisteredKind>,
    ) -> Result<(Arc<Self>, mpsc::Receiver<(EntityId, Timestamp)>), StartError> {
        let HostParts { options, stores, clock, placement, router, tree } = parts;
        let mut kinds = [const { None }; KINDS];
        for kind in registered {
            let number = kind.0.kind();
            let place = &mut kinds[usize::from(number.code())];
            if place.is_some() {
                return Err(StartError::Twice(number));
            }
            *place = Some(Kind::new(kind));
        }
        let (notes, noted) = mpsc::channel(NOTES_MAX);
        let gate = ActivationGate::new(
            options.activations_per_second,
            options.activations_burst,
            options.activations_at_once,
        );
        // Some of them wait for an activation, or after a crash.
        let census = Census::new(options.activations_max.saturating_mul(2));
        let shared = Self {
            options,
            stores,
            clock,
            router,
            tree,
            gate,
            census,
            sweep_soon: Notify::new(),
            placement,
            kinds,
            shards: (0..SHARDS).map(|_| OnceLock::new()).collect(),
            actor: OnceLock::new(),
            draining: AtomicBool::new(false),
            claimed: Mutex::default(),
            claims: Notify::new(),
            notes,
            note_lost: AtomicBool::new(false),
        };
        Ok((Arc::new(shared), noted))
    }

    pub(crate) fn set_actor(&self, actor: ActorRef<HostMsg>) {
        let first = self.actor.set(actor).is_ok();
        debug_assert!(first, "a host has one actor");
    }

    pub(crate) fn kind(&self, kind: EntityKind) -> Option<&Kind> {
        self.kinds[usize::from(kind.code())].as_ref()
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter().flatten()
    }

    /// Who owns a Shard, as far as placement knows.
    pub(crate) fn owner(&self, shard: ShardId) -> Owner {
        self.placement.owner(shard)
    }

    /// A message waits for a Shard that has no owner.
    pub(crate) fn wanted(&self, shard: ShardId) {
        self.placement.wanted(shard);
    }

    /// The epoch under which this node owns a Shard.
    fn owned(&self, shard: ShardId) -> Result<Epoch, NotOwner> {
        match self.placement.owner(shard) {
            Owner::Here(epoch) => Ok(epoch),
            Owner::There(node, epoch) => Err(NotOwner { shard, owner: Some(node), epoch }),
            Owner::Nobody => Err(NotOwner { shard, owner: None, epoch: Epoch::ZERO }),
        }
    }

    /// Whether an activation under this epoch may handle a message now.
    pub(crate) fn may_handle(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.placement.owner(shard) == Owner::Here(epoch)
    }

    /// A Shard that this node owns, made on first use.
    pub(crate) fn shard(&self, id: ShardId) -> Result<&Arc<Shard>, NotOwner> {
        let epoch = self.owned(id)?;
        let place = self.shards.get(usize::from(id.0));
        let place = place.ok_or(NotOwner { shard: id, owner: None, epoch })?;
        let backoff = (self.options.backoff_min, self.options.backoff_max);
        let shard = place.get_or_init(|| {
            let shard = Shard::new(id, epoch, self.census.clone(), backoff);
            if self.is_draining() {
                shard.lock().begin_drain();
            }
            Arc::new(shard)
        });
        if (shard.epoch() != epoch || shard.reopens()) && !shard.adopt(epoch, self.is_draining()) {
            // It was lost and claimed again; what is active here is of the older claim.
            return Err(NotOwner { shard: id, owner: None, epoch });
        }
        Ok(shard)
    }

    /// A Shard that this node owns, or owned and used.
    pub(crate) fn known(&self, id: ShardId) -> Option<Arc<Shard>> {
        let owned = self.shard(id).ok().map(Arc::clone);
        owned.or_else(|| self.shards.get(usize::from(id.0))?.get().map(Arc::clone))
    }

    /// The Shards that this node owns.
    pub(crate) fn owned_shards(&self) -> Vec<ShardId> {
        let all = 0..SHARDS_GENERAL + SHARDS_KNOWLEDGE;
        all.map(ShardId).filter(|shard| self.owned(*shard).is_ok()).collect()
    }

    /// The Shards that were ever used.
    pub(crate) fn used_shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.iter().filter_map(OnceLock::get)
    }

    pub(crate) fn nudge(&self, shard: &Arc<Shard>, nudge: Nudge) {
        match nudge {
            Nudge::Nothing => {}
            Nudge::Look(actor) => {
                // A Shard's actor that is gone is started again, and looks by itself.
                let _ = actor.send_message(crate::shard::actor::ShardMsg::Look);
            }
            Nudge::Start => {
                let start = HostMsg::Start(shard.id);
                let told = self.actor.get().is_some_and(|host| host.send_message(start).is_ok());
                if !told {
                    shard.lock().actor_gone();
                }
            }
        }
    }

    /// Has an entity woken.
    pub(crate) fn wake(&self, id: EntityId) -> Woken {
        let is_here = matches!(self.owner(id.shard()), Owner::Here(_));
        if !is_here || self.kind(id.kind).is_none() {
            return Woken::NotHere;
        }
        let Ok(shard) = self.shard(id.shard()) else { return Woken::Later };
        let nudge = shard.lock().wake(id, self.clock.mono());
        self.nudge(shard, nudge);
        Woken::Now
    }

    /// A Shard came to this node, or is taken up again.
    pub(crate) fn claimed(&self, shard: ShardId) {
        if let Some(shard) = self.shards.get(usize::from(shard.0)).and_then(OnceLock::get) {
            shard.reopen();
        }
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        self.claims.notify_one();
    }

    /// The Shards that came since the last call.
    pub(crate) fn take_claimed(&self) -> BTreeSet<ShardId> {
        std::mem::take(&mut self.claimed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops what is active of a Shard, at once: it is not this node's any more.
    pub(crate) fn lost(shard: &Shard) {
        let mut table = shard.lock();
        table.release();
        table.close_all();
    }

    pub(crate) fn note_wake(&self, entity: EntityId, due: Timestamp) {
        if self.notes.try_send((entity, due)).is_err() {
            self.note_lost.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        for shard in self.used_shards() {
            shard.lock().begin_drain();
        }
    }

    pub(crate) fn drain_step(&self) -> usize {
        self.used_shards().map(|shard| shard.lock().drain_step()).sum()
    }

    pub(crate) fn entities(&self) -> usize {
        self.used_shards().map(|shard| shard.lock().slots().count()).sum()
    }

    pub(crate) fn close_all(&self) {
        for shard in self.used_shards() {
            shard.lock().close_all();
        }
    }

    /// Answers everyone who still waits.
    pub(crate) fn forget_all(&self) {
        self.draining.store(true, Ordering::Release);
        for shard in self.used_shards() {
            let mut table = shard.lock();
            table.begin_drain();
            table.actor_gone();
        }
    }
}
