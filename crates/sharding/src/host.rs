//! The host of this node's Shards: starts, watches, empties and ends them.

mod actor;
pub(crate) mod shared;
pub(crate) mod stats;
mod sweep;

use std::{fmt, sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use troupe_actor::{ActorTree, TaskHandle, settle, spawn_task, stop_within};
use troupe_store::Stores;
use troupe_types::{Clock, EntityId, EntityKind, ShardId, Timestamp};

use self::{
    actor::{HostActor, HostMsg},
    shared::HostShared,
};
use crate::{
    kind::RegisteredKind,
    metrics,
    options::{HostOptions, InvalidOption},
    placement::Placement,
    router::Router,
    wake::WakeLoop,
};

/// What is written may be finished within this once a step that took too long is interrupted.
const INTERRUPT_MAX: Duration = Duration::from_secs(1);

/// Why a host did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Options that make no sense.
    #[error("{} of the shard host's options are invalid, the first: {first}", .count)]
    Options {
        /// How many.
        count: usize,
        /// The first of them.
        first: InvalidOption,
    },
    /// Two factories of one kind.
    #[error("the kind {} is registered twice", .0.name())]
    Twice(EntityKind),
    /// The router belongs to a running host.
    #[error("the router has a host already")]
    RouterTaken,
    /// The actor did not start.
    #[error("the host's actor did not start")]
    Actor(#[source] ractor::SpawnErr),
}

/// What a host works with.
#[derive(Debug)]
pub struct HostParts {
    /// Limits and times.
    pub options: HostOptions,
    /// Storage; entities get it, the host reads the wake index and writes dead letters.
    pub stores: Stores,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who owns which Shard, and under which epoch; [`OneNode`](crate::OneNode) today.
    pub placement: Arc<dyn Placement>,
    /// The router that will reach this host's entities; make it first if factories need it.
    pub router: Router,
    /// Where its actors are listed.
    pub tree: ActorTree,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// Activations that were not idle at the deadline and were closed all the same.
    pub forced: usize,
    /// Activations that did not even close in time and were dropped.
    pub dropped: usize,
}

impl DrainOutcome {
    /// Whether everything came to rest by itself.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.forced == 0 && self.dropped == 0
    }
}

/// The Shards of this node. Dropped without [`drain`](Self::drain) it ends everything at once,
/// as a crash of the process would.
pub struct ShardHost {
    shared: Arc<HostShared>,
    actor: ActorRef<HostMsg>,
    stop: CancellationToken,
    loops: Vec<TaskHandle>,
}

impl fmt::Debug for ShardHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHost").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl ShardHost {
    /// Starts the host and begins to wake what is due. Install the metrics recorder before.
    ///
    /// # Errors
    /// See [`StartError`]; nothing was started.
    pub async fn start(
        parts: HostParts,
        kinds: Vec<RegisteredKind>,
    ) -> Result<(Self, Router), StartError> {
        let faults = parts.options.validate();
        if let Some(first) = faults.first() {
            return Err(StartError::Options { count: faults.len(), first: *first });
        }
        if parts.router.is_attached() {
            return Err(StartError::RouterTaken);
        }
        metrics::describe();
        let router = parts.router.clone();
        let (shared, notes) = HostShared::new(parts, kinds)?;
        let entry = shared.tree.add("shard host", None);
        let (actor, _) = Actor::spawn(None, HostActor(Arc::clone(&shared)), entry)
            .await
            .map_err(StartError::Actor)?;
        shared.set_actor(actor.clone());
        router.attach(Arc::clone(&shared));
        let stop = CancellationToken::new();
        let wake = WakeLoop::new(Arc::clone(&shared), notes);
        let loops = vec![
            spawn_task("shard sweep", sweep::run(Arc::clone(&shared), stop.clone())),
            spawn_task("wake loop", wake.run(stop.clone())),
        ];
        Ok((Self { shared, actor, stop, loops }, router))
    }

    /// A router to this host's entities.
    #[must_use]
    pub fn router(&self) -> Router {
        self.shared.router.clone()
    }

    /// See [`Router::note_wake`].
    pub fn note_wake(&self, entity: EntityId, due: Timestamp) {
        self.shared.note_wake(entity, due);
    }

    /// Lets go of a Shard, for a planned move or because its claim is lost: everything of it that
    /// is active is told to drain and closed, at the deadline as it is. Meanwhile and afterwards
    /// messages to it go to its next owner, or wait until placement names one. It is taken up
    /// again as soon as placement names this node under a newer epoch.
    ///
    /// Takes at most `deadline`, and a few seconds for what has to be forced.
    pub async fn release(&self, shard: ShardId, deadline: Duration) -> DrainOutcome {
        self.release_from(shard, deadline, true).await
    }

    /// `settled`: no run is under way in it.
    async fn release_from(
        &self,
        shard: ShardId,
        deadline: Duration,
        settled: bool,
    ) -> DrainOutcome {
        let mut outcome = DrainOutcome { forced: 0, dropped: 0 };
        let Some(shard) = self.shared.known(shard) else { return outcome };
        shard.lock().release();
        if !settled {
            // Their steps would not be over later either, and nobody sees anything of them
            // meanwhile. The other entities of the Shard have their time.
            if settle(INTERRUPT_MAX.min(deadline), || shard.lock().drain_step() == 0).await {
                return outcome;
            }
            outcome.forced = shard.lock().close_unsettled();
        }
        if settle(deadline, || shard.lock().drain_step() == 0).await {
            return outcome;
        }
        let left = || shard.lock().slots().count();
        outcome.forced += left();
        shard.lock().close_all();
        let grace = self.shared.options.close_deadline + Duration::from_secs(1);
        if !settle(grace, || left() == 0).await {
            outcome.dropped = left();
            outcome.forced -= outcome.dropped.min(outcome.forced);
            tracing::warn!(shard = %shard.id, left = outcome.dropped, "entities did not close");
        }
        outcome
    }

    /// Has the runs of a Shard end with their step, for at most `step_max`, while its messages
    /// are answered as ever; then [`release`](Self::release)s it within `drain_max`.
    ///
    /// Dropped before it is done, the Shard is in between: [`claimed`](Self::claimed) takes it up
    /// again.
    pub async fn hand_over(
        &self,
        shard: ShardId,
        step_max: Duration,
        drain_max: Duration,
    ) -> DrainOutcome {
        // What is not over by then is interrupted, and goes on at its last finished step.
        let settled = match self.shared.known(shard) {
            Some(known) => settle(step_max, || known.lock().settle()).await,
            None => true,
        };
        self.release_from(shard, drain_max, settled).await
    }

    /// A Shard came to this node, or one that it let go of, or dropped, stays: it is taken up as
    /// soon as nothing from before is active, and what is due in it is woken. Never for an epoch
    /// under which a move was sent to the store.
    pub fn claimed(&self, shard: ShardId) {
        self.shared.claimed(shard);
    }

    /// Drops everything of a Shard that is active, at once: it is another node's by now.
    pub fn lost(&self, shard: ShardId) {
        if let Some(shard) = self.shared.known(shard) {
            HostShared::lost(&shard);
        }
    }

    /// Drops everything that is active, at once: the node's lease is over.
    pub fn fence(&self) {
        self.shared.used_shards().for_each(|shard| HostShared::lost(shard));
    }

    /// Ends the host in order: new asks get `NotDelivered`, every activation is told to drain,
    /// and closed once it is idle and its queue is empty. What is not idle at the deadline is
    /// closed as it is; it comes back by the wake index. Entities reach each other meanwhile, as
    /// long as the other one is there.
    ///
    /// Takes at most `deadline`, and a few seconds for what has to be forced. The host cannot be
    /// used again.
    pub async fn drain(&self, deadline: Duration) -> DrainOutcome {
        self.stop.cancel();
        self.shared.begin_drain();
        let mut outcome = DrainOutcome { forced: 0, dropped: 0 };
        if !settle(deadline, || self.shared.drain_step() == 0).await {
            outcome.forced = self.shared.entities();
            tracing::warn!(left = outcome.forced, "closing entities that are not idle");
            self.shared.close_all();
            let grace = self.shared.options.close_deadline + Duration::from_secs(1);
            if !settle(grace, || self.shared.entities() == 0).await {
                outcome.dropped = self.shared.entities();
                outcome.forced -= outcome.dropped.min(outcome.forced);
                tracing::warn!(left = outcome.dropped, "dropping entities that did not close");
            }
        }
        self.shared.router.detach();
        stop_within(&self.actor, Duration::from_secs(5)).await;
        self.shared.forget_all();
        outcome
    }
}

impl Drop for ShardHost {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.loops {
            task.abort();
        }
        self.shared.router.detach();
        self.actor.kill();
        self.shared.forget_all();
    }
}
