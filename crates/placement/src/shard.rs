//! One shard as one node sees it: claim, own, hand over, take over.
//!
//! Every decision follows from the row. After a compare-and-set that was not clearly applied
//! the row is read with SERIAL, and [`Slot::resolve`] goes by what it shows, whatever this node
//! believed before.
//!
//! Invariant: an epoch that was released (a move was sent under it) is never owned again by
//! this process. If the row still shows it, the shard moves after all or its epoch is bumped.

mod handoff;

use std::time::Duration;

use troupe_types::{Epoch, Incarnation, MonoTime, NodeName, ShardId, ShardRow};

pub(crate) use self::handoff::{Source, Target};
use crate::{
    effect::{Effect, HandoffId, PeerMessage},
    op::{Answer, StoreOp},
    pace::Jitter,
    peers::Peers,
    timings::Timings,
};

/// How long what came directly waits for a flush marker that may be lost.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(2);

/// What a shard needs to know of its node.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) me: &'a NodeName,
    pub(crate) inc: Option<Incarnation>,
    /// The lease holds: the node may handle, claim and give.
    pub(crate) valid: bool,
    pub(crate) draining: bool,
    /// All shard rows have been listed in this incarnation.
    pub(crate) listed: bool,
    pub(crate) peers: &'a Peers,
    pub(crate) timings: &'a Timings,
    pub(crate) now: MonoTime,
}

impl Context<'_> {
    fn is_mine(&self, row: &ShardRow) -> bool {
        row.owner == *self.me && Some(row.owner_inc) == self.inc
    }
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) shard: ShardId,
    /// The newest row seen.
    pub(crate) row: Option<ShardRow>,
    /// All epochs up to this one are given up for good.
    released: Epoch,
    pub(crate) state: State,
    /// The row must be read with SERIAL before anything else is asked of the store.
    check: bool,
    /// An operation is under way.
    pub(crate) busy: bool,
    /// After an operation that failed; zero after one that did not.
    pub(crate) not_before: MonoTime,
    /// When a shard without owner may be claimed.
    claim_at: Option<MonoTime>,
    /// The hash has named this other node since then.
    differs: Option<(NodeName, MonoTime)>,
    /// No hand-off before this.
    move_not_before: MonoTime,
    /// What came directly waits until then for the marker of this hand-off.
    direct: Option<(HandoffId, MonoTime)>,
    /// Somebody waits for it, and nobody owns it.
    pub(crate) wanted: bool,
    /// The node that should own it.
    pub(crate) first: Option<NodeName>,
    /// How many nodes the hash prefers to this one; `None`: this one may not own it.
    pub(crate) rank: Option<u32>,
}

#[derive(Debug)]
pub(crate) enum State {
    Foreign,
    Owned { epoch: Epoch },
    Source(Source),
    Target(Target),
}

/// The order in which shards are served by the store, if not all can be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Nobody handles it meanwhile.
    GivenAway,
    /// Somebody waits for it.
    Wanted,
    /// It has been due for long, or it is not known who owns it.
    Late,
    /// It has time.
    Unwanted,
}

impl Slot {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            row: None,
            released: Epoch::ZERO,
            state: State::Foreign,
            check: false,
            busy: false,
            not_before: MonoTime::ZERO,
            claim_at: None,
            differs: None,
            move_not_before: MonoTime::ZERO,
            direct: None,
            wanted: false,
            first: None,
            rank: None,
        }
    }

    /// The epoch under which this node handles the shard, its lease provided.
    pub(crate) const fn owned(&self) -> Option<Epoch> {
        match &self.state {
            State::Owned { epoch } => Some(*epoch),
            State::Source(source) => source.handles(),
            State::Foreign | State::Target(_) => None,
        }
    }

    /// Whether the shard still is, or may turn out to be, this node's.
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self.state, State::Owned { .. } | State::Source(_)) || self.busy || self.check
    }

    /// How it stands among all that want something of the store.
    pub(crate) fn priority(&self, cx: &Context<'_>) -> Priority {
        // Half of the time after which the next node claims it as well.
        let late = |due: MonoTime| cx.now >= due.plus(cx.timings.rank_delay / 2);
        match self.state {
            // One that failed has taken its turn: many of them must not keep others waiting.
            State::Source(_) if self.not_before == MonoTime::ZERO => Priority::GivenAway,
            _ if self.wanted => Priority::Wanted,
            State::Source(_) => Priority::Late,
            _ if self.check || self.claim_at.is_some_and(late) => Priority::Late,
            _ => Priority::Unwanted,
        }
    }

    /// The owner whose end must be proved before this shard can be claimed.
    pub(crate) fn wants_proof(&self, cx: &Context<'_>) -> Option<(NodeName, Incarnation)> {
        let (owner, inc) = match &self.state {
            State::Foreign => self.row.as_ref().map(|row| (&row.owner, row.owner_inc))?,
            // A source that is gone hands nothing over any more.
            State::Target(target) => target.source(),
            State::Owned { .. } | State::Source(_) => return None,
        };
        let open = self.rank.is_some();
        let wanted = open && cx.peers.seems_gone(owner, inc) && !cx.peers.is_gone(owner, inc);
        wanted.then(|| (owner.clone(), inc))
    }

    /// The hash has decided anew.
    pub(crate) fn ranked(&mut self, first: Option<NodeName>, rank: Option<u32>) {
        if rank != self.rank {
            self.claim_at = None;
        }
        (self.first, self.rank) = (first, rank);
    }

    /// Somebody waits for it. Without a meaning if it has an owner, as far as this node knows.
    pub(crate) fn want(&mut self, cx: &Context<'_>) {
        let over = |row: &ShardRow| {
            let (owner, inc) = (&row.owner, row.owner_inc);
            cx.peers.is_gone(owner, inc) || cx.peers.seems_gone(owner, inc)
        };
        self.wanted |= self.owned().is_none() && self.row.as_ref().is_none_or(over);
    }

    /// Settles when this node claims the shard, if it may.
    pub(crate) fn schedule(&mut self, cx: &Context<'_>, jitter: &mut Jitter) {
        let may = cx.valid && !cx.draining && cx.listed && matches!(self.state, State::Foreign);
        let gone = |row: &ShardRow| !cx.is_mine(row) && cx.peers.is_gone(&row.owner, row.owner_inc);
        match self.rank {
            Some(rank) if may && self.row.as_ref().is_none_or(gone) => {
                self.claim_at.get_or_insert_with(|| {
                    let wait = cx.timings.rank_delay * rank;
                    cx.now.plus(wait + jitter.below(cx.timings.claim_jitter))
                });
            }
            _ => self.claim_at = None,
        }
    }

    /// The next operation, if one is due.
    pub(crate) fn next(&self, cx: &Context<'_>) -> Option<StoreOp> {
        let inc = cx.inc?;
        if self.busy || cx.now < self.not_before {
            return None;
        }
        let shard = self.shard;
        if self.check {
            return Some(StoreOp::ReadShard { shard });
        }
        match &self.state {
            State::Source(source) => {
                let expected = self.row.clone()?;
                source.next(&expected, cx.me, inc)
            }
            State::Foreign if cx.valid && !cx.draining && cx.listed => self.claim(cx, inc),
            _ => None,
        }
    }

    fn claim(&self, cx: &Context<'_>, inc: Incarnation) -> Option<StoreOp> {
        self.rank?;
        let expected = self.row.clone();
        let epoch = expected.as_ref().map_or(Epoch::ZERO, |row| row.epoch).next();
        let row = ShardRow { shard: self.shard, owner: cx.me.clone(), owner_inc: inc, epoch };
        if let Some(found) = expected.as_ref().filter(|row| cx.is_mine(row)) {
            // A claim or a move to this node that nobody waits for any more.
            if found.epoch > self.released {
                return Some(StoreOp::ReadShard { shard: self.shard });
            }
            return Some(StoreOp::Bump { expected: found.clone(), row });
        }
        let is_due = self.claim_at.is_some_and(|at| cx.now >= at);
        is_due.then_some(StoreOp::Claim { expected, row })
    }

    /// What became of an operation.
    pub(crate) fn answered(
        &mut self,
        op: &StoreOp,
        answer: &Answer,
        cx: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        self.busy = false;
        if matches!(answer, Answer::Applied | Answer::Refused) {
            // A read is no proof that the row can be written.
            self.not_before = MonoTime::ZERO;
        }
        match (op, answer) {
            (StoreOp::Claim { row, .. } | StoreOp::Bump { row, .. }, Answer::Applied) => {
                self.resolve(Some(row), cx, out);
            }
            (StoreOp::Move { row, .. }, Answer::Applied) => self.resolve(Some(row), cx, out),
            (StoreOp::ReadShard { .. }, Answer::Shard(row)) => {
                self.check = false;
                self.resolve(row.as_ref(), cx, out);
            }
            (_, Answer::Refused) => self.check = true,
            _ => {
                self.check = true;
                self.not_before = cx.now.plus(cx.timings.retry_after);
            }
        }
    }

    /// A plain read has shown this row: a hint that the row is worth a SERIAL read.
    pub(crate) fn listed(&mut self, row: &ShardRow, cx: &Context<'_>) {
        if self.row.as_ref().is_some_and(|known| row.epoch <= known.epoch) {
            return;
        }
        let held = !matches!(self.state, State::Foreign);
        self.check |= held || (cx.is_mine(row) && row.epoch > self.released);
        if !held {
            self.row = Some(row.clone());
            (self.claim_at, self.wanted) = (None, false);
        }
    }

    /// The row is this one now: a SERIAL read says so, or an own compare-and-set.
    fn resolve(&mut self, row: Option<&ShardRow>, cx: &Context<'_>, out: &mut Vec<Effect>) {
        let Some(row) = row else { return };
        if self.row.as_ref().is_some_and(|known| row.epoch < known.epoch) {
            return; // An older look; the newer one has been dealt with.
        }
        if self.row.as_ref() != Some(row) {
            (self.claim_at, self.wanted) = (None, false);
        }
        self.row = Some(row.clone());
        let mine = cx.is_mine(row);
        match &mut self.state {
            State::Owned { epoch } | State::Source(Source { epoch, .. })
                if mine && *epoch == row.epoch && row.epoch > self.released => {}
            State::Source(source) if mine && source.epoch == row.epoch => source.not_moved(cx),
            State::Source(source) if source.is_moved(row) => self.committed(cx, out),
            _ if mine && row.epoch > self.released => self.own(row.epoch, cx, out),
            State::Owned { epoch } | State::Source(Source { epoch, .. }) => {
                out.push(Effect::Deactivate { shard: self.shard, epoch: *epoch });
                self.state = State::Foreign;
            }
            State::Target(target) if target.still_waits(row, cx) => {}
            State::Target(_) => self.discard(out),
            State::Foreign => {}
        }
    }

    fn own(&mut self, epoch: Epoch, cx: &Context<'_>, out: &mut Vec<Effect>) {
        assert!(epoch > self.released, "an epoch that was given up never comes back (I3)");
        match &self.state {
            State::Source(source) => {
                let (to, message) = source.cancel(self.shard);
                out.push(Effect::Send { to, message });
            }
            State::Target(_) | State::Foreign | State::Owned { .. } => {}
        }
        self.state = State::Owned { epoch };
        (self.direct, self.differs, self.claim_at, self.wanted) = (None, None, None, false);
        if cx.valid {
            out.push(Effect::Activate { shard: self.shard, epoch });
        }
    }

    /// The lease holds again.
    pub(crate) fn unfenced(&self, out: &mut Vec<Effect>) {
        if let State::Owned { epoch } = self.state {
            out.push(Effect::Activate { shard: self.shard, epoch });
        }
    }

    /// The lease has run out; every activation is dropped.
    pub(crate) fn fenced(&mut self, out: &mut Vec<Effect>) {
        self.direct = None;
        match &self.state {
            State::Source(source) if source.handles().is_some() => {
                let (to, message) = source.cancel(self.shard);
                out.push(Effect::Send { to, message });
                self.state = State::Owned { epoch: source.epoch };
            }
            State::Target(_) => self.discard(out),
            _ => {}
        }
    }

    /// The incarnation is over: nothing is this node's any more, and nothing is under way.
    pub(crate) fn forget(&mut self) {
        self.state = State::Foreign;
        (self.check, self.busy, self.wanted) = (false, false, false);
        (self.claim_at, self.differs, self.direct) = (None, None, None);
        self.not_before = MonoTime::ZERO;
    }

    pub(crate) fn tick(&mut self, cx: &Context<'_>, out: &mut Vec<Effect>) {
        if let Some((_, until)) = self.direct
            && cx.now >= until
        {
            self.direct = None;
            out.push(Effect::OpenDirect { shard: self.shard });
        }
        match &mut self.state {
            State::Source(_) => self.tick_source(cx, out),
            State::Target(target) => self.check |= target.is_check_due(cx),
            State::Foreign | State::Owned { .. } => {}
        }
    }

    /// Where the shard should go now, if anywhere: after the hash has said so for long enough.
    pub(crate) fn should_move(&mut self, cx: &Context<'_>) -> Option<NodeName> {
        if !matches!(self.state, State::Owned { .. }) || self.busy || self.check {
            return None;
        }
        let Some(to) = self.first.clone().filter(|first| first != cx.me) else {
            self.differs = None;
            return None;
        };
        let since = match &self.differs {
            Some((node, since)) if *node == to => *since,
            _ => {
                self.differs = Some((to.clone(), cx.now));
                cx.now
            }
        };
        let waited = cx.draining || cx.now.since(since) >= cx.timings.differs_for;
        (waited && cx.now >= self.move_not_before && cx.peers.is_near(&to, cx.now)).then_some(to)
    }

    fn discard(&mut self, out: &mut Vec<Effect>) {
        if let State::Target(target) = &self.state {
            out.push(Effect::DiscardBuffer { shard: self.shard, id: target.id });
            self.state = State::Foreign;
            self.check = true;
        }
    }

    /// A peer says something about a hand-off of this shard.
    pub(crate) fn message(
        &mut self,
        from: &NodeName,
        message: &PeerMessage,
        cx: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        match *message {
            PeerMessage::Prepare { id, epoch, .. } => self.asked(from, id, epoch, cx, out),
            PeerMessage::Ready { id, inc, .. } => self.ready(from, id, inc, cx, out),
            PeerMessage::Refuse { id, .. } => self.refused(from, id, cx),
            PeerMessage::Cancel { id, .. } => {
                if matches!(&self.state, State::Target(target) if target.is(from, id)) {
                    self.discard(out);
                }
            }
            PeerMessage::Committed { id, epoch, .. } => self.given(from, id, epoch, cx, out),
            PeerMessage::FlushMarker { id, .. } => {
                if self.direct.is_some_and(|(waits, _)| waits == id) {
                    self.direct = None;
                    out.push(Effect::OpenDirect { shard: self.shard });
                }
            }
            PeerMessage::Heartbeat { .. } => {}
        }
    }
}
