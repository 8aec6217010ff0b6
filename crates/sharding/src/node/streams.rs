//! Subscriptions across nodes: the subscriber's side and the owner's side.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use troupe_actor::spawn_task;
use troupe_types::{Frame, Uuid};
use troupe_wire::{
    BatchWriter, Item, StreamEnd, StreamEnded, StreamFrames, StreamStop,
    limits::{BODY_BYTES_MAX, STREAM_FRAMES_MAX},
};

use super::{asked::fate_of, peer::Peer, shared::NodeShared};
use crate::{
    entity::{FrameBatch, FrameSink, StreamItem},
    letter::Answer,
    placement::NodeName,
};

/// Streams that their peers were told to stop, and are remembered for it.
const STOPPED_MAX: usize = 1_024;

/// A stream of one link: its peer, the generation of the link, the follower's number.
type Key = (NodeName, u64, u64);

/// A stream that this node follows.
#[derive(Debug)]
struct Incoming {
    from: NodeName,
    generation: u64,
    sink: FrameSink,
    /// The piece that comes next.
    piece: u64,
    #[expect(dead_code, reason = "ends the watch over the follower when it is dropped")]
    watched: DropGuard,
}

/// All streams of a node, both ways.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    next: AtomicU64,
    incoming: Mutex<HashMap<u64, Incoming>>,
    /// What peers were told to stop lately: what was under way then needs no further word.
    stopped: Mutex<Stopped>,
    /// Streams that this node serves, or is about to.
    served: Mutex<HashMap<Key, CancellationToken>>,
}

/// The newest streams that were stopped.
#[derive(Debug, Default)]
struct Stopped {
    order: VecDeque<Key>,
    known: HashSet<Key>,
}

impl Stopped {
    fn enter(&mut self, key: Key) {
        if !self.known.insert(key.clone()) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > STOPPED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// A peer's subscription, from before it is posted to the end of its stream: a Stop finds it at
/// any time.
#[derive(Debug)]
pub(crate) struct Served {
    node: Arc<NodeShared>,
    peer: Arc<Peer>,
    key: Key,
    stop: CancellationToken,
}

impl Served {
    /// `None`: the peer gave this number to another one.
    pub(crate) fn enter(
        node: &Arc<NodeShared>,
        peer: &Arc<Peer>,
        generation: u64,
        stream: u64,
    ) -> Option<Self> {
        let key = (peer.name.clone(), generation, stream);
        let stop = CancellationToken::new();
        match lock(&node.streams.served).entry(key.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(stop.clone())),
        }
        Some(Self { node: Arc::clone(node), peer: Arc::clone(peer), key, stop })
    }

    /// Does something for it. `None`: the follower is gone, or the link, and it was given up.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let generation = self.key.1;
        let mut up = self.peer.watch();
        let link_gone = up.wait_for(|up| up.is_none_or(|up| up.generation != generation));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            _ = link_gone => None,
            done = work => Some(done),
        }
    }

    /// Answers the subscription, then sends its stream.
    pub(crate) async fn follow(
        self,
        id: Uuid,
        until: Instant,
        answer: impl Future<Output = Answer>,
        items: mpsc::Receiver<StreamItem>,
    ) {
        let answered = self.unless_stopped(async {
            let answer = answer.await;
            let ok = answer.is_ok();
            self.node.settle(&self.peer, id, fate_of(answer, until), until).await;
            ok
        });
        if answered.await == Some(true) {
            self.serve(items).await;
        }
    }

    /// Sends the stream until either end is gone.
    async fn serve(&self, mut items: mpsc::Receiver<StreamItem>) {
        let (_, generation, stream) = self.key;
        let streams = &self.node.metrics.streams;
        streams.increment(1);
        self.unless_stopped(forward(&self.peer, generation, stream, &mut items)).await;
        streams.decrement(1);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        lock(&self.node.streams.served).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    /// A new stream from a peer, over its link of this generation.
    pub(crate) fn follow(
        &self,
        node: &Arc<NodeShared>,
        peer: &Arc<Peer>,
        generation: u64,
        sink: FrameSink,
    ) -> u64 {
        let stream = self.next.fetch_add(1, Ordering::Relaxed);
        let stop = CancellationToken::new();
        let watched = stop.clone().drop_guard();
        let from = peer.name.clone();
        let to = sink.to.clone();
        lock(&self.incoming).insert(stream, Incoming { from, generation, sink, piece: 1, watched });
        let (node, peer) = (Arc::clone(node), Arc::clone(peer));
        drop(spawn_task("stream watch", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = to.closed() => node.streams.unfollow(&node, &peer, stream),
            }
        }));
        stream
    }

    /// The follower is gone, or gave up.
    pub(crate) fn unfollow(&self, node: &NodeShared, peer: &Peer, stream: u64) {
        if lock(&self.incoming).remove(&stream).is_some() {
            // Not noted as told: a node of a build before forgets one that comes before its answer,
            // and is told again by its frames.
            let _ = node.tell(peer, &Item::Stop(StreamStop { stream }));
        }
    }

    /// Has a peer stop a stream, once. Lost with the link, the peer notices by itself; if there is
    /// no room, the next frames lead here again.
    fn tell_stop(&self, node: &NodeShared, peer: &Peer, generation: u64, stream: u64) {
        let key = (peer.name.clone(), generation, stream);
        let mut stopped = lock(&self.stopped);
        if !stopped.known.contains(&key)
            && node.tell(peer, &Item::Stop(StreamStop { stream })).is_ok()
        {
            stopped.enter(key);
        }
    }

    /// Frames came. Of a stream that nobody follows, its peer is told so.
    pub(crate) fn frames(
        &self,
        node: &NodeShared,
        peer: &Peer,
        generation: u64,
        frames: &StreamFrames,
    ) {
        let batch = decode(&frames.frames);
        if batch.is_none() {
            node.metrics.dropped_unread.increment(1);
        }
        let mut incoming = lock(&self.incoming);
        let is_mine = |stream: &&mut Incoming| stream.from == peer.name;
        let follows = incoming.get_mut(&frames.stream).filter(is_mine).map(|stream| {
            let in_order = stream.piece == frames.piece;
            stream.piece += 1;
            // A gap closes the stream, which means: subscribe again from the last seq.
            in_order && batch.is_some_and(|batch| stream.sink.offer(batch))
        });
        if follows == Some(false) {
            incoming.remove(&frames.stream);
        }
        drop(incoming);
        if follows != Some(true) {
            self.tell_stop(node, peer, generation, frames.stream);
        }
    }

    /// The owner's last word.
    pub(crate) fn end(&self, peer: &Peer, end: StreamEnd) {
        let mut incoming = lock(&self.incoming);
        if incoming.get(&end.stream).is_none_or(|stream| stream.from != peer.name) {
            return;
        }
        let Some(stream) = incoming.remove(&end.stream) else { return };
        match end.how {
            StreamEnded::Lagged => stream.sink.lag(),
            StreamEnded::Ended => stream.sink.end(),
            StreamEnded::Closed | StreamEnded::Other(_) => {}
        }
    }

    /// A link is gone, and with it what came over it: the followers see their streams close.
    pub(crate) fn link_down(&self, peer: &NodeName, generation: u64) {
        lock(&self.incoming)
            .retain(|_, stream| stream.from != *peer || stream.generation != generation);
    }

    /// A follower on another node is gone.
    pub(crate) fn stop(&self, peer: &NodeName, generation: u64, stream: u64) {
        if let Some(stop) = lock(&self.served).get(&(peer.clone(), generation, stream)) {
            stop.cancel();
        }
    }

    /// Streams that are served, or about to be.
    #[cfg(test)]
    pub(crate) fn serving(&self) -> usize {
        lock(&self.served).len()
    }
}

/// Waits for frames, and for room to send them: meanwhile the sink fills and the entity moves on.
async fn forward(
    peer: &Peer,
    generation: u64,
    stream: u64,
    items: &mut mpsc::Receiver<StreamItem>,
) {
    let mut piece = 0;
    let how = loop {
        match items.recv().await {
            Some(StreamItem::Frames(batch)) => {
                let Some(parts) = encode(&batch) else { break StreamEnded::Closed };
                let last = parts.len();
                for (n, frames) in parts.into_iter().enumerate() {
                    piece += 1;
                    let more = n + 1 < last;
                    let item = Item::Frames(StreamFrames { stream, piece, more, frames });
                    let Ok(bytes) = BatchWriter::encode_item(&item) else { return };
                    if !peer.send_when_room(generation, &bytes).await {
                        return;
                    }
                }
            }
            Some(StreamItem::Lagged) => break StreamEnded::Lagged,
            Some(StreamItem::Ended) => break StreamEnded::Ended,
            None => break StreamEnded::Closed,
        }
    };
    let item = Item::End(StreamEnd { stream, how });
    if let Ok(bytes) = BatchWriter::encode_item(&item) {
        peer.send_when_room(generation, &bytes).await;
    }
}

/// A batch of frames in pieces that fit. `None`: a frame is too large for any.
fn encode(batch: &FrameBatch) -> Option<Vec<Vec<Bytes>>> {
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for frame in batch.iter() {
        let bytes = serde_json::to_vec(frame).ok()?;
        if bytes.len() > BODY_BYTES_MAX {
            tracing::error!(bytes = bytes.len(), "a frame is too large for the node link");
            return None;
        }
        let part = parts.last_mut()?;
        if size + bytes.len() > BODY_BYTES_MAX || part.len() >= STREAM_FRAMES_MAX {
            size = bytes.len();
            parts.push(vec![Bytes::from(bytes)]);
        } else {
            size += bytes.len();
            part.push(Bytes::from(bytes));
        }
    }
    Some(parts)
}

fn decode(frames: &[Bytes]) -> Option<FrameBatch> {
    let decoded: Result<Vec<Frame>, _> =
        frames.iter().map(|frame| serde_json::from_slice(frame)).collect();
    decoded
        .inspect_err(|error| tracing::warn!(%error, "frames of a peer do not read"))
        .ok()
        .map(FrameBatch::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: usize, text: &str) -> Frame {
        let json = serde_json::json!({
            "seq": seq, "at": "2023-11-14T22:13:20.123Z", "frame": "status",
            "phase": text,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn batches_are_cut_into_pieces_that_fit_and_come_back_whole() {
        let text = "x".repeat(100_000);
        let batch: FrameBatch = (1..=7).map(|seq| frame(seq, &text)).collect();
        let parts = encode(&batch).unwrap();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 1]);
        let back: Vec<Frame> =
            parts.iter().flat_map(|part| decode(part).unwrap().to_vec()).collect();
        assert_eq!(back, batch.to_vec());
        assert_eq!(encode(&FrameBatch::from([])).unwrap(), [Vec::<Bytes>::new()]);
    }

    #[test]
    fn a_frame_that_fits_nowhere_ends_the_stream() {
        let batch: FrameBatch = [frame(1, &"x".repeat(BODY_BYTES_MAX))].into();
        assert!(encode(&batch).is_none());
        assert!(decode(&[Bytes::from_static(b"nonsense")]).is_none());
    }
}
