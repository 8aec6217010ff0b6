//! What a Shard knows of one entity.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use troupe_actor::{Backoff, Strikes};
use troupe_types::{EntityId, MonoTime, limits::ENTITY_QUEUE_MAX};

use super::{ACTIVATION_TRIES, Poison};
use crate::{
    activation::{Live, Tell},
    entity::Crash,
    letter::Letter,
};

/// How far an entity is.
#[derive(Debug)]
pub(crate) enum Doing {
    /// Just made; nobody asked for an activation yet.
    New,
    /// Waits for its Shard's actor.
    Wanted,
    /// Its activation is under way.
    Starting,
    /// Its actor takes work.
    Live { actor: Box<dyn Live>, since: MonoTime },
    /// Its actor closes; work waits for the next one.
    Closing,
    /// After a crash; when `over`, the next message activates it.
    Resting { over: bool },
}

/// What went wrong with an entity lately.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) backoff: Backoff,
    /// Activations that failed in a row.
    pub(crate) failures: u32,
    pub(crate) restarts: u64,
    pub(crate) last_error: String,
}

impl Trouble {
    pub(crate) fn new(id: EntityId, (min, max): (Duration, Duration)) -> Box<Self> {
        let (high, low) = id.id.as_u64_pair();
        let backoff = Backoff::bounded(min, max, max, high ^ low);
        Box::new(Self { backoff, failures: 0, restarts: 0, last_error: String::new() })
    }
}

/// Counts the entities in memory, of all Shards of a host.
#[derive(Clone, Debug)]
pub(crate) struct Census {
    count: Arc<AtomicUsize>,
    max: usize,
}

impl Census {
    pub(crate) fn new(max: usize) -> Self {
        Self { count: Arc::default(), max }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.max
    }

    /// Whether half of the places are taken: as many as activations are kept. What does not need
    /// to be in memory is better left out then.
    pub(crate) fn is_crowded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.max / 2
    }

    /// Counts one more until it is dropped; `None`: there are as many as there may be.
    fn enter(&self) -> Option<Counted> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Counted(Arc::clone(&self.count)))
    }
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One entity of a Shard.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) doing: Doing,
    pub(crate) generation: u64,
    pub(crate) queue: VecDeque<Letter>,
    /// The message whose handler runs.
    pub(crate) at_hand: Option<Letter>,
    /// `wake()` is to be called.
    pub(crate) wake: bool,
    pub(crate) wake_at_hand: bool,
    /// It is to come back after its end.
    pub(crate) again: bool,
    wake_strikes: Strikes,
    /// The actor knows that there is work, or is at it.
    pub(crate) fed: bool,
    /// It was told to drain, and no run of it is under way.
    pub(crate) settled: bool,
    /// It was told to drain for a move that was called off: it begins anew once its run's step
    /// is over.
    pub(crate) renews: bool,
    /// It was asked to passivate and has not answered.
    pub(crate) asked: bool,
    pub(crate) last_used: MonoTime,
    /// It was not idle; ask again after this.
    pub(crate) look_after: MonoTime,
    places: Arc<Semaphore>,
    pub(crate) trouble: Option<Box<Trouble>>,
    #[expect(dead_code, reason = "held for its drop")]
    counted: Counted,
}

impl Slot {
    /// `None`: there are too many in memory.
    pub(crate) fn new(census: &Census, now: MonoTime) -> Option<Self> {
        let counted = census.enter()?;
        Some(Self {
            doing: Doing::New,
            generation: 0,
            queue: VecDeque::new(),
            at_hand: None,
            wake: false,
            wake_at_hand: false,
            again: false,
            wake_strikes: Strikes::NONE,
            fed: false,
            settled: false,
            renews: false,
            asked: false,
            last_used: now,
            look_after: now,
            places: Arc::new(Semaphore::new(ENTITY_QUEUE_MAX)),
            trouble: None,
            counted,
        })
    }

    /// A place in the queue. When it is full, those whose callers are gone make room.
    pub(crate) fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        // A withdrawn message has given back its place but still lies in the queue.
        if self.queue.len() >= ENTITY_QUEUE_MAX {
            self.forget_settled();
        }
        Some(place)
    }

    /// Messages that are admitted and not answered.
    pub(crate) fn unanswered(&self) -> usize {
        ENTITY_QUEUE_MAX.saturating_sub(self.places.available_permits())
    }

    /// Whether it is pointless to wait for the next try of its activation.
    pub(crate) fn is_hopeless(&self) -> bool {
        matches!(self.doing, Doing::Resting { over: false })
            && self.trouble.as_ref().is_some_and(|trouble| trouble.failures >= ACTIVATION_TRIES)
    }

    pub(crate) fn has_work(&self) -> bool {
        self.wake || !self.queue.is_empty()
    }

    /// Throws out messages whose callers are gone.
    pub(crate) fn forget_settled(&mut self) {
        self.queue.retain(|letter| !letter.is_settled());
    }

    /// The handler of the message at hand returned.
    pub(crate) fn handled(&mut self) {
        self.at_hand = None;
        if self.wake_at_hand {
            self.wake_at_hand = false;
            self.wake_strikes = Strikes::NONE;
        }
    }

    /// Whether nothing is known to keep it from being idle.
    pub(crate) fn may_be_idle(&self) -> bool {
        matches!(self.doing, Doing::Live { .. }) && !self.fed && !self.asked && !self.has_work()
    }

    pub(crate) fn ask_to_passivate(&mut self) {
        if let Doing::Live { actor, .. } = &self.doing {
            self.asked = actor.tell(Tell::Passivate);
        }
    }

    /// Closes it, and has it woken anew.
    pub(crate) fn begin_again(&mut self) {
        if let Doing::Live { actor, .. } = &self.doing {
            self.again = true;
            actor.tell(Tell::Close);
        }
    }

    /// Whether there is nothing left to remember.
    pub(crate) fn is_over(&self, now: MonoTime) -> bool {
        matches!(self.doing, Doing::Resting { over: true })
            && !self.has_work()
            && self.trouble.as_ref().is_none_or(|trouble| trouble.backoff.is_calm(now))
    }

    /// Its actor went down with its Shard's.
    pub(crate) fn begin_anew(&mut self) {
        // What was active may have had work of its own.
        self.wake |= matches!(self.doing, Doing::Starting | Doing::Live { .. });
        self.doing = Doing::Wanted;
        self.generation = 0;
        self.fed = false;
        self.asked = false;
        self.wake |= self.wake_at_hand;
        self.wake_at_hand = false;
    }

    /// Decides what becomes of the message at hand after a crash, and has the next activation
    /// woken. Answers what is given up.
    pub(crate) fn blame(&mut self, crash: Crash) -> Option<Poison> {
        let Crash { reason, blameless } = crash;
        let woke = std::mem::take(&mut self.wake_at_hand);
        if woke && !blameless && self.wake_strikes.add() {
            let strikes = self.wake_strikes.count();
            self.wake_strikes = Strikes::NONE;
            return Some(Poison { letter: None, strikes, reason });
        }
        self.wake = true;
        let mut letter = self.at_hand.take()?;
        if !letter.take_back() {
            return None;
        }
        if blameless || !letter.strike() {
            self.queue.push_front(letter);
            return None;
        }
        Some(Poison { strikes: letter.strikes(), letter: Some(letter), reason })
    }
}
