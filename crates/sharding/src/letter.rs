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

/// Who gets the answer.
enum Asker {
    /// A caller that waits for it.
    Waits(oneshot::Sender<Answer>),
    /// Nobody waits: what is to be done with it.
    Hook(Box<dyn FnOnce(Answer) + Send>),
}

/// The state that a caller, the Shard and the entity's [`Reply`] share.
pub(crate) struct AskCell(Mutex<Inner>);

struct Inner {
    phase: Phase,
    /// A handler has seen the message at least once.
    handed: bool,
    to: Option<Asker>,
    slot: Option<OwnedSemaphorePermit>,
}

/// An answer on the way to whoever gets it, to be given once the cell's lock is released.
#[must_use]
struct Settled(Option<(Asker, Answer)>);

impl Settled {
    fn give(self) {
        match self.0 {
            // The caller may have stopped waiting; that is its right.
            Some((Asker::Waits(to), answer)) => drop(to.send(answer)),
            Some((Asker::Hook(hook), answer)) => hook(answer),
            None => {}
        }
    }
}

impl Inner {
    fn settle(&mut self, answer: Answer) -> Settled {
        self.phase = Phase::Settled;
        self.slot = None;
        Settled(self.to.take().map(|to| (to, answer)))
    }

    /// Whether nobody is there to hear an answer.
    fn is_abandoned(&self) -> bool {
        match &self.to {
            Some(Asker::Waits(to)) => to.is_closed(),
            Some(Asker::Hook(_)) => false,
            None => true,
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
    fn with(to: Asker, slot: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        let inner = Inner { phase: Phase::Queued, handed: false, to: Some(to), slot };
        Arc::new(Self(Mutex::new(inner)))
    }

    /// Of a caller that waits.
    pub(crate) fn new(slot: Option<OwnedSemaphorePermit>) -> (Arc<Self>, PendingAnswer) {
        let (to, answer) = oneshot::channel();
        let cell = Self::with(Asker::Waits(to), slot);
        (Arc::clone(&cell), PendingAnswer { cell, answer })
    }

    /// Of nobody who waits: `hook` is called with the answer, whatever it is. Where a Shard gives
    /// the fate, its lock is held: then the hook must take none of a Shard.
    pub(crate) fn hooked(
        slot: OwnedSemaphorePermit,
        hook: impl FnOnce(Answer) + Send + 'static,
    ) -> Arc<Self> {
        Self::with(Asker::Hook(Box::new(hook)), Some(slot))
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

    /// Does one step under the lock, then gives the answer that it led to.
    fn step(&self, step: impl FnOnce(&mut Inner) -> Option<Answer>) {
        let mut inner = self.lock();
        let settled = step(&mut inner).map(|answer| inner.settle(answer));
        drop(inner);
        if let Some(settled) = settled {
            settled.give();
        }
    }

    /// The entity's answer, or the Shard's.
    pub(crate) fn answer(&self, answer: Answer) {
        self.step(|inner| (inner.phase != Phase::Settled).then_some(answer));
    }

    pub(crate) fn reply_dropped(&self) {
        self.step(|inner| match inner.phase {
            Phase::Handling => {
                inner.phase = Phase::Dropped;
                None
            }
            Phase::Kept => Some(Err(AskError::OutcomeUnknown)),
            Phase::Queued | Phase::Dropped | Phase::Settled => None,
        });
    }

    /// The Shard is done with the message: its handler returned, or nobody will handle it.
    pub(crate) fn forget(&self) {
        self.step(|inner| match inner.phase {
            Phase::Handling => {
                inner.phase = Phase::Kept;
                None
            }
            Phase::Queued | Phase::Dropped => Some(Err(inner.fate())),
            Phase::Kept | Phase::Settled => None,
        });
    }

    /// After a crash in its handler: whether it may be fed again.
    fn take_back(&self) -> bool {
        let mut inner = self.lock();
        if inner.phase != Phase::Dropped || inner.is_abandoned() {
            return false;
        }
        inner.phase = Phase::Queued;
        true
    }

    /// Nobody waits any more; a message that no handler has seen is withdrawn. Answers its fate,
    /// and who was to hear it.
    fn withdraw(&self) -> (AskError, Option<Asker>) {
        let mut inner = self.lock();
        let (fate, to) = (inner.fate(), inner.to.take());
        if inner.phase == Phase::Queued {
            inner.phase = Phase::Settled;
            inner.slot = None;
        }
        (fate, to)
    }

    /// The time of a message of nobody who waits is up.
    pub(crate) fn expire(&self) {
        let (fate, to) = self.withdraw();
        Settled(to.map(|to| (to, Err(fate)))).give();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned()
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
            Ok(Err(_)) => Err(self.cell.withdraw().0),
            Err(_) => {
                let (fate, _) = self.cell.withdraw();
                // The answer may have come between the two.
                self.answer.try_recv().unwrap_or(Err(fate))
            }
        }
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.cell.withdraw();
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
    pub(crate) fn new(content: Content, cell: Arc<AskCell>) -> Self {
        Self { content, cell, strikes: Strikes::NONE, trace: trace::current() }
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
        let (cell, answer) = AskCell::new(Some(slot));
        (Letter::new(Content::Ask(Bytes::from_static(b"x")), cell), answer)
    }

    /// A letter of nobody who waits, and the answers that its hook got.
    fn hooked() -> (Letter, Arc<AskCell>, std::sync::mpsc::Receiver<Answer>) {
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        let (to, answers) = std::sync::mpsc::channel();
        let hook = move |answer| to.send(answer).unwrap();
        let cell = AskCell::hooked(slots.try_acquire_owned().unwrap(), hook);
        (Letter::new(Content::Ask(Bytes::new()), Arc::clone(&cell)), cell, answers)
    }

    #[test]
    fn a_hook_gets_the_answer_once() {
        let (letter, cell, answers) = hooked();
        let (_, reply) = letter.hand_over().unwrap();
        assert!(!reply.is_abandoned());
        drop(letter);
        reply.ok(Bytes::from_static(b"done"));
        cell.expire();
        let answers: Vec<_> = answers.try_iter().collect();
        assert_eq!(answers, [Ok(Bytes::from_static(b"done"))]);
    }

    #[test]
    fn a_hook_hears_the_fate_of_what_nobody_answers() {
        let (letter, cell, answers) = hooked();
        cell.expire();
        assert!(letter.hand_over().is_none(), "it is withdrawn");
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Err(AskError::NotDelivered)]);

        let (letter, cell, answers) = hooked();
        let (_, reply) = letter.hand_over().unwrap();
        cell.expire();
        assert!(reply.is_abandoned());
        drop((letter, reply));
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Err(AskError::OutcomeUnknown)]);

        let (letter, _, answers) = hooked();
        drop(letter);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Err(AskError::NotDelivered)]);
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
