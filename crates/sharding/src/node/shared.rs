//! What the parts of a node's link share.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use troupe_link::Identity;
use troupe_types::{Clock, Epoch, ShardId, Uuid};
use troupe_wire::{BatchWriter, Fate, Item};

use super::{
    dedupe::Dedupe,
    ledger::Ledger,
    metrics::NodeMetrics,
    observer::NodeObserver,
    options::NodeOptions,
    peer::{Full, Peer, Room, Tally, Waiting},
    streams::Streams,
    tells::Told,
};
use crate::{
    letter::AskCell,
    placement::{NodeName, Owner},
    router::Router,
};

/// What a waiting ask hears.
#[derive(Debug)]
pub(crate) enum Signal {
    /// The peer's answer.
    Fate(Fate),
    /// It never left this node.
    Unsent,
}

/// An ask that waits for a peer.
#[derive(Debug)]
struct Pending {
    /// Only this peer may answer; what an earlier one says late is dropped.
    from: NodeName,
    to: oneshot::Sender<Signal>,
    /// The peer said that it is handling it: the answer comes by itself.
    running: Arc<AtomicBool>,
    /// What has come of a long answer.
    parts: Vec<Bytes>,
}

impl Pending {
    /// Takes a part of the answer; `false`: one is missing, or they are too many.
    fn take(&mut self, part: u32, body: &Bytes) -> bool {
        let next = u32::try_from(self.parts.len()) == Ok(part) && self.parts.len() < PARTS_MAX;
        if next {
            self.parts.push(body.clone());
        }
        next
    }
}

/// Parts of one answer.
const PARTS_MAX: usize = 64;

/// A link that batches come over.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    pub(crate) peer: Arc<Peer>,
    pub(crate) generation: u64,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// The shared part.
pub(crate) struct NodeShared {
    pub(crate) me: Arc<Identity>,
    pub(crate) name: NodeName,
    pub(crate) options: NodeOptions,
    pub(crate) router: Router,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn NodeObserver>,
    pub(crate) metrics: NodeMetrics,
    pub(crate) streams: Streams,
    peers: RwLock<HashMap<NodeName, Arc<Peer>>>,
    /// Links by the token that their batches carry.
    tokens: RwLock<HashMap<u64, Linked>>,
    hints: Mutex<HashMap<ShardId, (NodeName, Epoch)>>,
    pending: Mutex<HashMap<Uuid, Pending>>,
    /// Tells of this node that wait for their peer's answer.
    pub(crate) tells: Ledger<Told>,
    /// Messages of peers that entities of this node have.
    pub(crate) asked: Ledger<Arc<AskCell>>,
    dedupe: Mutex<Dedupe>,
    ids: AtomicU64,
    sender_seq: AtomicU64,
}

impl fmt::Debug for NodeShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeShared").field("node", &self.name).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None`: it is too large, which whoever made it should have prevented.
pub(crate) fn encode(item: &Item) -> Option<Bytes> {
    BatchWriter::encode_item(item)
        .inspect_err(|error| tracing::error!(%error, "an item of ours is too large"))
        .ok()
}

impl NodeShared {
    pub(crate) fn new(
        me: Identity,
        options: NodeOptions,
        router: Router,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn NodeObserver>,
    ) -> Self {
        let name = NodeName(me.node.as_str().into());
        Self {
            me: Arc::new(me),
            name,
            router,
            clock,
            observer,
            metrics: NodeMetrics::new(),
            streams: Streams::default(),
            peers: RwLock::default(),
            tokens: RwLock::default(),
            hints: Mutex::default(),
            pending: Mutex::default(),
            tells: Ledger::default(),
            asked: Ledger::default(),
            dedupe: Mutex::new(Dedupe::new(options.answers_bytes_max)),
            ids: AtomicU64::new(1),
            sender_seq: AtomicU64::new(1),
            options,
        }
    }

    /// An id that no envelope of this or any other boot has: half of it is the boot's.
    pub(crate) fn new_id(&self) -> Uuid {
        let (_, boot) = self.me.boot.as_u64_pair();
        Uuid::from_u64_pair(boot, self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_sender_seq(&self) -> u64 {
        self.sender_seq.fetch_add(1, Ordering::Relaxed)
    }

    /// A peer, linked or not.
    pub(crate) fn peer(&self, name: &NodeName) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// A peer, made if it was not known.
    pub(crate) fn peer_or_new(&self, name: &NodeName) -> Arc<Peer> {
        if let Some(peer) = self.peer(name) {
            return peer;
        }
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Peer::new(name.clone(), &self.options));
        Arc::clone(peers.entry(name.clone()).or_insert_with(new))
    }

    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    pub(crate) fn add_token(&self, token: u64, linked: Linked) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).insert(token, linked);
    }

    pub(crate) fn remove_token(&self, token: u64) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).remove(&token);
    }

    pub(crate) fn by_token(&self, token: u64) -> Option<Linked> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(&token).cloned()
    }

    /// Who owns a Shard that a message is for: what placement says, unless a peer knew of a newer
    /// epoch.
    pub(crate) fn resolve(&self, shard: ShardId) -> Owner {
        let placed = self.router.owner(shard);
        let epoch = match &placed {
            Owner::Here(_) => return placed,
            Owner::There(_, epoch) => *epoch,
            Owner::Nobody => {
                self.router.wanted(shard);
                Epoch::ZERO
            }
        };
        let mut hints = lock(&self.hints);
        match hints.get(&shard) {
            Some((node, hinted)) if *hinted > epoch => Owner::There(node.clone(), *hinted),
            Some(_) => {
                hints.remove(&shard);
                placed
            }
            None => placed,
        }
    }

    /// A peer said who the owner is. Answers whether that is news.
    pub(crate) fn hint(&self, shard: ShardId, owner: NodeName, epoch: Epoch) -> bool {
        if owner == self.name {
            return false;
        }
        let placed = match self.router.owner(shard) {
            Owner::Here(epoch) | Owner::There(_, epoch) => epoch,
            Owner::Nobody => Epoch::ZERO,
        };
        let mut hints = lock(&self.hints);
        let known = hints.get(&shard).map_or(placed, |(_, epoch)| placed.max(*epoch));
        let is_news = epoch > known;
        if is_news {
            hints.insert(shard, (owner, epoch));
        }
        is_news
    }

    /// Waits for the answer of one peer to one envelope; `running` is set when the peer says
    /// that it is handling it.
    pub(crate) fn expect(
        &self,
        id: Uuid,
        from: &NodeName,
        running: &Arc<AtomicBool>,
    ) -> oneshot::Receiver<Signal> {
        let (to, answer) = oneshot::channel();
        let (from, running) = (from.clone(), Arc::clone(running));
        let pending = Pending { from, to, running, parts: Vec::new() };
        lock(&self.pending).insert(id, pending);
        answer
    }

    pub(crate) fn forget(&self, id: Uuid) {
        lock(&self.pending).remove(&id);
    }

    /// An answer came, or will not.
    pub(crate) fn signal(self: &Arc<Self>, id: Uuid, from: &NodeName, signal: Signal) {
        if self.told(id, from, &signal) {
            return;
        }
        let mut pending = lock(&self.pending);
        let Some(ask) = pending.get_mut(&id).filter(|ask| ask.from == *from) else { return };
        let signal = match signal {
            Signal::Fate(Fate::Part { part, body }) => {
                if ask.take(part, &body) {
                    return;
                }
                Signal::Fate(Fate::Unknown)
            }
            Signal::Fate(Fate::Done(last)) if !ask.parts.is_empty() => {
                let mut whole = BytesMut::new();
                ask.parts.drain(..).chain([last]).for_each(|part| whole.extend_from_slice(&part));
                Signal::Fate(Fate::Done(whole.freeze()))
            }
            signal => signal,
        };
        if matches!(signal, Signal::Fate(Fate::Duplicate { done: false })) {
            // Not the answer, which may follow at once: it must find who waits.
            ask.running.store(true, Ordering::Relaxed);
            return;
        }
        if let Some(ask) = pending.remove(&id) {
            // Who asked may have stopped waiting.
            let _ = ask.to.send(signal);
        }
    }

    pub(crate) fn dedupe(&self) -> MutexGuard<'_, Dedupe> {
        lock(&self.dedupe)
    }

    /// Counts a message of a peer as handled. `None`: as many as may be are, or it takes its
    /// answers too slowly.
    pub(crate) fn count_handled(&self, peer: &Arc<Peer>) -> Option<Tally> {
        let may_be = !peer.lock().is_owed_much();
        may_be.then(|| Tally::enter(peer, |peer| &peer.handled, 1, self.options.handled_max))?
    }

    /// Queues a word that costs no credit for a peer's present link.
    pub(crate) fn tell(&self, peer: &Peer, item: &Item) -> Result<(), Full> {
        debug_assert!(!item.costs_credit(), "it is not free");
        let bytes = encode(item).ok_or(Full::Queue)?;
        peer.send(Waiting { bytes, room: Room::Free, envelope: None }).map(drop)
    }
}
