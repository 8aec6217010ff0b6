//! Messages of peers that entities of this node have, and how their answers go back.
//!
//! No task waits for an answer: whoever answers sends it on its way. One look at all of them,
//! now and then, finds those whose time is up.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::OwnedSemaphorePermit,
    time::{Duration, Instant, sleep},
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
    peer::{Peer, Tally},
    shared::NodeShared,
};
use crate::{
    ask::AskError,
    letter::{Answer, AskCell},
};

/// Longest answer that goes to another node, in parts.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A part waits so long for room before it is tried again.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

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
    /// `None`: as many as may be are handled for this peer.
    pub(crate) fn new(
        node: &Arc<NodeShared>,
        peer: &Arc<Peer>,
        entity: EntityId,
        id: Uuid,
        until: Instant,
        span: &Span,
    ) -> Option<Self> {
        let handled = Tally::enter(peer, |peer| &peer.handled, 1, node.options.handled_max)?;
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
            failed @ Err(AskError::Failed(_)) => self.over(fate_of(failed, self.until)),
            answer => self.look_into(answer),
        }
    }

    fn over(&self, fate: Fate) {
        self.node.over(&self.peer, self.entity, self.id, fate);
    }

    /// What takes a while, or a look at the Shard: its lock may be held here.
    fn look_into(self, answer: Answer) {
        if Handle::try_current().is_err() {
            // The process ends, and the links with it.
            return;
        }
        let span = self.span.clone();
        let work = async move { self.node.answer(&self, answer).await };
        drop(spawn_task("answer to a peer", work.instrument(span)));
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

    pub(crate) fn reply(&self, peer: &Peer, to: Uuid, fate: Fate) {
        if self.tell(peer, &Item::Reply(Reply { to, fate })).is_err() {
            // The sender asks again, and is answered from memory.
            self.metrics.dropped_full.increment(1);
        }
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
        self.over(peer, *entity, *id, fate);
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
                sleep(ROOM_PAUSE).await;
            }
            if last {
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
