//! Output of one attempt that waits for its Task.
//!
//! The reader of a link puts it here and never waits: an attempt whose Task takes nothing must
//! stop neither the others nor what is said on the control stream. Three bounds follow from that:
//! - The device's credit for a piece goes back when the piece is committed or let go, so that
//!   what waits is never more than the window of the link.
//! - That window is shared by all attempts. So a Task that takes nothing keeps none of it:
//!   after a while the credit for all that waits goes back, and up to [`SHARE_BYTES`] and
//!   [`SHARE_ITEMS`] wait without.
//! - What comes on top is let go, and so is all that follows on this link, for a Task takes
//!   output without gaps. The device still has it: it sends it again on its next link.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;
use troupe_link::device::Held;
use troupe_types::OutSeq;
use troupe_wire::device::{
    Ended, Output,
    limits::{DEVICE_CREDIT_BYTES, DEVICE_CREDIT_ITEMS},
};

/// Output that one question to a Task carries, in bytes and in pieces.
const BATCH_BYTES_MAX: usize = 160 * 1024;
const BATCH_MAX: usize = 64;
/// What waits for a Task that takes nothing, without credit.
const SHARE_BYTES: usize = (DEVICE_CREDIT_BYTES / 8) as usize;
const SHARE_ITEMS: usize = (DEVICE_CREDIT_ITEMS / 8) as usize;

/// A piece of output, and the credit for it.
type Piece = (Output, Option<Held>);

/// What an attempt's worker is to do next.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// The device says that nothing of it runs any more.
    pub(super) ended: Option<Ended>,
    /// For one question to the Task: in order, without gaps; may be empty.
    pub(super) batch: Vec<Piece>,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    bytes: usize,
    ended: Option<Ended>,
    /// The Task takes nothing.
    is_stuck: bool,
    /// Something was let go.
    is_behind: bool,
}

/// Between the reader of a link and the worker of an attempt.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    is_closed: AtomicBool,
    bell: Notify,
}

impl Waiting {
    fn has_room(&self, size: usize) -> bool {
        self.pieces.len() < SHARE_ITEMS && self.bytes + size <= SHARE_BYTES
    }

    fn push(&mut self, output: Output, held: Option<Held>) {
        if self.is_behind {
            return;
        }
        let size = output.body.len();
        if self.is_stuck && !self.has_room(size) {
            self.is_behind = true;
            return;
        }
        self.bytes += size;
        self.pieces.push_back((output, held.filter(|_| !self.is_stuck)));
    }

    fn batch(&mut self) -> Vec<Piece> {
        let mut batch: Vec<Piece> = Vec::new();
        let (mut size, mut due) = (0, None::<OutSeq>);
        while batch.len() < BATCH_MAX
            && let Some((output, _)) = self.pieces.front()
            && due.is_none_or(|due| due == output.out_seq)
            && (batch.is_empty() || size + output.body.len() <= BATCH_BYTES_MAX)
        {
            let Some(piece) = self.pieces.pop_front() else { break };
            size += piece.0.body.len();
            due = Some(piece.0.out_seq.next());
            batch.push(piece);
        }
        self.bytes -= size;
        batch
    }
}

impl Inbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of output; dropped when nobody has a use for it on this link.
    pub(super) fn put(&self, output: Output, held: Option<Held>) {
        let mut waiting = self.waiting();
        if !self.is_closed() {
            waiting.push(output, held);
            self.bell.notify_one();
        }
    }

    /// The device's last word.
    pub(super) fn end(&self, ended: Ended) {
        self.waiting().ended = Some(ended);
        self.bell.notify_one();
    }

    /// Waits until there is something.
    pub(super) async fn next(&self) -> Next {
        loop {
            let next = {
                let mut waiting = self.waiting();
                Next { ended: waiting.ended.take(), batch: waiting.batch() }
            };
            if next.ended.is_some() || !next.batch.is_empty() {
                return next;
            }
            self.bell.notified().await;
        }
    }

    /// The Task takes nothing: the credit for what waits goes back.
    pub(super) fn note_stuck(&self) {
        let mut waiting = self.waiting();
        waiting.is_stuck = true;
        let all = std::mem::take(&mut waiting.pieces);
        waiting.bytes = 0;
        all.into_iter().for_each(|(output, held)| waiting.push(output, held));
    }

    /// The Task takes output (again). `true`: all that waited was taken, and what followed was let
    /// go.
    pub(super) fn note_taken(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.is_stuck = false;
        waiting.is_behind && waiting.pieces.is_empty()
    }

    /// Nobody takes anything out of it any more.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        self.is_closed.store(true, Ordering::Release);
        waiting.pieces.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use troupe_types::{Attempt, ExecutionId, Uuid};
    use troupe_wire::device::AttemptKey;

    use super::*;

    fn output(number: u64, size: usize) -> Output {
        let execution = ExecutionId::from_uuid(Uuid::nil());
        let key = AttemptKey { execution, attempt: Attempt(1) };
        Output { key, out_seq: OutSeq(number), body: Bytes::from(vec![b'x'; size]) }
    }

    fn numbers(batch: &[Piece]) -> Vec<u64> {
        batch.iter().map(|(output, _)| output.out_seq.0).collect()
    }

    #[tokio::test]
    async fn a_question_is_bounded_and_has_no_gap() {
        let inbox = Inbox::default();
        for number in [1, 2, 4] {
            inbox.put(output(number, 10), None);
        }
        inbox.put(output(5, BATCH_BYTES_MAX), None);
        assert_eq!(numbers(&inbox.next().await.batch), [1, 2]);
        assert_eq!(numbers(&inbox.next().await.batch), [4]);
        assert_eq!(numbers(&inbox.next().await.batch), [5]);
        (6..100).for_each(|number| inbox.put(output(number, 1), None));
        assert_eq!(inbox.next().await.batch.len(), BATCH_MAX);
    }

    #[tokio::test]
    async fn who_is_stuck_keeps_a_share_without_a_gap() {
        let inbox = Inbox::default();
        let items = u64::from(DEVICE_CREDIT_ITEMS);
        (1..=items).for_each(|number| inbox.put(output(number, 1), None));
        assert_eq!(inbox.waiting().pieces.len(), DEVICE_CREDIT_ITEMS as usize, "credit bounds it");
        inbox.note_stuck();
        assert_eq!(inbox.waiting().pieces.len(), SHARE_ITEMS);
        let first = inbox.next().await.batch;
        assert_eq!(first.len(), BATCH_MAX);
        inbox.put(output(items + 1, 1), None);
        assert!(!inbox.note_taken(), "the rest is still to be taken");
        let mut last = first.len();
        while !inbox.note_taken() {
            last += inbox.next().await.batch.len();
        }
        assert_eq!(last, SHARE_ITEMS, "nothing after the gap");
    }
}
