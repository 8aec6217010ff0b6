//! A Shard: the entities of one hash slice, their queues, and what each is about to do.
//!
//! All decisions are made in [`Table`], under one lock and without waiting; the Shard actor and
//! the entity actors carry them out.

pub(crate) mod actor;
pub(crate) mod slot;
pub(crate) mod table;

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::ActorRef;
use troupe_telemetry::TraceParent;
use troupe_types::{Epoch, ShardId};

use self::{actor::ShardMsg, slot::Census, table::Table};
use crate::{
    entity::{Crash, Reply},
    letter::{Content, Letter},
};

/// Failed activations in a row after which nobody is kept waiting.
pub(crate) const ACTIVATION_TRIES: u32 = 3;

/// A Shard of this node.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    /// The claim under which this node owns it.
    epoch: AtomicU64,
    /// It was let go of and is this node's again under the same claim: taken up as soon as
    /// nothing of it is active any more.
    reopens: AtomicBool,
    table: Mutex<Table>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shard {
    pub(crate) fn new(
        id: ShardId,
        epoch: Epoch,
        census: Census,
        backoff: (Duration, Duration),
    ) -> Self {
        let table = Table::new(census, backoff);
        let (epoch, reopens) = (AtomicU64::new(epoch.0), AtomicBool::new(false));
        Self { id, epoch, reopens, table: Mutex::new(table) }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// See [`adopt`](Self::adopt).
    pub(crate) fn reopens(&self) -> bool {
        self.reopens.load(Ordering::Acquire)
    }

    /// Has the Shard taken up again under the claim that it was let go of under.
    pub(crate) fn reopen(&self) {
        self.lock().unsettle();
        self.reopens.store(true, Ordering::Release);
    }

    /// Takes the Shard up under a newer claim, or once more. `false`: something from before is
    /// still active; it is told to close.
    pub(crate) fn adopt(&self, epoch: Epoch, draining: bool) -> bool {
        let mut table = self.lock();
        if epoch < self.epoch() || (epoch == self.epoch() && !self.reopens()) {
            return epoch == self.epoch();
        }
        if epoch == self.epoch() && !table.is_released() {
            self.reopens.store(false, Ordering::Release);
            return true;
        }
        if !table.resume(draining) {
            if !table.is_released() {
                table.release();
                table.close_all();
            }
            return false;
        }
        self.epoch.store(epoch.0, Ordering::Release);
        self.reopens.store(false, Ordering::Release);
        true
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do after the lock is released.
#[derive(Debug)]
#[must_use]
pub(crate) enum Nudge {
    Nothing,
    /// Have the Shard's actor started.
    Start,
    /// Tell it to look at what is wanted.
    Look(ActorRef<ShardMsg>),
}

/// One thing to hand to an entity.
#[derive(Debug)]
pub(crate) enum Work {
    Wake,
    Letter(Content, Reply, Option<TraceParent>),
}

/// How an activation ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As planned, or killed with its Shard.
    Stopped,
    /// By a crash of the entity, or of its activation.
    Crashed(Crash),
}

/// What the end of an activation leads to.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// A message that was given up.
    pub(crate) poison: Option<Poison>,
    /// Look at the entity again after this time.
    pub(crate) retry: Option<Duration>,
    /// The entity is wanted again at once.
    pub(crate) look: bool,
    /// It was the activation itself that failed.
    pub(crate) in_activation: bool,
    /// Its wake-up is out of memory: have it woken again after a while.
    pub(crate) wake_later: bool,
}

/// A message that was given up.
#[derive(Debug)]
pub(crate) struct Poison {
    /// `None`: a wake-up.
    pub(crate) letter: Option<Letter>,
    pub(crate) strikes: u32,
    pub(crate) reason: String,
}
