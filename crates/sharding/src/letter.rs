//! One ask on its way: who waits for it, and how far it is.
//!
//! ```text
//! Queued ──hand over──> Handling ──handler returned──> Kept ──Reply used or dropped──> Settled
//!    │                    │   └──Reply dropped──> Dropped ──handler returned──> Settled
//!    └──caller gone──> Settled                        └──crash──> Queued (again)
//! ```
//! The phase decides the fate, under one small lock, so that a caller whose time is up knows
//! for certain whether a handler ever saw the message.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_actor::Strikes;
use troupe_telemetry::{TraceParent, trace};

use crate::{
    ask::AskError,
    entity::{FrameSink, Reply},
};

/// What a caller gets.
pub(crate) type Answer = Result<Bytes, AskError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Handling,
    Dropped,
    Kept,
    Settled,
}

/// The state that a caller, the Shard and the entity's [`Reply`] share.
pub(crate) struct AskCell(Mutex<Inner>);

struct Inner {
    phase: Phase,
    /// A handler has seen the message at least once.
    handed: bool,
    to: Option<oneshot::Sender<Answer>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Inner {
    fn settle(&mut self, answer: Answer) {
        self.phase = Phase::Settled;
        self.slot = None;
        if let Some(to) = self.to.take() {
            // The caller may have stopped waiting; that is its right.
            let _ = to.send(answer);
        }
    }

    /// What to say when nobody will answer any more.
    const fn fate(&self) -> AskError {
        if self.handed { AskError::OutcomeUnknown } else { AskError::NotDelivered }
    }
}

impl fmt::Debug for AskCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AskCell").field(&self.lock().phase).finish()
    }
}

impl AskCell {
    pub(crate) fn new(slot: Option<OwnedSemaphorePermit>) -> (Arc<Self>, PendingAnswer) {
        let (to, answer) = oneshot::channel();
        let inner = Inner { phase: Phase::Queued, handed: false, to: Some(to), slot };
        let cell = Arc::new(Self(Mutex::new(inner)));
        (Arc::clone(&cell), PendingAnswer { cell, answer })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: the caller is gone, nothing is to be done.
    pub(crate) fn hand_over(&self) -> bool {
        let mut inner = self.lock();
        if inner.phase != Phase::Queued {
            return false;
        }
        inner.phase = Phase::Handling;
        inner.handed = true;
        true
    }

    /// The entity's answer, or the Shard's.
    pub(crate) fn answer(&self, answer: Answer) {
        let mut inner = self.lock();
        if inner.phase != Phase::Settled {
            inner.settle(answer);
        }
    }

    pub(crate) fn reply_dropped(&self) {
        let mut inner = self.lock();
        match inner.phase {
            Phase::Handling => inner.phase = Phase::Dropped,
            Phase::Kept => inner.settle(Err(AskError::OutcomeUnknown)),
            Phase::Queued | Phase::Dropped | Phase::Settled => {}
        }
    }

    /// The Shard is done with the message: its handler returned, or nobody will handle it.
    pub(crate) fn forget(&self) {
        let mut inner = self.lock();
        match inner.phase {
            Phase::Handling => inner.phase = Phase::Kept,
            Phase::Queued | Phase::Dropped => {
                let fate = inner.fate();
                inner.settle(Err(fate));
            }
            Phase::Kept | Phase::Settled => {}
        }
    }

    /// After a crash in its handler: whether it may be fed again.
    fn take_back(&self) -> bool {
        let mut inner = self.lock();
        if inner.phase != Phase::Dropped || inner.to.as_ref().is_none_or(|to| to.is_closed()) {
            return false;
        }
        inner.phase = Phase::Queued;
        true
    }

    fn abandon(&self) -> AskError {
        let mut inner = self.lock();
        let fate = inner.fate();
        inner.to = None;
        if inner.phase == Phase::Queued {
            inner.settle(Err(fate.clone()));
        }
        fate
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().to.as_ref().is_none_or(|to| to.is_closed())
    }

    fn is_settled(&self) -> bool {
        self.lock().phase == Phase::Settled
    }
}

/// An answer to wait for. Dropped, it withdraws the message if no handler has seen it yet.
#[derive(Debug)]
pub struct PendingAnswer {
    cell: Arc<AskCell>,
    answer: oneshot::Receiver<Answer>,
}

impl PendingAnswer {
    /// Waits at most so long.
    ///
    /// # Errors
    /// The fate. When the time is up, `NotDelivered` is said only if no handler ever saw the
    /// message; it is withdrawn then.
    pub async fn within(mut self, time: Duration) -> Result<Bytes, AskError> {
        match tokio::time::timeout(time, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.cell.abandon()),
            Err(_) => {
                let fate = self.cell.abandon();
                // The answer may have come between the two.
                self.answer.try_recv().unwrap_or(Err(fate))
            }
        }
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.cell.abandon();
    }
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Ask(Bytes),
    Subscribe(Bytes, FrameSink),
}

/// A message in the Shard's hands. Dropped, the Shard is done with it.
#[derive(Debug)]
pub(crate) struct Letter {
    content: Content,
    cell: Arc<AskCell>,
    strikes: Strikes,
    /// Where in a trace it was sent.
    trace: Option<TraceParent>,
}

impl Letter {
    pub(crate) fn new(content: Content, slot: OwnedSemaphorePermit) -> (Self, PendingAnswer) {
        let (cell, answer) = AskCell::new(Some(slot));
        (Self { content, cell, strikes: Strikes::NONE, trace: trace::current() }, answer)
    }

    /// What the handler gets; `None`: the caller is gone.
    pub(crate) fn hand_over(&self) -> Option<(Content, Reply)> {
        let reply = || Reply { cell: Arc::clone(&self.cell) };
        self.cell.hand_over().then(|| (self.content.clone(), reply()))
    }

    /// After a crash in its handler: whether it may be fed again.
    pub(crate) fn take_back(&self) -> bool {
        self.cell.take_back()
    }

    /// `true`: that was the last strike.
    pub(crate) fn strike(&mut self) -> bool {
        self.strikes.add()
    }

    pub(crate) fn strikes(&self) -> u32 {
        self.strikes.count()
    }

    pub(crate) fn trace(&self) -> Option<TraceParent> {
        self.trace
    }

    pub(crate) fn body(&self) -> &Bytes {
        match &self.content {
            Content::Ask(body) | Content::Subscribe(body, _) => body,
        }
    }

    /// Whether there is nothing left to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.cell.is_settled()
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.cell.answer(answer);
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.cell.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(10);

    fn letter() -> (Letter, PendingAnswer) {
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        let slot = slots.try_acquire_owned().unwrap();
        Letter::new(Content::Ask(Bytes::from_static(b"x")), slot)
    }

    #[tokio::test]
    async fn a_withdrawn_message_is_never_handed_over() {
        let (letter, answer) = letter();
        assert_eq!(answer.within(SOON).await, Err(AskError::NotDelivered));
        assert!(letter.hand_over().is_none());
        assert!(letter.is_settled());
    }

    #[tokio::test]
    async fn a_message_in_its_handler_has_an_unknown_outcome() {
        let (letter, answer) = letter();
        let (_, reply) = letter.hand_over().unwrap();
        assert_eq!(answer.within(SOON).await, Err(AskError::OutcomeUnknown));
        assert!(reply.is_abandoned());
    }

    #[tokio::test]
    async fn a_reply_that_is_dropped_by_a_handler_that_returns_is_an_unknown_outcome() {
        let (letter, answer) = letter();
        drop(letter.hand_over());
        drop(letter);
        assert_eq!(answer.within(LONG).await, Err(AskError::OutcomeUnknown));
    }

    #[tokio::test]
    async fn a_kept_reply_answers_later() {
        let (letter, answer) = letter();
        let (_, reply) = letter.hand_over().unwrap();
        drop(letter);
        reply.ok(Bytes::from_static(b"done"));
        assert_eq!(answer.within(LONG).await, Ok(Bytes::from_static(b"done")));
    }

    #[tokio::test]
    async fn only_a_reply_that_went_down_unanswered_is_taken_back() {
        let (lost, lost_answer) = letter();
        drop(lost.hand_over());
        assert!(lost.take_back());
        let (_, reply) = lost.hand_over().unwrap();
        reply.ok(Bytes::new());
        assert!(!lost.take_back());
        assert_eq!(lost_answer.within(LONG).await, Ok(Bytes::new()));

        let (held, held_answer) = letter();
        let kept = held.hand_over();
        assert!(!held.take_back(), "somebody may still answer it");
        drop(held);
        drop(kept);
        assert_eq!(held_answer.within(LONG).await, Err(AskError::OutcomeUnknown));
    }

    #[tokio::test]
    async fn a_message_that_was_fed_once_is_never_called_not_delivered() {
        let (letter, answer) = letter();
        drop(letter.hand_over());
        assert!(letter.take_back());
        assert_eq!(answer.within(SOON).await, Err(AskError::OutcomeUnknown));
        assert!(letter.hand_over().is_none());
    }

    #[tokio::test]
    async fn a_message_that_nobody_will_handle_was_not_delivered() {
        let (letter, answer) = letter();
        drop(letter);
        assert_eq!(answer.within(LONG).await, Err(AskError::NotDelivered));
    }
}
