//! What an entity is to its Shard.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_store::Stores;
use troupe_types::{Clock, EntityId, EntityKind, Epoch};

use crate::{
    ask::{AskError, FailedAsk},
    letter::{AskCell, PendingAnswer},
};

/// An entity gave up: its Shard drops the activation and, after a back-off, makes a new one.
/// What a caller can act on goes into the [`Reply`] instead.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Crash {
    /// Why, for the log and the dead-letter record. Never payloads.
    pub reason: String,
    /// The message at hand had no part in it (a fenced journal, a lost append): no strike.
    pub blameless: bool,
}

/// Where an answer goes. Dropped without an answer, it says `OutcomeUnknown`; unless it goes
/// down with the activation while the handler that got it still runs: then the message is fed
/// to the next activation (see the crate's page).
///
/// It holds the message's place in the entity's queue: an entity may keep replies until the
/// commit of what they saw, and at most `ENTITY_QUEUE_MAX` are under way.
#[derive(Debug)]
pub struct Reply {
    pub(crate) cell: Arc<AskCell>,
}

impl Reply {
    /// A reply and the answer it will give, for tests of an entity without a Shard.
    #[must_use]
    pub fn pair() -> (Self, PendingAnswer) {
        let (cell, answer) = AskCell::new(None);
        // As if it were handed over and its handler had returned.
        cell.hand_over();
        cell.forget();
        (Self { cell }, answer)
    }

    /// Answers well.
    pub fn ok(self, body: Bytes) {
        self.cell.answer(Ok(body));
    }

    /// Refuses: nothing happened.
    pub fn refuse(self, why: FailedAsk) {
        self.cell.answer(Err(AskError::Failed(why)));
    }

    /// Answers with any fate.
    pub fn fail(self, fate: AskError) {
        self.cell.answer(Err(fate));
    }

    /// Whether the caller stopped waiting, so that a long answer need not be made.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.cell.is_abandoned()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.cell.reply_dropped();
    }
}

/// What a subscriber receives.
#[derive(Clone, Debug)]
pub enum StreamItem {
    /// Encoded frames in order; cheap to clone.
    Frames(FrameBatch),
    /// The subscriber was too slow and is no longer subscribed: start over from a seq.
    Lagged,
    /// The activation ended (passivation, move): subscribe again from the last seq. After a
    /// crash the stream just closes, which means the same.
    Ended,
}

/// Some frames of one entity, shared between all who follow it.
pub type FrameBatch = Arc<[troupe_types::Frame]>;

/// Where an entity puts frames for one subscriber. Bounded; never waits.
#[derive(Clone, Debug)]
pub struct FrameSink {
    pub(crate) to: mpsc::Sender<StreamItem>,
}

impl FrameSink {
    /// A sink and its stream of at most `capacity` undelivered batches.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<StreamItem>) {
        // One place is kept for `Lagged`.
        let (to, stream) = mpsc::channel(capacity.max(1) + 1);
        (Self { to }, stream)
    }

    /// Undelivered batches that it holds at most.
    pub(crate) fn capacity(&self) -> usize {
        self.to.max_capacity() - 1
    }

    /// Offers a batch. `false`: the subscriber is gone or too slow (it is told so); forget it.
    #[must_use]
    pub fn offer(&self, batch: FrameBatch) -> bool {
        if self.to.capacity() > 1 {
            self.to.try_send(StreamItem::Frames(batch)).is_ok()
        } else {
            let _ = self.to.try_send(StreamItem::Lagged);
            false
        }
    }

    /// Says that the subscriber was too slow.
    pub(crate) fn lag(&self) {
        let _ = self.to.try_send(StreamItem::Lagged);
    }

    /// Says that the activation ends.
    pub fn end(&self) {
        let _ = self.to.try_send(StreamItem::Ended);
    }

    /// Whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }
}

/// A live activation of an entity. Its Shard calls one method at a time; none may take longer
/// than 2 s, so long work is spawned and reports back as an `Internal`.
#[async_trait]
pub trait Entity: Send + 'static {
    /// What its own tasks and timers tell it.
    type Internal: Send + 'static;

    /// A message from outside.
    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash>;

    /// Somebody wants its frames; `body` says from where.
    async fn subscribe(&mut self, body: Bytes, sink: FrameSink, reply: Reply) -> Result<(), Crash>;

    /// A message from its own tasks or timers.
    async fn internal(&mut self, message: Self::Internal) -> Result<(), Crash>;

    /// Something in the wake index is due, or the Shard was just claimed.
    async fn wake(&mut self) -> Result<(), Crash>;

    /// Whether it may be unloaded: no run, no viewer, no uncommitted entry.
    fn is_idle(&self) -> bool;

    /// Stop taking on work: let runs end at the end of their step. `is_idle` says when done.
    /// May be called more than once; messages are still answered.
    async fn drain(&mut self) -> Result<(), Crash>;

    /// Whether a run is under way whose step a planned move waits for.
    fn is_running(&self) -> bool {
        false
    }

    /// Last call before it is dropped, after `is_idle` or on shutdown.
    async fn close(&mut self);
}

/// Sends an entity its own messages; bounded by permits.
pub struct InternalSender<M> {
    pub(crate) deliver: Arc<dyn Fn(M) -> bool + Send + Sync>,
    pub(crate) permits: Arc<tokio::sync::Semaphore>,
}

impl<M> Clone for InternalSender<M> {
    fn clone(&self) -> Self {
        Self { deliver: Arc::clone(&self.deliver), permits: Arc::clone(&self.permits) }
    }
}

impl<M> fmt::Debug for InternalSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalSender")
    }
}

impl<M: Send + 'static> InternalSender<M> {
    /// Internal messages that may hold a permit at once.
    pub const PERMITS: usize = 256;

    /// A sender that calls `deliver`, which answers whether the activation is still there.
    #[must_use]
    pub fn new(deliver: impl Fn(M) -> bool + Send + Sync + 'static) -> Self {
        let permits = Arc::new(tokio::sync::Semaphore::new(Self::PERMITS));
        Self { deliver: Arc::new(deliver), permits }
    }

    /// Sends without waiting: for completions whose number is bounded elsewhere (appends in
    /// flight, timers, one per runner). `false`: the activation is gone.
    #[must_use]
    pub fn send(&self, message: M) -> bool {
        (self.deliver)(message)
    }

    /// Waits for a permit, then sends; the permit goes with the message (the caller puts it
    /// there) and is dropped when the message was handled. `None`: the activation is gone.
    pub async fn permit(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}

/// What an entity is given for life.
#[derive(Debug)]
pub struct EntityContext<M> {
    /// Its address.
    pub id: EntityId,
    /// The epoch of its Shard.
    pub epoch: Epoch,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Storage.
    pub stores: Stores,
    /// Reaches other entities.
    pub router: crate::Router,
    /// Reaches itself.
    pub me: InternalSender<M>,
    /// Cancelled when the activation ends; its tasks stop then.
    pub stop: tokio_util::sync::CancellationToken,
}

/// Makes activations of one kind. `activate` reads snapshot and tail and fences older ones.
#[async_trait]
pub trait EntityFactory: fmt::Debug + Send + Sync + 'static {
    /// The entity that it makes.
    type Entity: Entity;

    /// The kind.
    fn kind(&self) -> EntityKind;

    /// How long an idle activation stays.
    fn idle_for(&self) -> std::time::Duration;

    /// A live activation.
    ///
    /// # Errors
    /// [`Crash`]: nothing was made; the Shard tries again after a back-off.
    async fn activate(
        &self,
        context: EntityContext<<Self::Entity as Entity>::Internal>,
    ) -> Result<Self::Entity, Crash>;
}
