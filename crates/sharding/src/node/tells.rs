//! Tells to entities of other nodes.
//!
//! Nearly every tell is answered over the link that it went over. So its first try has no task,
//! no timer and nobody who waits: a note of it is kept until the answer comes. What does not go
//! that way goes on as an ask of which nobody hears: the envelope is the same, so whoever has it
//! already knows it again.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, Span};
use troupe_actor::spawn_task;
use troupe_types::{EntityId, Uuid};
use troupe_wire::{BatchWriter, EnvelopeKind, Fate, Item};

use super::{
    asks::{RemoteAsk, What},
    ledger::LOOK_EVERY,
    peer::{Peer, Room, Tally, Up, Waiting},
    shared::{NodeShared, Signal},
};
use crate::{
    ask::AskError,
    letter::Answer,
    placement::{NodeName, Owner},
    router::Telling,
};

/// A tell that its owner's node was sent, and has not answered.
pub(crate) struct Told {
    ask: RemoteAsk,
    owner: NodeName,
    peer: Arc<Peer>,
    up: Up,
    counted: [Tally; 2],
    telling: Telling,
}

impl Told {
    /// Whether it is of no use to wait any longer for its answer.
    fn is_given_up(&self, now: Instant) -> bool {
        let still_waits = self.peer.up() == Some(self.up) && !self.peer.lock().is_empty();
        // Behind others that wait, it would not come there sooner.
        now >= self.ask.until || !still_waits
    }

    fn end(self, answer: &Answer) {
        self.telling.end(self.ask.to, answer);
    }
}

impl NodeShared {
    /// Tells the owner of an entity, if its link is up and has room. Else nothing was done.
    pub(crate) fn tell_owner(
        self: &Arc<Self>,
        to: EntityId,
        body: Bytes,
        until: Instant,
        inside: bool,
        mut telling: Telling,
    ) -> Result<(), Telling> {
        let Owner::There(owner, epoch) = self.resolve(to.shard()) else { return Err(telling) };
        let peer = self.peer_or_new(&owner);
        let Some(up) = peer.up() else { return Err(telling) };
        let Some(counted) = self.count_ask(&peer, body.len()) else { return Err(telling) };
        telling.begin(to);
        let stamp = telling.span().in_scope(|| self.stamp());
        let (what, id) = (What::Tell, stamp.id);
        let ask =
            RemoteAsk { stamp, to, body, what, until, repeatable: true, inside, passed: None };
        let envelope = ask.envelope(id, EnvelopeKind::Tell, epoch, false);
        let Ok(bytes) = BatchWriter::encode_item(&Item::Envelope(envelope)) else {
            return Err(telling);
        };
        let told = Told { ask, owner, peer: Arc::clone(&peer), up, counted, telling };
        // Before it is sent: the answer must find it.
        let unwatched = self.tells.enter(id, Instant::now() + self.options.retries[0], told);
        if unwatched {
            self.watch_tells();
        }
        match peer.send(Waiting { bytes, room: Room::Common, envelope: Some(id) }) {
            Ok(_) => Ok(()),
            Err(_) => self.tells.remove(id).map_or(Ok(()), |told| Err(told.telling)),
        }
    }

    /// What became of a tell; `None`: it is none.
    pub(crate) fn told(self: &Arc<Self>, id: Uuid, from: &NodeName, signal: &Signal) -> bool {
        let Some(told) = self.tells.remove_if(id, |told| told.owner == *from) else { return false };
        match signal {
            // The rest of a long answer finds nobody.
            Signal::Fate(Fate::Done(_) | Fate::Part { .. } | Fate::Duplicate { done: true }) => {
                told.end(&Ok(Bytes::new()));
            }
            Signal::Fate(Fate::Duplicate { done: false }) => self.tell_on(told, None, true),
            Signal::Unsent => self.tell_on(told, None, false),
            Signal::Fate(fate) => self.tell_on(told, Some(fate.clone()), false),
        }
        true
    }

    /// Goes on with a tell that is not done with its first try.
    fn tell_on(self: &Arc<Self>, told: Told, heard: Option<Fate>, maybe_handled: bool) {
        let (node, span) = (Arc::clone(self), told.telling.span().clone());
        let work = async move {
            let Told { ask, owner, counted, telling, .. } = told;
            // It is counted anew with every try.
            drop(counted);
            let heard = heard.map(|fate| (fate, &owner));
            let answer = node.ask_on(&ask, heard, maybe_handled).await;
            telling.end(ask.to, &answer);
        };
        drop(spawn_task("tell", work.instrument(span)));
    }

    /// Looks for tells that wait too long, as long as there are any.
    fn watch_tells(self: &Arc<Self>) {
        let node = Arc::clone(self);
        // Of no one's trace: it looks at all of them.
        let looks = Span::none().in_scope(|| {
            spawn_task("tells under way", async move {
                loop {
                    sleep(LOOK_EVERY).await;
                    let now = Instant::now();
                    let Some(late) = node.tells.due(now, |told| told.is_given_up(now)) else {
                        return;
                    };
                    for (id, told) in late {
                        if now < told.ask.until {
                            node.tell_on(told, None, true);
                            continue;
                        }
                        let unsent = told.peer.lock().withdraw(id);
                        let fate =
                            if unsent { AskError::NotDelivered } else { AskError::OutcomeUnknown };
                        told.end(&Err(fate));
                    }
                }
            })
        });
        drop(looks);
    }
}
