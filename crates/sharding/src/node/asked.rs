//! Messages of peers that entities of this node have, and how their answers go back.
//!
//! No task waits for an answer: whoever answers sends it on its way. One look at all of them,
//! now and then, finds those whose time is up.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tracing::{Instrument as _, Span};
use troupe_actor::spawn_task;
use troupe_types::{EntityId, Uuid};
use troupe_wire::{
    Fate, Item, Reply,
    limits::{BODY_BYTES_MAX, TEXT_BYTES_MAX},
};

use super::{
    ledger::LOOK_EVERY,
    peer::{Full, Peer, Room, Tally, Waiting},
    shared::{NodeShared, encode},
};
use crate::{
    ask::AskError,
    letter::{Answer, AskCell},
};

/// Longest answer that goes to another node, in parts.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A message of a peer.
pub(crate) struct Asked {
    pub(crate) node: Arc<NodeShared>,
    peer: Arc<Peer>,
    entity: EntityId,
    id: Uuid,
    until: Instant,
    #[expect(dead_code, reason = "it counts as handled as long as this is held")]
    handled: Tally,
    span: Span,
}

impl Asked {
    /// `None`: as many as may be are handled for this peer, or wait for it to take their answers.
    pub(crate) fn new(
        node: &Arc<NodeShared>,
        peer: &Arc<Peer>,
        entity: EntityId,
        id: Uuid,
        until: Instant,
        span: &Span,
    ) -> Option<Self> {
        let handled = node.count_handled(peer)?;
        let (node, peer) = (Arc::clone(node), Arc::clone(peer));
        Some(Self { node, peer, entity, id, until, handled, span: span.clone() })
    }

    /// An entity has it in its queue, at this place: who gets the answer, and whether somebody
    /// has to look for those that are late.
    pub(crate) fn posted(self, place: OwnedSemaphorePermit) -> (Arc<AskCell>, bool) {
        let (node, id, until) = (Arc::clone(&self.node), self.id, self.until);
        let cell = AskCell::hooked(place, move |answer| self.answered(answer));
        let unwatched = node.asked.enter(id, until, Arc::clone(&cell));
        (cell, unwatched)
    }

    fn answered(self, answer: Answer) {
        self.node.asked.remove(self.id);
        match answer {
            Ok(body) if body.len() <= BODY_BYTES_MAX => self.over(Fate::Done(body)),
            failed @ Err(AskError::Failed(_)) => {
                let fate = fate_of(failed, self.until);
                self.over(fate);
            }
            // It needs a look at the Shard, whose lock may be held here, or goes in parts.
            answer => self.work_on(async move |asked| asked.node.answer(&asked, answer).await),
        }
    }

    fn over(self, fate: Fate) {
        self.node.dedupe().over(self.entity, self.id, &fate);
        let Some(bytes) = encode(&Item::Reply(Reply { to: self.id, fate })) else { return };
        let waiting = Waiting { bytes: bytes.clone(), room: Room::Answer, envelope: None };
        if self.peer.send(waiting) == Err(Full::Queue) {
            // It counts as handled until it has its room.
            self.work_on(async move |asked| {
                asked.node.answer_later(&asked.peer, asked.id, bytes, asked.until).await;
            });
        }
    }

    /// What takes a while.
    fn work_on<F: Future<Output = ()> + Send + 'static>(self, work: impl FnOnce(Self) -> F) {
        if Handle::try_current().is_err() {
            // The process ends, and the links with it.
            return;
        }
        let span = self.span.clone();
        drop(spawn_task("answer to a peer", work(self).instrument(span)));
    }
}

impl NodeShared {
    /// Looks for messages of peers whose time is up, as long as there are any.
    pub(crate) fn watch_asked(self: &Arc<Self>) {
        let node = Arc::clone(self);
        // Of no one's trace: it looks at all of them.
        let looks = Span::none().in_scope(|| {
            spawn_task("time of asks of peers", async move {
                loop {
                    sleep(LOOK_EVERY).await;
                    let Some(late) = node.asked.due(Instant::now(), |_| true) else { return };
                    late.iter().for_each(|(_, cell)| cell.expire());
                }
            })
        });
        drop(looks);
    }

    /// It is over, and will be known when it comes again.
    pub(crate) fn over(&self, peer: &Peer, entity: EntityId, id: Uuid, fate: Fate) {
        self.dedupe().over(entity, id, &fate);
        self.reply(peer, id, fate);
    }

    /// Says something about an envelope that is not handled (any more).
    pub(crate) fn reply(&self, peer: &Peer, to: Uuid, fate: Fate) {
        self.reply_in(Room::Word, peer, to, fate);
    }

    pub(crate) fn reply_in(&self, room: Room, peer: &Peer, to: Uuid, fate: Fate) {
        let Some(bytes) = encode(&Item::Reply(Reply { to, fate })) else { return };
        if peer.send(Waiting { bytes, room, envelope: None }) == Err(Full::Queue) {
            // The sender was told nothing, so it asks again.
            self.metrics.dropped_full.increment(1);
        }
    }

    /// Answers an envelope that still counts as handled.
    pub(crate) async fn settle(&self, peer: &Arc<Peer>, to: Uuid, fate: Fate, until: Instant) {
        let Some(bytes) = encode(&Item::Reply(Reply { to, fate })) else { return };
        self.answer_later(peer, to, bytes, until).await;
    }

    /// Queues an answer as soon as there is room. Those that wait for it are bounded: beyond that
    /// whoever asked hears that the outcome is not known, for which there always is room.
    async fn answer_later(&self, peer: &Arc<Peer>, to: Uuid, bytes: Bytes, until: Instant) {
        let max = self.options.queue_bytes_max;
        let Some(_held) = Tally::enter(peer, |peer| &peer.answers_bytes, bytes.len(), max) else {
            return self.reply_in(Room::Answer, peer, to, Fate::Unknown);
        };
        peer.reply_when_room(&bytes, Room::Answer, until).await;
    }

    pub(crate) async fn answer(&self, asked: &Asked, answer: Answer) {
        let Asked { peer, entity, id, until, .. } = asked;
        let mut fate = match answer {
            Ok(body) if body.len() > BODY_BYTES_MAX => {
                // Too long to be kept: whoever asks again hears that it is over.
                self.dedupe().over(*entity, *id, &Fate::Duplicate { done: true });
                return self.answer_in_parts(peer, *id, body, *until).await;
            }
            answer => fate_of(answer, *until),
        };
        // It waited in a queue of a Shard that is handed over: the next owner has it done.
        if fate == Fate::NotDelivered && self.router.is_released(entity.shard()) {
            fate = self.not_owner(*entity);
        }
        self.dedupe().over(*entity, *id, &fate);
        self.settle(peer, *id, fate, *until).await;
    }

    /// Sends a long answer as there is room for it.
    async fn answer_in_parts(&self, peer: &Arc<Peer>, id: Uuid, mut body: Bytes, until: Instant) {
        if body.len() > ANSWER_BYTES_MAX {
            tracing::error!(bytes = body.len(), "an answer is too large for the node link");
            return self.settle(peer, id, Fate::Unknown, until).await;
        }
        let mut part = 0;
        loop {
            let piece = body.split_to(BODY_BYTES_MAX.min(body.len()));
            let last = body.is_empty();
            let fate = if last { Fate::Done(piece) } else { Fate::Part { part, body: piece } };
            let Some(bytes) = encode(&Item::Reply(Reply { to: id, fate })) else { return };
            if !peer.reply_when_room(&bytes, Room::Part, until).await || last {
                return;
            }
            part += 1;
        }
    }
}

/// What a peer is told of an answer.
pub(crate) fn fate_of(answer: Answer, until: Instant) -> Fate {
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
