//! What every journal store keeps per entity in its process: the newest fence, the order of
//! appends that overlap, and whether one of them failed.
//!
//! A barrier on the shard's owner cannot tell two activations on one node apart; this can.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use troupe_types::{EntityId, Epoch, Fence, Seq, limits::APPENDS_IN_FLIGHT_MAX};

use crate::error::{AppendError, InvalidAppend, OpenError, cause};

/// How long an append waits for the one before it to be handed over.
const TURN_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long an activation waits for what older ones have under way.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(15);

/// The entities that are open in this process.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    lanes: Arc<Mutex<HashMap<EntityId, Weak<Lane>>>>,
}

struct Lane {
    entity: EntityId,
    registry: Weak<Mutex<HashMap<EntityId, Weak<Lane>>>>,
    state: Mutex<LaneState>,
    changed: Notify,
}

#[derive(Debug)]
struct LaneState {
    /// The newest activation; all others are superseded.
    newest: Fence,
    /// Appends of *any* activation that were handed over and have no outcome yet.
    under_way: usize,
    /// Appends of the newest activation that wait for their turn.
    waiting: usize,
    /// An append of the newest activation has the turn and is being handed over.
    sending: bool,
    /// The last entry handed over by the newest activation.
    sent: Seq,
    /// The last entry of the newest activation that is committed.
    committed: Seq,
    /// What ended the newest activation.
    failed: Option<AppendError>,
    wrote_wake: bool,
    /// The newest activation's fence is known to be its own in the store.
    claimed: bool,
    ticks: u32,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("entity", &self.entity).finish_non_exhaustive()
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut lanes = registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Another lane may have taken the place meanwhile; that one is alive.
        if lanes.get(&self.entity).is_some_and(|lane| lane.strong_count() == 0) {
            lanes.remove(&self.entity);
        }
    }
}

impl Activations {
    /// Nothing open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an activation that holds `fence`; all older ones are superseded from here on.
    /// Await [`Activation::quiet`] before the journal is read, then [`Activation::start`].
    ///
    /// # Errors
    /// [`OpenError::Fenced`] if a newer one is registered.
    pub fn begin(
        &self,
        entity: EntityId,
        epoch: Epoch,
        fence: Fence,
    ) -> Result<Activation, OpenError> {
        let lane = self.lane(entity);
        {
            let mut state = lane.lock();
            if fence <= state.newest {
                return Err(OpenError::Fenced { entity, asked: epoch });
            }
            let under_way = state.under_way;
            *state = LaneState { newest: fence, under_way, ..LaneState::new() };
        }
        lane.changed.notify_waiters();
        Ok(Activation { lane, epoch, fence })
    }

    fn lane(&self, entity: EntityId) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&entity).and_then(Weak::upgrade) {
            return lane;
        }
        let lane = Arc::new(Lane {
            entity,
            registry: Arc::downgrade(&self.lanes),
            state: Mutex::new(LaneState::new()),
            changed: Notify::new(),
        });
        lanes.insert(entity, Arc::downgrade(&lane));
        lane
    }

    /// The fence of the newest activation in this process, zero if there is none.
    #[must_use]
    pub fn newest(&self, entity: EntityId) -> Fence {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.get(&entity).and_then(Weak::upgrade);
        drop(lanes); // Before the lane: should it be the last handle, its end takes this lock.
        lane.map_or(Fence::ZERO, |lane| lane.lock().newest)
    }

    /// How many entities have a handle, or an append under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl LaneState {
    const fn new() -> Self {
        Self {
            newest: Fence::ZERO,
            under_way: 0,
            waiting: 0,
            sending: false,
            sent: Seq::ZERO,
            committed: Seq::ZERO,
            failed: None,
            wrote_wake: false,
            claimed: false,
            ticks: 0,
        }
    }
}

/// A store's side of an open journal. Clones are the same activation.
#[derive(Clone, Debug)]
pub struct Activation {
    lane: Arc<Lane>,
    epoch: Epoch,
    fence: Fence,
}

impl Activation {
    /// Whose journal.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.lane.entity
    }

    /// The epoch it was opened under.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its fence.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether a newer activation of the entity exists in this process.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.lane.lock().newest != self.fence
    }

    /// Whether it has committed a wake row of its own.
    #[must_use]
    pub fn wrote_wake(&self) -> bool {
        let state = self.lane.lock();
        state.newest == self.fence && state.wrote_wake
    }

    /// Whether the store is known to hold this activation's fence. For stores where `open` of an
    /// entity without rows claims nothing: until its first append, another node may have chosen
    /// the same number.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        let state = self.lane.lock();
        state.newest == self.fence && state.claimed
    }

    /// The store holds this activation's fence from here on.
    pub fn set_claimed(&self) {
        let mut state = self.lane.lock();
        if state.newest == self.fence {
            state.claimed = true;
        }
    }

    /// A write time that is later than all before it, of this activation and of older ones,
    /// whatever any clock says: the fence, then a count. Below 2^63 for the first 2^31 fences.
    #[must_use]
    pub fn tick(&self) -> u64 {
        let mut state = self.lane.lock();
        if state.newest == self.fence {
            state.ticks = state.ticks.saturating_add(1);
        }
        (self.fence.0 << u32::BITS) | u64::from(state.ticks)
    }

    /// The last entry that this activation knows as committed.
    #[must_use]
    pub fn committed(&self) -> Seq {
        let state = self.lane.lock();
        if state.newest == self.fence { state.committed } else { Seq::ZERO }
    }

    /// Waits until nothing that older activations handed over is under way any more.
    ///
    /// # Errors
    /// `Fenced` if a newer activation came meanwhile; `Unavailable` after 15 s.
    pub async fn quiet(&self) -> Result<(), OpenError> {
        let (entity, asked) = (self.entity(), self.epoch);
        let quiet = wait_until(&self.lane, |state| {
            if state.newest != self.fence {
                return Some(Err(OpenError::Fenced { entity, asked }));
            }
            (state.under_way == 0).then_some(Ok(()))
        });
        let late = |_| Err(OpenError::Unavailable { source: cause("older appends still run") });
        timeout(QUIET_WAIT_MAX, quiet).await.unwrap_or_else(late)
    }

    /// The journal was read and ends at `head`.
    pub fn start(&self, head: Seq) {
        let mut state = self.lane.lock();
        if state.newest == self.fence {
            (state.sent, state.committed) = (head, head);
        }
    }

    /// Whether it may still write.
    ///
    /// # Errors
    /// `Fenced`, or what ended it.
    pub fn check(&self) -> Result<(), AppendError> {
        self.alive(&self.lane.lock())
    }

    fn alive(&self, state: &LaneState) -> Result<(), AppendError> {
        if state.newest != self.fence {
            return Err(AppendError::Fenced { entity: self.entity(), fence: self.fence });
        }
        state.failed.clone().map_or(Ok(()), Err)
    }

    /// Waits until every append before `first` was handed over. Whoever holds the turn hands
    /// its own over next.
    ///
    /// # Errors
    /// What ended the activation, or `Invalid`: too many under way, or none that leads there
    /// within 2 s.
    pub async fn turn(&self, first: Seq) -> Result<Turn, AppendError> {
        match self.try_turn(&mut self.lane.lock(), first, false) {
            Some(Ok(())) => return Ok(self.granted()),
            Some(Err(e)) => return Err(e),
            None => {}
        }
        let _waiting = self.join_waiting()?;
        let turn = wait_until(&self.lane, |state| self.try_turn(state, first, true));
        match timeout(TURN_WAIT_MAX, turn).await {
            Ok(outcome) => outcome.map(|()| self.granted()),
            Err(_) => {
                let expected = self.lane.lock().sent.next();
                Err(AppendError::Invalid(InvalidAppend::Gap { first, expected }))
            }
        }
    }

    fn join_waiting(&self) -> Result<Waiting<'_>, AppendError> {
        let mut state = self.lane.lock();
        self.alive(&state)?;
        if state.waiting + state.under_way >= APPENDS_IN_FLIGHT_MAX {
            return Err(AppendError::Invalid(InvalidAppend::TooManyInFlight));
        }
        state.waiting += 1;
        Ok(Waiting(self))
    }

    fn granted(&self) -> Turn {
        Turn(Some(Held { lane: Arc::clone(&self.lane), epoch: self.epoch, fence: self.fence }))
    }

    fn try_turn(
        &self,
        state: &mut LaneState,
        first: Seq,
        waited: bool,
    ) -> Option<Result<(), AppendError>> {
        if let Err(e) = self.alive(state) {
            return Some(Err(e));
        }
        let expected = state.sent.next();
        if first < expected {
            return Some(Err(AppendError::Invalid(InvalidAppend::Gap { first, expected })));
        }
        if first > expected || state.sending {
            return None;
        }
        if !waited && state.under_way + state.waiting >= APPENDS_IN_FLIGHT_MAX {
            return Some(Err(AppendError::Invalid(InvalidAppend::TooManyInFlight)));
        }
        state.sending = true;
        Some(Ok(()))
    }
}

async fn wait_until<T>(lane: &Lane, mut ready: impl FnMut(&mut LaneState) -> Option<T>) -> T {
    loop {
        let mut changed = pin!(lane.changed.notified());
        changed.as_mut().enable();
        if let Some(outcome) = ready(&mut lane.lock()) {
            return outcome;
        }
        changed.await;
    }
}

/// Counts an append that waits for its turn.
struct Waiting<'a>(&'a Activation);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lane.lock();
        if state.newest == self.0.fence {
            state.waiting = state.waiting.saturating_sub(1);
        }
    }
}

#[derive(Debug)]
struct Held {
    lane: Arc<Lane>,
    epoch: Epoch,
    fence: Fence,
}

/// The right to hand over the next append. Dropping it unused ends the activation: the
/// appends behind it would have nothing to follow.
#[derive(Debug)]
pub struct Turn(Option<Held>);

impl Turn {
    /// Hands the append over, whose last entry is `last`, and only then lets the next one have
    /// the turn: whatever `hand_over` does happens in order. An append without entries leaves
    /// `last` where it was.
    pub fn send<T>(mut self, last: Seq, hand_over: impl FnOnce(InFlight) -> T) -> T {
        let held = self.0.take().expect("a turn is used once");
        held.lane.lock().under_way += 1;
        let Held { lane, epoch, fence } = held;
        let activation = Activation { lane: Arc::clone(&lane), epoch, fence };
        let out = hand_over(InFlight { activation, last, settled: false });
        {
            let mut state = lane.lock();
            if state.newest == fence {
                state.sending = false;
                state.sent = state.sent.max(last);
            }
        }
        lane.changed.notify_waiters();
        out
    }

    /// The append is refused before anything went to the store; the activation is over.
    #[must_use]
    pub fn refused(mut self, error: AppendError) -> AppendError {
        if let Some(held) = self.0.take() {
            end(&held.lane, held.fence, &error, true);
        }
        error
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            let source = cause("an append was dropped before it was handed over");
            end(&held.lane, held.fence, &AppendError::Unavailable { source }, true);
        }
    }
}

fn end(lane: &Lane, fence: Fence, error: &AppendError, was_sending: bool) {
    {
        let mut state = lane.lock();
        if state.newest == fence {
            if was_sending {
                state.sending = false;
            }
            if state.failed.is_none() {
                state.failed = Some(error.clone());
            }
        }
    }
    lane.changed.notify_waiters();
}

/// An append that was handed over. Dropping it without a verdict means "outcome unknown".
#[derive(Debug)]
pub struct InFlight {
    activation: Activation,
    last: Seq,
    settled: bool,
}

impl InFlight {
    /// Its activation.
    #[must_use]
    pub const fn activation(&self) -> &Activation {
        &self.activation
    }

    /// Waits until everything before entry `first` is committed.
    ///
    /// # Errors
    /// What ended the activation.
    pub async fn predecessors(&self, first: Seq) -> Result<(), AppendError> {
        let ready = |state: &mut LaneState| {
            if let Err(e) = self.activation.alive(state) {
                return Some(Err(e));
            }
            (state.committed.next() >= first).then_some(Ok(()))
        };
        wait_until(&self.activation.lane, ready).await
    }

    /// It is committed; `wrote_wake` tells whether it inserted wake rows.
    pub fn committed(mut self, wrote_wake: bool) {
        {
            let mut state = self.activation.lane.lock();
            if state.newest == self.activation.fence {
                state.committed = state.committed.max(self.last);
                state.wrote_wake |= wrote_wake;
            }
        }
        self.settle();
    }

    /// It failed, and with it the activation.
    pub fn failed(mut self, error: &AppendError) {
        end(&self.activation.lane, self.activation.fence, error, false);
        self.settle();
    }

    fn settle(&mut self) {
        if !self.settled {
            self.settled = true;
            let mut state = self.activation.lane.lock();
            state.under_way = state.under_way.saturating_sub(1);
            drop(state);
            self.activation.lane.changed.notify_waiters();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.settled {
            let source = cause("the append was dropped while it was under way");
            let error = AppendError::OutcomeUnknown { source };
            end(&self.activation.lane, self.activation.fence, &error, false);
            self.settle();
        }
    }
}

#[cfg(test)]
mod tests;
