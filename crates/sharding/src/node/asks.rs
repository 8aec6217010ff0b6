//! Asking an entity that lives on another node.
//!
//! The same envelope goes to the same boot of its owner as often as needed; there it is handled
//! once. When the owner changed and the first one may have handled it, the outcome is unknown,
//! unless the caller said that the entity knows repeated messages by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};
use troupe_types::{EntityId, Epoch, Uuid};
use troupe_wire::{
    BatchWriter, Envelope, EnvelopeKind, Fate, Item, Origin, TraceContext, limits::HOPS_MAX,
};

use super::{
    options::NodeOptions,
    peer::{Full, Peer, Room, Tally, Up, Waiting},
    shared::{NodeShared, Signal},
};
use crate::{
    ask::{AskError, FailedAsk},
    entity::FrameSink,
    letter::{Answer, Content},
    placement::{NodeName, Owner},
    router::Posted,
};

/// How often it is looked whether somebody else owns the Shard by now.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// First pause when nobody knows the owner; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Ask,
    Tell,
    /// Frames are wanted, so many batches may wait.
    Subscribe(FrameSink, u32),
}

/// What all envelopes of a message have, however often it is sent.
#[derive(Debug)]
pub(crate) struct Stamp {
    pub(crate) id: Uuid,
    pub(crate) sender_seq: u64,
    pub(crate) trace: Option<TraceContext>,
}

/// An ask that goes to another node.
#[derive(Debug)]
pub(crate) struct RemoteAsk {
    pub(crate) stamp: Stamp,
    pub(crate) to: EntityId,
    pub(crate) body: Bytes,
    pub(crate) what: What,
    pub(crate) until: Instant,
    /// It may be handled by a second owner, even if a first one may have handled it.
    pub(crate) repeatable: bool,
    /// It comes from an entity.
    pub(crate) inside: bool,
    /// What an envelope already had that is passed on.
    pub(crate) passed: Option<Passed>,
}

/// What an envelope brings that is passed on.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) from: Origin,
    pub(crate) hop: u8,
}

/// How one try ended.
enum Tried {
    /// That is it.
    Answer(Answer),
    /// It was certainly not handled; look who owns the Shard and try again.
    Again,
    /// The same, after a pause.
    Later,
    /// It may have been handled, and nobody can say.
    Lost,
}

/// One ask on its way.
struct Journey<'a> {
    node: &'a Arc<NodeShared>,
    ask: &'a RemoteAsk,
    /// Since when the owner's link has been down.
    down_since: Option<Instant>,
}

/// How far one try is.
struct Turn {
    /// The link that it was first sent over.
    first: Up,
    /// The one that is up.
    link: Option<Up>,
    /// Repeats so far.
    sent: usize,
    /// When it is due again.
    next: Instant,
}

impl Turn {
    fn link_changed(&mut self, expecting: &Expecting<'_>, now: Option<Up>) -> Option<Tried> {
        self.link = now;
        self.next = Instant::now();
        match now {
            Some(now) if now.boot != self.first.boot => return Some(Tried::Lost),
            // The same process again: it knows the envelope if it had it.
            Some(_) => expecting.running.store(false, Ordering::Relaxed),
            None => self.next += LOOK_AGAIN,
        }
        None
    }
}

/// Takes a waiting ask out of the books, however it ends.
struct Expecting<'a> {
    node: &'a NodeShared,
    peer: &'a Peer,
    id: Uuid,
    /// The peer is handling it.
    running: Arc<AtomicBool>,
    answered: bool,
}

impl Expecting<'_> {
    /// Takes it back if it still waits to be sent.
    fn withdraw(&self) -> bool {
        self.peer.lock().withdraw(self.id)
    }
}

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.node.forget(self.id);
        if !self.answered {
            self.withdraw();
        }
    }
}

impl NodeShared {
    /// For a message of this node.
    pub(crate) fn stamp(&self) -> Stamp {
        let (id, sender_seq) = (self.new_id(), self.next_sender_seq());
        Stamp { id, sender_seq, trace: crate::trace::outgoing() }
    }

    /// `None`: as much as may be waits for this peer.
    pub(crate) fn count_ask(&self, peer: &Arc<Peer>, size: usize) -> Option<[Tally; 2]> {
        let NodeOptions { asks_max, asks_bytes_max, .. } = self.options;
        let counted = Tally::enter(peer, |peer| &peer.asks, 1, asks_max)?;
        Some([counted, Tally::enter(peer, |peer| &peer.asks_bytes, size, asks_bytes_max)?])
    }

    /// Asks the owner of an entity, wherever it is, until it answers or the time is up.
    pub(crate) async fn ask(self: &Arc<Self>, ask: RemoteAsk) -> Answer {
        self.ask_on(&ask, None, false).await
    }

    /// The same for an ask of which its owner has already said something, or which somebody may
    /// have handled already.
    pub(crate) async fn ask_on(
        self: &Arc<Self>,
        ask: &RemoteAsk,
        mut heard: Option<(Fate, &NodeName)>,
        mut maybe_handled: bool,
    ) -> Answer {
        let mut journey = Journey { node: self, ask, down_since: None };
        let mut pause = PAUSE_MIN;
        loop {
            let tried = match heard.take() {
                Some((fate, owner)) => journey.read(fate, owner),
                None => journey.go().await,
            };
            let fate = match tried {
                Tried::Answer(Err(fate)) if maybe_handled && fate.is_transient() => {
                    Err(AskError::OutcomeUnknown)
                }
                Tried::Answer(answer) => answer,
                Tried::Lost if !ask.repeatable => Err(AskError::OutcomeUnknown),
                Tried::Lost | Tried::Again | Tried::Later if Instant::now() >= ask.until => {
                    let sure = !maybe_handled && !matches!(tried, Tried::Lost);
                    Err(if sure { AskError::NotDelivered } else { AskError::OutcomeUnknown })
                }
                Tried::Again => continue,
                Tried::Lost | Tried::Later => {
                    maybe_handled |= matches!(tried, Tried::Lost);
                    sleep_until(ask.until.min(Instant::now() + pause)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    if Instant::now() < ask.until {
                        continue;
                    }
                    let sure = !maybe_handled;
                    Err(if sure { AskError::NotDelivered } else { AskError::OutcomeUnknown })
                }
            };
            let again = ask.repeatable && matches!(&fate, Err(fate) if fate.is_transient());
            if !again || Instant::now() >= ask.until {
                return fate;
            }
            maybe_handled |= fate == Err(AskError::OutcomeUnknown);
            sleep_until(ask.until.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl RemoteAsk {
    /// For one try, under the id of the stamp or one of its own.
    pub(crate) fn envelope(
        &self,
        id: Uuid,
        kind: EnvelopeKind,
        epoch: Epoch,
        relay: bool,
    ) -> Envelope {
        let left = self.until.saturating_duration_since(Instant::now());
        Envelope {
            id,
            from: self.passed.as_ref().map(|passed| passed.from.clone()),
            sender_seq: self.stamp.sender_seq,
            to: self.to.into(),
            shard: self.to.shard(),
            epoch,
            ttl_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            hop: self.passed.as_ref().map_or(0, |passed| passed.hop),
            relay,
            kind,
            trace: self.stamp.trace,
            body: self.body.clone(),
        }
    }
}

impl Journey<'_> {
    async fn go(&mut self) -> Tried {
        match self.node.resolve(self.ask.to.shard()) {
            Owner::Here(_) => self.here().await,
            Owner::Nobody => Tried::Later,
            Owner::There(owner, epoch) => self.there(&owner, epoch).await,
        }
    }

    /// The Shard came to this node meanwhile.
    async fn here(&self) -> Tried {
        let body = self.ask.body.clone();
        let content = match &self.ask.what {
            What::Ask | What::Tell => Content::Ask(body),
            What::Subscribe(sink, _) => Content::Subscribe(body, sink.clone()),
        };
        match self.node.router.post(self.ask.to, content, self.ask.inside) {
            Posted::Here(pending) => {
                let left = self.ask.until.saturating_duration_since(Instant::now());
                Tried::Answer(pending.within(left).await)
            }
            // The claim is new, and what is here is of an older one.
            Posted::Elsewhere(_) => Tried::Later,
            Posted::Refused(fate) => Tried::Answer(Err(fate)),
        }
    }

    async fn there(&mut self, owner: &NodeName, epoch: Epoch) -> Tried {
        let peer = self.node.peer_or_new(owner);
        // Those that wait for a link count too: they hold what they will send.
        let Some(_counted) = self.node.count_ask(&peer, self.ask.body.len()) else {
            return Tried::Answer(Err(AskError::Overloaded));
        };
        if let Some(up) = peer.up() {
            self.down_since = None;
            return self.try_at(&peer, up, owner, epoch, false).await;
        }
        let since = *self.down_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.node.options.relay_after
            && let Some((relay, up)) = self.relay(owner)
        {
            return self.try_at(&relay, up, owner, epoch, true).await;
        }
        let mut watch = peer.watch();
        let look_again = self.ask.until.min(Instant::now() + LOOK_AGAIN);
        tokio::select! {
            _ = watch.wait_for(Option::is_some) => Tried::Again,
            () = sleep_until(look_again) => Tried::Again,
        }
    }

    /// Somebody who is there and may reach the owner.
    fn relay(&self, owner: &NodeName) -> Option<(Arc<Peer>, Up)> {
        let hop = self.ask.passed.as_ref().map_or(0, |passed| passed.hop);
        let is_origin = |peer: &Peer| {
            self.ask.passed.as_ref().is_some_and(|passed| *passed.from.node == *peer.name.0)
        };
        if hop >= HOPS_MAX {
            return None;
        }
        let peers = self.node.peers();
        let mut up: Vec<_> = peers
            .into_iter()
            .filter(|peer| peer.name != *owner && !is_origin(peer))
            .filter_map(|peer| peer.up().map(|up| (peer, up)))
            .collect();
        // Spread over them, and another one with every ask.
        let at = usize::try_from(self.ask.stamp.sender_seq).unwrap_or(0) % up.len().max(1);
        (!up.is_empty()).then(|| up.swap_remove(at))
    }

    /// Sends it to one peer and waits for what it says.
    async fn try_at(
        &self,
        peer: &Arc<Peer>,
        up: Up,
        owner: &NodeName,
        epoch: Epoch,
        relay: bool,
    ) -> Tried {
        let (id, kind, stream) = match &self.ask.what {
            What::Ask => (self.ask.stamp.id, EnvelopeKind::Ask, None),
            What::Tell => (self.ask.stamp.id, EnvelopeKind::Tell, None),
            What::Subscribe(sink, capacity) => {
                let follow = &self.node.streams;
                let stream = follow.follow(self.node, peer, up.generation, sink.clone());
                let kind = EnvelopeKind::Subscribe { stream, capacity: *capacity };
                // Every try is another stream, so it is another message.
                (self.node.new_id(), kind, Some(stream))
            }
        };
        let running = Arc::default();
        let answer = self.node.expect(id, &peer.name, &running);
        let mut expecting = Expecting { node: self.node, peer, id, running, answered: false };
        let send = |to: &Peer| {
            let envelope = self.ask.envelope(id, kind, epoch, relay);
            let Ok(bytes) = BatchWriter::encode_item(&Item::Envelope(envelope)) else {
                return Err(Full::Queue);
            };
            to.send(Waiting { bytes, room: Room::Common, envelope: Some(id) })
        };
        let watch = peer.watch();
        let tried = match send(peer) {
            Ok(now) if now == up => {
                self.wait(&mut expecting, owner, up, watch, answer, &send, stream.is_some()).await
            }
            Ok(_) | Err(Full::Down) => Tried::Again,
            Err(Full::Queue) => Tried::Answer(Err(AskError::Overloaded)),
        };
        drop(expecting);
        if let Some(stream) = stream
            && !matches!(tried, Tried::Answer(Ok(_)))
        {
            self.node.streams.unfollow(self.node, peer, stream);
        }
        // A subscription that may have been heard does no harm: its stream is not followed.
        match tried {
            Tried::Lost if stream.is_some() => Tried::Later,
            tried => tried,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one try, used here only")]
    async fn wait(
        &self,
        expecting: &mut Expecting<'_>,
        owner: &NodeName,
        first: Up,
        mut watch: watch::Receiver<Option<Up>>,
        mut answer: oneshot::Receiver<Signal>,
        send: &(impl Fn(&Peer) -> Result<Up, Full> + Sync),
        once: bool,
    ) -> Tried {
        let (peer, id) = (expecting.peer, expecting.id);
        let next = Instant::now() + self.node.options.retries[0];
        let mut turn = Turn { first, link: Some(first), sent: 0, next };
        loop {
            let wake = if once { self.ask.until } else { self.ask.until.min(turn.next) };
            let ended = tokio::select! {
                biased;
                signal = &mut answer => match signal {
                    Ok(Signal::Unsent) if turn.sent == 0 => Some(Tried::Again),
                    // One of its repeats; the same boot may still answer an earlier one.
                    Ok(Signal::Unsent) => {
                        answer = self.node.expect(id, &peer.name, &expecting.running);
                        None
                    }
                    Ok(Signal::Fate(fate)) => {
                        // A repeat of it may still wait to be sent.
                        expecting.answered = turn.sent == 0;
                        Some(self.read(fate, owner))
                    }
                    Err(_) => Some(Tried::Lost),
                },
                _ = watch.changed() => {
                    let now = *watch.borrow_and_update();
                    if once && now != turn.link {
                        Some(Tried::Lost)
                    } else {
                        turn.link_changed(expecting, now)
                    }
                }
                () = sleep_until(wake) => self.repeat(expecting, owner, &mut turn, send),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Time to send it again, or to give up.
    fn repeat(
        &self,
        expecting: &Expecting<'_>,
        owner: &NodeName,
        turn: &mut Turn,
        send: &impl Fn(&Peer) -> Result<Up, Full>,
    ) -> Option<Tried> {
        let now = Instant::now();
        if now >= self.ask.until {
            let unsent = expecting.withdraw() && turn.sent == 0;
            let fate = if unsent { AskError::NotDelivered } else { AskError::OutcomeUnknown };
            return Some(Tried::Answer(Err(fate)));
        }
        if turn.link.is_none() {
            turn.next = now + LOOK_AGAIN;
            return self.moved_from(owner).then_some(Tried::Lost);
        }
        let is_running = expecting.running.load(Ordering::Relaxed);
        // Behind others that wait, it would not come there sooner.
        let is_clear = expecting.peer.lock().is_empty();
        if !is_running && is_clear && send(expecting.peer).is_ok() {
            self.node.metrics.retries.increment(1);
            turn.sent += 1;
        }
        let retries = &self.node.options.retries;
        turn.next = now + retries[turn.sent.min(retries.len() - 1)];
        None
    }

    fn moved_from(&self, owner: &NodeName) -> bool {
        !matches!(self.node.resolve(self.ask.to.shard()), Owner::There(now, _) if now == *owner)
    }

    /// What a peer's word means.
    fn read(&self, fate: Fate, owner: &NodeName) -> Tried {
        let answer = match fate {
            Fate::Done(body) => Ok(body),
            Fate::Failed { code, message, detail } => {
                Err(AskError::Failed(FailedAsk { code, message, detail }))
            }
            Fate::NotOwner { owner: next, epoch } => {
                self.node.metrics.not_owner.increment(1);
                let news = next.is_some_and(|next| {
                    let next = NodeName(next.into());
                    next != *owner && self.node.hint(self.ask.to.shard(), next, epoch)
                });
                // Placement may have learnt it meanwhile.
                let again = news || self.moved_from(owner);
                return if again { Tried::Again } else { Tried::Later };
            }
            Fate::Duplicate { .. } if matches!(self.ask.what, What::Tell) => Ok(Bytes::new()),
            Fate::Overloaded => Err(AskError::Overloaded),
            Fate::NotDelivered | Fate::Expired if self.moved_from(owner) => return Tried::Again,
            Fate::NotDelivered | Fate::Expired | Fate::Unsupported => Err(AskError::NotDelivered),
            Fate::Unknown | Fate::Duplicate { .. } | Fate::Part { .. } | Fate::Other(_) => {
                Err(AskError::OutcomeUnknown)
            }
        };
        Tried::Answer(answer)
    }
}
