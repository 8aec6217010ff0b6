//! What peers tell this node: the one remotable actor, and what it does with each item.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Duration, Instant};
use tracing::{Instrument as _, Span, debug_span};
use troupe_actor::{panic_text, spawn_task};
use troupe_telemetry::trace::child_of;
use troupe_types::{EntityId, Uuid};
use troupe_wire::{
    Batch, Envelope, EnvelopeKind, Fate, Item, Origin, Reply,
    limits::{HOPS_MAX, NODE_NAME_BYTES_MAX},
};

use super::{
    asked::{Asked, fate_of},
    asks::{Passed, RemoteAsk, Stamp, What},
    dedupe::Before,
    peer::{Peer, Room},
    server::RouterMsg,
    shared::{Linked, NodeShared, Signal},
    streams::Served,
};
use crate::{
    entity::FrameSink, letter::Content, placement::Owner, router::Posted, trace::incoming,
};

/// Batches that may wait in a follower's sink, at most.
const CAPACITY_MAX: u32 = 4_096;

/// The ingress of this node's Router. It never waits for an entity, so its queue is as long as
/// the credit of all peers together at most.
#[derive(Debug)]
pub(crate) struct Ingress;

impl Actor for Ingress {
    type Msg = RouterMsg;
    type State = Arc<OnceLock<Arc<NodeShared>>>;
    /// Filled before any peer can know of this actor.
    type Arguments = Arc<OnceLock<Arc<NodeShared>>>;

    async fn pre_start(
        &self,
        _: ActorRef<RouterMsg>,
        node: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(node)
    }

    async fn handle(
        &self,
        _: ActorRef<RouterMsg>,
        RouterMsg(bytes): RouterMsg,
        node: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(node) = node.get() else { return Ok(()) };
        // A panic here would take the ingress, and with it every link, for one peer's word.
        let received = AssertUnwindSafe(|| node.receive(Bytes::from(bytes)));
        if let Err(panic) = catch_unwind(received) {
            tracing::error!(panic = %panic_text(&*panic), "a batch of a peer made us panic");
        }
        Ok(())
    }
}

impl NodeShared {
    /// Handles a batch of a peer.
    fn receive(self: &Arc<Self>, bytes: Bytes) {
        let token = Batch::token_of(&bytes);
        let batch = match Batch::decode(bytes) {
            Ok(batch) => batch,
            Err(error) => {
                self.metrics.dropped_unread.increment(1);
                tracing::warn!(%error, "a batch of a peer does not read, its link is closed");
                if let Some(linked) = token.and_then(|token| self.by_token(token)) {
                    linked.stop.cancel();
                }
                return;
            }
        };
        let Some(Linked { peer, generation, .. }) = self.by_token(batch.token) else {
            // Of a link that is gone: what it asked for is asked again over the next one.
            self.metrics.dropped_late.increment(1);
            return;
        };
        let (mut owed_bytes, mut owed_items) = (0, 0);
        for (item, size) in batch.items {
            if item.costs_credit() {
                owed_bytes += u64::try_from(size).unwrap_or(0);
                owed_items += 1;
            }
            self.item(&peer, generation, item);
        }
        peer.owe(owed_bytes, owed_items);
    }

    fn item(self: &Arc<Self>, peer: &Arc<Peer>, generation: u64, item: Item) {
        match item {
            Item::Envelope(envelope) => self.envelope(peer, generation, envelope),
            Item::Reply(Reply { to, fate }) => self.signal(to, &peer.name, Signal::Fate(fate)),
            Item::Credit(credit) => peer.granted(credit),
            Item::Heartbeat(beat) => self.observer.heard(&peer.name, beat),
            Item::Frames(frames) => self.streams.frames(self, peer, generation, &frames),
            Item::End(end) => self.streams.end(peer, end),
            Item::Stop(stop) => self.streams.stop(&peer.name, generation, stop.stream),
            Item::Handoff(handoff) => self.observer.handoff(&peer.name, handoff),
            Item::Other(kind, _) => tracing::debug!(kind, "a newer kind of item is skipped"),
        }
    }

    fn envelope(self: &Arc<Self>, peer: &Arc<Peer>, generation: u64, envelope: Envelope) {
        let id = envelope.id;
        let known = !matches!(envelope.kind, EnvelopeKind::Other(_));
        let Some(entity) = envelope.to.entity().filter(|_| known) else {
            return self.reply(peer, id, Fate::Unsupported);
        };
        if let EnvelopeKind::Subscribe { stream, capacity } = envelope.kind {
            return self.subscription(peer, generation, entity, (stream, capacity), envelope);
        }
        match self.dedupe().come(entity, id, self.clock.mono()) {
            Before::New => {}
            Before::Running => {
                self.metrics.duplicates.increment(1);
                return self.reply(peer, id, Fate::Duplicate { done: false });
            }
            Before::Over(fate) => {
                self.metrics.duplicates.increment(1);
                return self.reply(peer, id, fate.unwrap_or(Fate::Duplicate { done: true }));
            }
        }
        let over = |fate: Fate| self.over(peer, entity, id, fate);
        let until = Instant::now() + Duration::from_millis(u64::from(envelope.ttl_ms));
        let span = span_of(peer, entity, &envelope);
        let asked = || Asked::new(self, peer, entity, id, until, &span);
        let Some(one) = asked() else { return over(Fate::Overloaded) };
        if envelope.ttl_ms == 0 {
            return over(Fate::Expired);
        }
        let posted = span.in_scope(|| {
            let content = Content::Ask(envelope.body.clone());
            self.router.post_of(entity, content, false, |place| one.posted(place))
        });
        match posted {
            Posted::Here(true) => self.watch_asked(),
            Posted::Here(false) => {}
            Posted::Refused(fate) => over(fate_of(Err(fate), until)),
            Posted::Elsewhere(_) if envelope.relay && envelope.hop < HOPS_MAX => {
                let Some(one) = asked() else { return over(Fate::Overloaded) };
                self.metrics.relayed.increment(1);
                let ask = self.passed_on(peer, entity, envelope, What::Ask, until);
                let work = async move {
                    let answer = one.node.ask(ask).await;
                    one.node.answer(&one, answer).await;
                };
                drop(spawn_task("ask passed on", work.instrument(span)));
            }
            Posted::Elsewhere(_) => over(self.not_owner(entity)),
        }
    }

    pub(crate) fn not_owner(&self, entity: EntityId) -> Fate {
        self.metrics.not_owner.increment(1);
        match self.resolve(entity.shard()) {
            Owner::There(node, epoch) => {
                let owner = (node.0.len() <= NODE_NAME_BYTES_MAX).then(|| node.0.to_string());
                Fate::NotOwner { owner, epoch }
            }
            Owner::Here(epoch) => Fate::NotOwner { owner: None, epoch },
            Owner::Nobody => Fate::NotOwner { owner: None, epoch: troupe_types::Epoch::ZERO },
        }
    }

    fn passed_on(
        &self,
        peer: &Peer,
        to: EntityId,
        envelope: Envelope,
        what: What,
        until: Instant,
    ) -> RemoteAsk {
        let from = envelope.from.unwrap_or_else(|| Origin {
            node: peer.name.0.to_string(),
            boot: peer.up().map_or(Uuid::nil(), |up| up.boot),
        });
        let sender_seq = self.next_sender_seq();
        let stamp = Stamp { id: envelope.id, sender_seq, trace: envelope.trace };
        let (body, passed) = (envelope.body, Some(Passed { from, hop: envelope.hop + 1 }));
        RemoteAsk { stamp, to, body, what, until, repeatable: false, inside: false, passed }
    }

    fn subscription(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        generation: u64,
        entity: EntityId,
        (stream, capacity): (u64, u32),
        envelope: Envelope,
    ) {
        let id = envelope.id;
        // It is sent once, so a refusal has to be heard: it has the room of what is counted here.
        let refuse = |fate| self.reply_in(Room::Answer, peer, id, fate);
        let until = Instant::now() + Duration::from_millis(u64::from(envelope.ttl_ms));
        let handled = self.count_handled(peer);
        let Some(handled) = handled else { return self.reply(peer, id, Fate::Overloaded) };
        // From before anybody can answer: a Stop that comes meanwhile must find it.
        let served = Served::enter(self, peer, generation, stream);
        let Some(served) = served else { return refuse(Fate::Unsupported) };
        let capacity = capacity.min(CAPACITY_MAX);
        let (sink, items) = FrameSink::new(usize::try_from(capacity).unwrap_or(1));
        let content = Content::Subscribe(envelope.body.clone(), sink.clone());
        let span = span_of(peer, entity, &envelope);
        let posted = span.in_scope(|| self.router.post(entity, content, false));
        // It would last as long as the stream.
        drop(span);
        match posted {
            Posted::Here(pending) => {
                drop(sink);
                let left = until.saturating_duration_since(Instant::now());
                let follow = served.follow(id, until, pending.within(left), items);
                drop(spawn_task("stream to a peer", async move {
                    follow.await;
                    drop(handled);
                }));
            }
            Posted::Refused(fate) => refuse(fate_of(Err(fate), until)),
            Posted::Elsewhere(_) if envelope.relay && envelope.hop < HOPS_MAX => {
                self.metrics.relayed.increment(1);
                let what = What::Subscribe(sink, capacity);
                let ask = self.passed_on(peer, entity, envelope, what, until);
                let node = Arc::clone(self);
                let asking = async move { node.ask(ask).await };
                let follow = served.follow(id, until, asking, items);
                drop(spawn_task("stream passed on", async move {
                    follow.await;
                    drop(handled);
                }));
            }
            Posted::Elsewhere(_) => refuse(self.not_owner(entity)),
        }
    }
}

/// The span of what a peer asks, below the one that sent it.
fn span_of(peer: &Peer, entity: EntityId, envelope: &Envelope) -> Span {
    child_of(incoming(envelope.trace.as_ref()), || {
        debug_span!("ask of a peer", otel.kind = "server", peer = %peer.name.0, %entity,
            hop = envelope.hop, relay = envelope.relay)
    })
}

#[cfg(test)]
mod tests;
