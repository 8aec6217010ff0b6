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
    limits::{BODY_BYTES_MAX, HOPS_MAX, NODE_NAME_BYTES_MAX, TEXT_BYTES_MAX},
};

use super::{
    asks::{Passed, RemoteAsk, What},
    dedupe::Before,
    peer::{Peer, Tally},
    server::RouterMsg,
    shared::{Linked, NodeShared, Signal},
};
use crate::{
    ask::AskError,
    entity::FrameSink,
    letter::{Answer, Content},
    placement::Owner,
    router::Posted,
    trace::incoming,
};

/// Longest answer that goes to another node, in parts.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A part waits so long for room before it is tried again.
const ROOM_PAUSE: Duration = Duration::from_millis(5);
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
            Item::Frames(frames) => self.streams.frames(self, peer, &frames),
            Item::End(end) => self.streams.end(peer, end),
            Item::Stop(stop) => self.streams.stop(&peer.name, stop.stream),
            Item::Handoff(handoff) => self.observer.handoff(&peer.name, handoff),
            Item::Other(kind, _) => tracing::debug!(kind, "a newer kind of item is skipped"),
        }
    }

    fn reply(&self, peer: &Peer, to: Uuid, fate: Fate) {
        if self.tell(peer, &Item::Reply(Reply { to, fate })).is_err() {
            // The sender asks again, and is answered from memory.
            self.metrics.dropped_full.increment(1);
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
        let over = |fate: Fate| {
            self.dedupe().over(entity, id, &fate);
            self.reply(peer, id, fate);
        };
        let handled = Tally::enter(peer, |peer| &peer.handled, 1, self.options.handled_max);
        let Some(handled) = handled else { return over(Fate::Overloaded) };
        let until = Instant::now() + Duration::from_millis(u64::from(envelope.ttl_ms));
        if envelope.ttl_ms == 0 {
            return over(Fate::Expired);
        }
        let span = span_of(peer, entity, &envelope);
        let answer =
            span.in_scope(|| self.router.post(entity, Content::Ask(envelope.body.clone()), false));
        match answer {
            Posted::Here(pending) => {
                let (node, peer) = (Arc::clone(self), Arc::clone(peer));
                let work = async move {
                    let left = until.saturating_duration_since(Instant::now());
                    let answer = pending.within(left).await;
                    node.answer(&peer, entity, id, answer, until).await;
                    drop(handled);
                };
                drop(spawn_task("ask of a peer", work.instrument(span)));
            }
            Posted::Refused(fate) => over(fate_of(Err(fate), until)),
            Posted::Elsewhere(_) if envelope.relay && envelope.hop < HOPS_MAX => {
                self.metrics.relayed.increment(1);
                let (node, peer) = (Arc::clone(self), Arc::clone(peer));
                let ask = self.passed_on(&peer, entity, envelope, What::Ask, until);
                let work = async move {
                    let answer = node.ask(ask).await;
                    node.answer(&peer, entity, id, answer, until).await;
                    drop(handled);
                };
                drop(spawn_task("ask passed on", work.instrument(span)));
            }
            Posted::Elsewhere(_) => over(self.not_owner(entity)),
        }
    }

    fn not_owner(&self, entity: EntityId) -> Fate {
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
        let (id, hop, trace) = (envelope.id, envelope.hop + 1, envelope.trace);
        let passed = Some(Passed { id, from, hop, trace });
        RemoteAsk { to, body: envelope.body, what, until, repeatable: false, inside: false, passed }
    }

    async fn answer(
        &self,
        peer: &Peer,
        entity: EntityId,
        id: Uuid,
        answer: Answer,
        until: Instant,
    ) {
        let mut fate = match answer {
            Ok(body) if body.len() > BODY_BYTES_MAX => {
                // Too long to be kept: whoever asks again hears that it is over.
                self.dedupe().over(entity, id, &Fate::Duplicate { done: true });
                return self.answer_in_parts(peer, id, body, until).await;
            }
            answer => fate_of(answer, until),
        };
        // It waited in a queue of a Shard that is handed over: the next owner has it done.
        if fate == Fate::NotDelivered && self.router.is_released(entity.shard()) {
            fate = self.not_owner(entity);
        }
        self.dedupe().over(entity, id, &fate);
        self.reply(peer, id, fate);
    }

    /// Sends a long answer as there is room for it.
    async fn answer_in_parts(&self, peer: &Peer, id: Uuid, mut body: Bytes, until: Instant) {
        if body.len() > ANSWER_BYTES_MAX {
            tracing::error!(bytes = body.len(), "an answer is too large for the node link");
            return self.reply(peer, id, Fate::Unknown);
        }
        let mut part = 0;
        loop {
            let piece = body.split_to(BODY_BYTES_MAX.min(body.len()));
            let last = body.is_empty();
            let fate = if last { Fate::Done(piece) } else { Fate::Part { part, body: piece } };
            let item = Item::Reply(Reply { to: id, fate });
            while self.tell(peer, &item).is_err() {
                if Instant::now() >= until || peer.up().is_none() {
                    return;
                }
                tokio::time::sleep(ROOM_PAUSE).await;
            }
            if last {
                return;
            }
            part += 1;
        }
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
        let until = Instant::now() + Duration::from_millis(u64::from(envelope.ttl_ms));
        let handled = Tally::enter(peer, |peer| &peer.handled, 1, self.options.handled_max);
        let Some(handled) = handled else { return self.reply(peer, id, Fate::Overloaded) };
        let capacity = capacity.min(CAPACITY_MAX);
        let (sink, items) = FrameSink::new(usize::try_from(capacity).unwrap_or(1));
        let content = Content::Subscribe(envelope.body.clone(), sink.clone());
        let (node, peer) = (Arc::clone(self), Arc::clone(peer));
        let span = span_of(&peer, entity, &envelope);
        let posted = span.in_scope(|| self.router.post(entity, content, false));
        // It would last as long as the stream.
        drop(span);
        match posted {
            Posted::Here(pending) => {
                drop(sink);
                drop(spawn_task("stream to a peer", async move {
                    let left = until.saturating_duration_since(Instant::now());
                    let answer = pending.within(left).await;
                    let ok = answer.is_ok();
                    node.reply(&peer, id, fate_of(answer, until));
                    if ok {
                        node.streams.serve(&node, &peer, generation, stream, items).await;
                    }
                    drop(handled);
                }));
            }
            Posted::Refused(fate) => self.reply(&peer, id, fate_of(Err(fate), until)),
            Posted::Elsewhere(_) if envelope.relay && envelope.hop < HOPS_MAX => {
                self.metrics.relayed.increment(1);
                let what = What::Subscribe(sink, capacity);
                let ask = self.passed_on(&peer, entity, envelope, what, until);
                drop(spawn_task("stream passed on", async move {
                    let answer = node.ask(ask).await;
                    let ok = answer.is_ok();
                    node.reply(&peer, id, fate_of(answer, until));
                    if ok {
                        node.streams.serve(&node, &peer, generation, stream, items).await;
                    }
                    drop(handled);
                }));
            }
            Posted::Elsewhere(_) => self.reply(&peer, id, self.not_owner(entity)),
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

/// What a peer is told of an answer.
fn fate_of(answer: Answer, until: Instant) -> Fate {
    match answer {
        // Answers to asks go in parts; that to a subscription is a few bytes.
        Ok(body) if body.len() > BODY_BYTES_MAX => Fate::Unknown,
        Ok(body) => Fate::Done(body),
        Err(AskError::Overloaded) => Fate::Overloaded,
        Err(AskError::NotDelivered) if Instant::now() >= until => Fate::Expired,
        Err(AskError::NotDelivered) => Fate::NotDelivered,
        Err(AskError::OutcomeUnknown) => Fate::Unknown,
        Err(AskError::Failed(mut why)) => {
            for text in [&mut why.code, &mut why.message] {
                text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            }
            // With both texts it still has to be an item.
            let detail = why.detail.filter(|detail| detail.len() <= BODY_BYTES_MAX - 8 * 1024);
            Fate::Failed { code: why.code, message: why.message, detail }
        }
    }
}

#[cfg(test)]
mod tests;
