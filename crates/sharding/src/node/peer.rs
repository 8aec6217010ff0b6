//! What waits to be sent to one peer, and what may be: a bounded queue and its credit.
//!
//! [`Outbox`] is pure; [`Peer`] puts a lock and wake-ups around it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use troupe_types::Uuid;
use troupe_wire::{BatchWriter, Credit};

use super::options::NodeOptions;
use crate::placement::NodeName;

/// Batches that may be under way before small ones wait for company.
const BATCHES_FREE: u32 = 4;
/// Items that are company enough.
const COMPANY_ITEMS: usize = 64;
/// Bytes that are company enough.
const COMPANY_BYTES: usize = 64 * 1024;
/// Words without credit that may wait; they are few by their nature.
const FREE_MAX: usize = 1_024;
/// Replies up to this length are bounded by their number alone.
const SHORT_BYTES: usize = 1_024;

/// Whose room an item takes in the queue. Replies have their own: whoever was told that its
/// envelope is handled does not send it again, so what frames leave over would be too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// What there is for all.
    Common,
    /// The same and a little more: words without credit.
    Free,
    /// The replies': a word about an envelope. If it is not heard, the envelope comes again.
    Word,
    /// The replies', half of it: a part of a long answer, which waits for room.
    Part,
    /// The replies', all of it: what became of an envelope that was handled. There is always
    /// room for one more; for a long one perhaps a little later.
    Answer,
}

impl Room {
    const fn is_paid_for(self) -> bool {
        !matches!(self, Self::Free)
    }

    const fn is_of_replies(self) -> bool {
        matches!(self, Self::Word | Self::Part | Self::Answer)
    }
}

/// An item that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) bytes: Bytes,
    pub(crate) room: Room,
    /// The envelope in it, to tell its sender if it never left.
    pub(crate) envelope: Option<Uuid>,
}

/// There is no room, or no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Queue,
    Down,
}

/// The queue and the credit of one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Waiting>,
    bytes: usize,
    /// Replies among them, and their bytes.
    replies: usize,
    replies_bytes: usize,
    /// The newest heartbeat: it waits behind nothing.
    beat: Option<Bytes>,
    /// What the peer still takes.
    credit: Credit,
    /// Batches that the peer has not granted anew for.
    batches: u32,
    /// What this end owes the peer.
    owed: Credit,
    owed_batches: u32,
    limits: (usize, usize),
    handled_max: usize,
    window: Credit,
}

impl Outbox {
    pub(crate) fn new(options: &NodeOptions) -> Self {
        let window = Credit { bytes: options.credit_bytes, items: options.credit_items };
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            replies: 0,
            replies_bytes: 0,
            beat: None,
            credit: window,
            batches: 0,
            owed: Credit { bytes: 0, items: 0 },
            owed_batches: 0,
            limits: (options.queue_items_max, options.queue_bytes_max),
            handled_max: options.handled_max,
            window,
        }
    }

    /// Puts an item into the queue.
    pub(crate) fn push(&mut self, item: Waiting) -> Result<(), Full> {
        let len = item.bytes.len();
        if !self.fits(item.room, len) {
            return Err(Full::Queue);
        }
        self.bytes += len;
        if item.room.is_of_replies() {
            self.replies += 1;
            self.replies_bytes += len;
        }
        self.queue.push_back(item);
        Ok(())
    }

    /// Nothing new is handled for a peer while as many replies wait as may be handled
    /// ([`is_owed_much`](Self::is_owed_much)), and of replies only answers are taken then, and a
    /// few words, so that a refusal is heard. So with what is handled already there are twice as
    /// many at most, and each short answer fits.
    fn fits(&self, room: Room, len: usize) -> bool {
        let (items_max, bytes_max) = self.limits;
        let items = self.queue.len() - self.replies;
        let answers = if room == Room::Answer { 2 } else { 1 };
        let replies_max = answers * self.handled_max + FREE_MAX.min(self.handled_max);
        let long_max = if room == Room::Part { bytes_max / 2 } else { bytes_max };
        match room {
            Room::Common => items < items_max && self.bytes - self.replies_bytes + len <= bytes_max,
            Room::Free => items < items_max + FREE_MAX,
            Room::Word | Room::Part | Room::Answer => {
                let is_short = len <= SHORT_BYTES || self.replies_bytes == 0;
                self.replies < replies_max && (is_short || self.replies_bytes + len <= long_max)
            }
        }
    }

    /// Whether the peer takes its replies too slowly to have anything more handled.
    pub(crate) fn is_owed_much(&self) -> bool {
        self.replies >= self.handled_max
    }

    fn left(&mut self, item: &Waiting) {
        self.bytes -= item.bytes.len();
        if item.room.is_of_replies() {
            self.replies -= 1;
            self.replies_bytes -= item.bytes.len();
        }
    }

    /// Puts in a heartbeat, in place of an older one.
    fn beat(&mut self, bytes: Bytes) {
        self.beat = Some(bytes);
    }

    /// The peer takes more. Never more than the window: a peer cannot make this end unbounded.
    pub(crate) fn granted(&mut self, credit: Credit) {
        self.credit.bytes = self.credit.bytes.saturating_add(credit.bytes).min(self.window.bytes);
        self.credit.items = self.credit.items.saturating_add(credit.items).min(self.window.items);
        self.batches = 0;
    }

    /// A batch of the peer was handled.
    pub(crate) fn owe(&mut self, bytes: u64, items: u32) {
        self.owed.bytes += bytes;
        self.owed.items += items;
        self.owed_batches += 1;
    }

    /// Whether credit is owed so much that it should not wait for company.
    pub(crate) fn owes_much(&self) -> bool {
        self.owed_batches >= BATCHES_FREE / 2
            || self.owed.bytes >= self.window.bytes / 8
            || self.owed.items >= self.window.items / 8
    }

    pub(crate) fn owes(&self) -> bool {
        self.owed.items > 0
    }

    fn may_go(&self) -> bool {
        self.queue.front().is_some_and(|first| {
            let bytes = u64::try_from(first.bytes.len()).unwrap_or(u64::MAX);
            !first.room.is_paid_for() || (self.credit.items > 0 && self.credit.bytes >= bytes)
        })
    }

    /// Whether a batch should be sent now: at once while little is under way, else in company.
    pub(crate) fn is_ready(&self) -> bool {
        self.beat.is_some()
            || self.may_go()
                && (self.batches < BATCHES_FREE
                    || self.queue.len() >= COMPANY_ITEMS
                    || self.bytes >= COMPANY_BYTES)
    }

    /// The next batch, as far as credit and size go. `with_credit`: also what is owed.
    pub(crate) fn batch(&mut self, token: u64, with_credit: bool) -> Option<BatchWriter> {
        let mut batch = BatchWriter::new(token);
        if with_credit && self.owes() {
            let item = troupe_wire::Item::Credit(self.owed);
            if let Ok(item) = BatchWriter::encode_item(&item)
                && batch.push(&item)
            {
                self.owed = Credit { bytes: 0, items: 0 };
                self.owed_batches = 0;
            }
        }
        if let Some(beat) = self.beat.take() {
            // There is room: it is small, and nearly the first.
            let _ = batch.push(&beat);
        }
        let mut paid = false;
        while self.may_go() {
            let Some(first) = self.queue.front() else { break };
            if !batch.push(&first.bytes) {
                break;
            }
            let Some(first) = self.queue.pop_front() else { break };
            self.left(&first);
            if first.room.is_paid_for() {
                paid = true;
                self.credit.items -= 1;
                self.credit.bytes -= u64::try_from(first.bytes.len()).unwrap_or(0);
            }
        }
        self.batches += u32::from(paid);
        (!batch.is_empty()).then_some(batch)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes an envelope back that waits. `false`: it left, or never came.
    pub(crate) fn withdraw(&mut self, envelope: Uuid) -> bool {
        let at = self.queue.iter().position(|item| item.envelope == Some(envelope));
        let Some(item) = at.and_then(|at| self.queue.remove(at)) else { return false };
        self.left(&item);
        true
    }

    /// Empties the queue; answers the envelopes that never left.
    fn clear(&mut self) -> Vec<Uuid> {
        (self.bytes, self.replies, self.replies_bytes) = (0, 0, 0);
        self.queue.drain(..).filter_map(|item| item.envelope).collect()
    }
}

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Up {
    /// Counts the links with this peer.
    pub(crate) generation: u64,
    /// The peer's boot.
    pub(crate) boot: Uuid,
}

/// A peer, linked or not.
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    outbox: Mutex<Outbox>,
    up: watch::Sender<Option<Up>>,
    /// Something is in the outbox.
    pub(crate) work: Notify,
    /// There is room in the outbox again.
    room: Notify,
    /// Asks of this node that wait for this peer, and their bytes.
    pub(crate) asks: AtomicUsize,
    pub(crate) asks_bytes: AtomicUsize,
    /// Asks of the peer that are handled here.
    pub(crate) handled: AtomicUsize,
    /// Bytes of answers that wait for room in the outbox.
    pub(crate) answers_bytes: AtomicUsize,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Peer {
    pub(crate) fn new(name: NodeName, options: &NodeOptions) -> Self {
        Self {
            name,
            outbox: Mutex::new(Outbox::new(options)),
            up: watch::Sender::new(None),
            work: Notify::new(),
            room: Notify::new(),
            asks: AtomicUsize::new(0),
            asks_bytes: AtomicUsize::new(0),
            handled: AtomicUsize::new(0),
            answers_bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn up(&self) -> Option<Up> {
        *self.up.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Up>> {
        self.up.subscribe()
    }

    /// A new link: nothing of an older one is left in the outbox.
    pub(crate) fn link_up(&self, up: Up, options: &NodeOptions) {
        *self.lock() = Outbox::new(options);
        self.up.send_replace(Some(up));
        self.room.notify_waiters();
    }

    /// The link of this generation is gone. Answers the envelopes that never left.
    pub(crate) fn link_down(&self, generation: u64) -> Vec<Uuid> {
        let mut outbox = self.lock();
        if self.up().is_none_or(|up| up.generation != generation) {
            return Vec::new();
        }
        self.up.send_replace(None);
        let unsent = outbox.clear();
        drop(outbox);
        self.room.notify_waiters();
        unsent
    }

    /// Queues an item for the link that is up.
    pub(crate) fn send(&self, item: Waiting) -> Result<Up, Full> {
        let mut outbox = self.lock();
        // Under the lock: the item belongs to this link.
        let up = self.up().ok_or(Full::Down)?;
        outbox.push(item)?;
        let is_ready = outbox.is_ready();
        drop(outbox);
        // What waits for company or for credit goes with what comes next of it.
        if is_ready {
            self.work.notify_one();
        }
        Ok(up)
    }

    /// Sends a heartbeat over the link that is up, if one is.
    pub(crate) fn beat(&self, bytes: Bytes) {
        if self.up().is_some() {
            self.lock().beat(bytes);
            self.work.notify_one();
        }
    }

    /// Queues a reply for the link that is up, waiting for room. Without a link, or when the time
    /// is up, it is dropped: who waits for it asks again over the next one, or not at all.
    pub(crate) async fn reply_when_room(&self, bytes: &Bytes, reply: Room, until: Instant) -> bool {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let item = Waiting { bytes: bytes.clone(), room: reply, envelope: None };
            match self.send(item) {
                Ok(_) => return true,
                Err(Full::Down) => return false,
                Err(Full::Queue) => {
                    if timeout_at(until, room).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Queues frames for the link of this generation, waiting for room. `false`: it is gone.
    pub(crate) async fn send_when_room(&self, generation: u64, bytes: &Bytes) -> bool {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.up().is_none_or(|up| up.generation != generation) {
                return false;
            }
            let item = Waiting { bytes: bytes.clone(), room: Room::Common, envelope: None };
            match self.send(item) {
                Ok(up) => return up.generation == generation,
                Err(Full::Down) => return false,
                Err(Full::Queue) => room.await,
            }
        }
    }

    pub(crate) fn info(&self) -> super::PeerInfo {
        let outbox = self.lock();
        super::PeerInfo {
            node: self.name.clone(),
            boot: self.up().map(|up| up.boot),
            asks: self.asks.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
            queued: outbox.queue.len(),
            queued_bytes: outbox.bytes,
        }
    }

    /// Tells those who wait that something left.
    pub(crate) fn made_room(&self) {
        self.room.notify_waiters();
    }

    pub(crate) fn owe(&self, bytes: u64, items: u32) {
        if items > 0 {
            self.lock().owe(bytes, items);
            self.work.notify_one();
        }
    }

    pub(crate) fn granted(&self, credit: Credit) {
        self.lock().granted(credit);
        self.work.notify_one();
    }
}

/// Counts something until it is dropped; bounded.
#[derive(Debug)]
pub(crate) struct Tally {
    peer: Arc<Peer>,
    of: fn(&Peer) -> &AtomicUsize,
    amount: usize,
}

impl Tally {
    pub(crate) fn enter(
        peer: &Arc<Peer>,
        of: fn(&Peer) -> &AtomicUsize,
        amount: usize,
        max: usize,
    ) -> Option<Self> {
        if of(peer).fetch_add(amount, Ordering::Relaxed) + amount > max {
            of(peer).fetch_sub(amount, Ordering::Relaxed);
            return None;
        }
        Some(Self { peer: Arc::clone(peer), of, amount })
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        (self.of)(&self.peer).fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use troupe_wire::{Batch, Item};

    use super::*;

    fn item(len: usize, costs: bool) -> Waiting {
        item_in(if costs { Room::Common } else { Room::Free }, len)
    }

    fn item_in(room: Room, len: usize) -> Waiting {
        let item = Item::Other(77, Bytes::from(vec![0; len]));
        Waiting { bytes: BatchWriter::encode_item(&item).unwrap(), room, envelope: None }
    }

    fn options() -> NodeOptions {
        NodeOptions { credit_bytes: 1_000, credit_items: 10, ..NodeOptions::default() }
    }

    /// Rule 3: no more is under way than the peer granted, however much waits.
    #[test]
    fn credit_ends_and_comes_back() {
        let mut outbox = Outbox::new(&options());
        for _ in 0..20 {
            outbox.push(item(10, true)).unwrap();
        }
        assert_eq!(outbox.batch(1, true).unwrap().len(), 10);
        assert!(outbox.batch(1, true).is_none(), "no credit");
        outbox.push(item(0, false)).unwrap();
        assert!(outbox.batch(1, true).is_none(), "in order: it waits behind the others");
        outbox.granted(Credit { bytes: 150, items: 4 });
        assert_eq!(outbox.batch(1, true).unwrap().len(), 4);
        outbox.granted(Credit { bytes: u64::MAX, items: u32::MAX });
        assert_eq!(outbox.batch(1, true).unwrap().len(), 7);
        assert!(outbox.credit.items <= 10 && outbox.credit.bytes <= 1_000);
    }

    #[test]
    fn the_first_ones_go_at_once_and_later_ones_in_company() {
        let mut outbox = Outbox::new(&NodeOptions::default());
        for _ in 0..BATCHES_FREE {
            outbox.push(item(10, true)).unwrap();
            assert!(outbox.is_ready());
            assert_eq!(outbox.batch(1, true).unwrap().len(), 1);
        }
        outbox.push(item(10, true)).unwrap();
        assert!(!outbox.is_ready(), "alone");
        for _ in 1..COMPANY_ITEMS {
            outbox.push(item(10, true)).unwrap();
        }
        assert!(outbox.is_ready());
        let mut outbox = Outbox::new(&NodeOptions::default());
        outbox.batches = BATCHES_FREE;
        outbox.push(item(10, true)).unwrap();
        outbox.granted(Credit { bytes: 1, items: 1 });
        assert!(outbox.is_ready(), "the peer has taken the rest");
    }

    #[test]
    fn the_queue_is_bounded() {
        let options = NodeOptions { queue_items_max: 3, queue_bytes_max: 100, ..options() };
        let mut outbox = Outbox::new(&options);
        for _ in 0..3 {
            outbox.push(item(5, true)).unwrap();
        }
        assert_eq!(outbox.push(item(5, true)), Err(Full::Queue));
        outbox.push(item(5, false)).unwrap();
        let mut outbox = Outbox::new(&options);
        assert_eq!(outbox.push(item(101, true)), Err(Full::Queue));
    }

    /// What frames fill is not what replies need, nor the other way round.
    #[test]
    fn replies_have_room_of_their_own() {
        let options =
            NodeOptions { queue_items_max: 3, queue_bytes_max: 8_000, handled_max: 2, ..options() };
        let mut outbox = Outbox::new(&options);
        for _ in 0..3 {
            outbox.push(item(5, true)).unwrap();
        }
        assert_eq!(outbox.push(item(5, true)), Err(Full::Queue));
        for _ in 0..2 {
            assert!(!outbox.is_owed_much());
            outbox.push(item_in(Room::Word, 5)).unwrap();
        }
        assert!(outbox.is_owed_much(), "nothing more is handled");
        for _ in 0..2 {
            outbox.push(item_in(Room::Word, 5)).expect("which is said");
        }
        assert_eq!(outbox.push(item_in(Room::Word, 5)), Err(Full::Queue));
        outbox.push(item_in(Room::Answer, 3_000)).unwrap();
        assert_eq!(outbox.push(item_in(Room::Part, 3_000)), Err(Full::Queue), "half is for parts");
        outbox.push(item_in(Room::Answer, 3_000)).unwrap();
        outbox.clear();
        outbox.push(item_in(Room::Part, 100_000)).unwrap();
        assert_eq!(outbox.push(item_in(Room::Answer, 3_000)), Err(Full::Queue), "a little later");
        outbox.push(item_in(Room::Answer, 5)).unwrap();
        outbox.push(item(5_000, true)).unwrap();
    }

    proptest! {
        /// However frames, words, envelopes and credit come: the short answer to whatever is
        /// handled has its room, nothing is lost that was taken, and the queue has its bound.
        #[test]
        fn the_answer_to_what_is_handled_always_has_room(
            steps in prop::collection::vec(0_u8..6, 1..400),
        ) {
            let options = NodeOptions { queue_items_max: 8, handled_max: 4, ..options() };
            let mut outbox = Outbox::new(&options);
            let (mut handled, mut taken, mut left) = (0, 0, 0);
            for step in steps {
                let before = outbox.queue.len();
                match step {
                    0 => taken += usize::from(outbox.push(item(5, true)).is_ok()),
                    1 => taken += usize::from(outbox.push(item_in(Room::Word, 5)).is_ok()),
                    // An envelope comes: it is handled, or refused with a word.
                    2 if handled < options.handled_max && !outbox.is_owed_much() => handled += 1,
                    2 => taken += usize::from(outbox.push(item_in(Room::Word, 5)).is_ok()),
                    3 if handled > 0 => {
                        handled -= 1;
                        prop_assert_eq!(outbox.push(item_in(Room::Answer, 5)), Ok(()));
                        taken += 1;
                    }
                    4 => {
                        let _ = outbox.batch(1, true);
                        left += before - outbox.queue.len();
                    }
                    _ => outbox.granted(Credit { bytes: 40, items: 2 }),
                }
                let replies = outbox.queue.iter().filter(|item| item.room.is_of_replies());
                prop_assert_eq!(replies.count(), outbox.replies);
                prop_assert!(outbox.replies <= 3 * options.handled_max);
                prop_assert!(outbox.queue.len() - outbox.replies <= options.queue_items_max);
                prop_assert_eq!(outbox.bytes, outbox.queue.iter().map(|item| item.bytes.len()).sum::<usize>());
            }
            prop_assert_eq!(taken, left + outbox.queue.len());
        }

        /// Two outboxes face to face: everything arrives, in order, and the window is kept.
        #[test]
        fn everything_arrives_in_order_within_the_window(
            sizes in prop::collection::vec(0_usize..400, 1..200),
            reads in prop::collection::vec(any::<bool>(), 1..64),
        ) {
            let (mut near, mut far) = (Outbox::new(&options()), Outbox::new(&options()));
            let mut under_way: VecDeque<Bytes> = VecDeque::new();
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            let mut reads = reads.into_iter().chain([true]).cycle();
            let mut left: VecDeque<usize> = sizes.into();
            for step in 0..20_000 {
                if got.len() == sent.len() && left.is_empty() {
                    break;
                }
                prop_assert!(step < 19_999, "it came to a stop");
                if let Some(size) = left.pop_front() {
                    near.push(item(size, true)).unwrap();
                    sent.push(size);
                }
                if near.may_go() && (near.is_ready() || left.is_empty()) {
                    under_way.push_back(near.batch(1, true).unwrap().finish());
                }
                let items: usize = under_way.iter().map(|b| Batch::decode(b.clone()).unwrap().items.len()).sum();
                prop_assert!(items <= 10, "{} items under way", items);
                if reads.next() == Some(true) && let Some(batch) = under_way.pop_front() {
                    for (item, size) in Batch::decode(batch).unwrap().items {
                        let Item::Other(_, bytes) = item else { continue };
                        got.push(bytes.len());
                        far.owe(u64::try_from(size).unwrap(), 1);
                    }
                }
                if far.owes() {
                    let back = far.batch(1, true).unwrap().finish();
                    for (item, _) in Batch::decode(back).unwrap().items {
                        if let Item::Credit(credit) = item {
                            near.granted(credit);
                        }
                    }
                }
            }
            prop_assert_eq!(got, sent);
        }
    }
}
