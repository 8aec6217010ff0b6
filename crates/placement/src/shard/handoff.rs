//! A planned change of owner, both sides.
//!
//! ```text
//! source: Preparing -Ready-> Draining -Drained-> Moving -applied-> (foreign, forwards)
//!             |                 |                   `-unknown-> read -> again, or bump
//!             `--- 2 s ---------`--- target gone ---> owned as before, nothing changed
//! target: Target -Committed, or the row says so-> owned
//!             `--Cancel, another owner, or the source is gone-> foreign, and may claim
//! ```
//! Before the move is sent everything can be taken back. From the send on the old epoch is
//! over for the source, whatever becomes of the move.

use std::time::Duration;

use troupe_types::{Epoch, Incarnation, MonoTime, NodeName, ShardId, ShardRow};

use super::{Context, FLUSH_WAIT_MAX, Slot, State};
use crate::{
    effect::{Effect, HandoffId, PeerMessage},
    op::StoreOp,
};

/// Moves that are tried before the epoch is bumped instead.
const MOVES_TRIED_MAX: u32 = 3;

#[derive(Debug)]
pub(crate) struct Source {
    pub(super) id: HandoffId,
    pub(crate) to: NodeName,
    /// The epoch that this node holds.
    pub(super) epoch: Epoch,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Preparing {
        until: MonoTime,
    },
    Draining {
        to_inc: Incarnation,
        since: MonoTime,
        until: MonoTime,
    },
    /// The epoch is released.
    Moving {
        to_inc: Incarnation,
        /// Moves that the row has not shown.
        tried: u32,
        /// The shard stays: bump its epoch.
        keep: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(super) id: HandoffId,
    from: NodeName,
    /// The epoch that the source holds.
    epoch: Epoch,
    check_at: MonoTime,
    until: MonoTime,
}

impl Source {
    pub(super) const fn handles(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Preparing { .. } | Phase::Draining { .. } => Some(self.epoch),
            Phase::Moving { .. } => None,
        }
    }

    /// Whether it does nothing but wait for the end of a step, a long one.
    pub(crate) fn awaits_step(&self, now: MonoTime, step_long: Duration) -> bool {
        matches!(self.phase, Phase::Draining { since, .. } if now.since(since) >= step_long)
    }

    pub(super) fn next(
        &self,
        expected: &ShardRow,
        me: &NodeName,
        inc: Incarnation,
    ) -> Option<StoreOp> {
        let Phase::Moving { to_inc, keep, .. } = self.phase else { return None };
        let (epoch, expected) = (self.epoch.next(), expected.clone());
        if keep {
            let row = ShardRow { owner: me.clone(), owner_inc: inc, epoch, ..expected.clone() };
            return Some(StoreOp::Bump { expected, row });
        }
        let row = ShardRow { owner: self.to.clone(), owner_inc: to_inc, epoch, ..expected.clone() };
        Some(StoreOp::Move { expected, row })
    }

    /// The row still shows the old epoch. The move may be done yet; both ways on from here
    /// replace the same row, so at most one of them is done.
    pub(super) fn not_moved(&mut self, cx: &Context<'_>) {
        let Phase::Moving { tried, keep, .. } = &mut self.phase else { return };
        *tried += 1;
        *keep = *tried >= MOVES_TRIED_MAX || !cx.peers.is_near(&self.to, cx.now);
    }

    pub(super) fn is_moved(&self, row: &ShardRow) -> bool {
        matches!(self.phase, Phase::Moving { to_inc, .. }
            if row.owner == self.to && row.owner_inc == to_inc && row.epoch == self.epoch.next())
    }

    pub(super) fn cancel(&self, shard: ShardId) -> (NodeName, PeerMessage) {
        (self.to.clone(), PeerMessage::Cancel { id: self.id, shard })
    }
}

impl Target {
    pub(super) fn is(&self, from: &NodeName, id: HandoffId) -> bool {
        self.id == id && self.from == *from
    }

    /// The row has not changed yet, there is time, and somebody who may change it.
    pub(super) fn still_waits(&self, row: &ShardRow, cx: &Context<'_>) -> bool {
        let is_asked = row.owner == self.from && row.epoch == self.epoch;
        is_asked && cx.now < self.until && !self.is_source_gone(cx)
    }

    /// Who hands over, as what.
    pub(super) const fn source(&self) -> (&NodeName, Incarnation) {
        (&self.from, self.id.inc)
    }

    fn is_source_gone(&self, cx: &Context<'_>) -> bool {
        cx.peers.is_gone(&self.from, self.id.inc)
    }

    pub(super) fn is_check_due(&mut self, cx: &Context<'_>) -> bool {
        let due = cx.now >= self.check_at || self.is_source_gone(cx);
        if due {
            self.check_at = cx.now.plus(cx.timings.target_check_every);
        }
        due
    }
}

impl Slot {
    /// Asks the other node to take the shard. Ignored if it is not owned or not at rest.
    pub(crate) fn start_handoff(
        &mut self,
        to: NodeName,
        id: HandoffId,
        cx: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let State::Owned { epoch } = self.state else { return };
        let message = PeerMessage::Prepare { id, shard: self.shard, epoch };
        out.push(Effect::Send { to: to.clone(), message });
        let phase = Phase::Preparing { until: cx.now.plus(cx.timings.prepare_max) };
        self.state = State::Source(Source { id, to, epoch, phase });
    }

    pub(super) fn ready(
        &mut self,
        from: &NodeName,
        id: HandoffId,
        to_inc: Incarnation,
        cx: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let shard = self.shard;
        match &mut self.state {
            State::Source(source) if source.id == id && source.to == *from => {
                if matches!(source.phase, Phase::Preparing { .. }) {
                    let since = cx.now;
                    let until = since.plus(cx.timings.step_max + cx.timings.drain_max);
                    source.phase = Phase::Draining { to_inc, since, until };
                    out.push(Effect::DrainShard { shard, to: from.clone(), id });
                }
            }
            _ => {
                let message = PeerMessage::Cancel { id, shard };
                out.push(Effect::Send { to: from.clone(), message });
            }
        }
    }

    pub(super) fn refused(&mut self, from: &NodeName, id: HandoffId, cx: &Context<'_>) {
        if let State::Source(source) = &self.state
            && source.id == id
            && source.to == *from
            && matches!(source.phase, Phase::Preparing { .. })
        {
            self.stay(cx);
        }
    }

    /// Nothing has changed yet, and nothing will.
    fn stay(&mut self, cx: &Context<'_>) {
        let State::Source(source) = &self.state else { return };
        self.state = State::Owned { epoch: source.epoch };
        self.differs = None;
        self.move_not_before = cx.now.plus(cx.timings.prepare_max);
    }

    /// Nothing runs any more.
    pub(crate) fn drained(&mut self, id: HandoffId, out: &mut Vec<Effect>) {
        if let State::Source(source) = &self.state
            && source.id == id
            && matches!(source.phase, Phase::Draining { .. })
        {
            self.release(out);
        }
    }

    /// From here on the old epoch is over.
    fn release(&mut self, out: &mut Vec<Effect>) {
        let State::Source(source) = &mut self.state else { return };
        let Phase::Draining { to_inc, .. } = source.phase else { return };
        source.phase = Phase::Moving { to_inc, tried: 0, keep: false };
        self.released = self.released.max(source.epoch);
        out.push(Effect::Release { shard: self.shard, epoch: source.epoch });
    }

    pub(super) fn tick_source(&mut self, cx: &Context<'_>, out: &mut Vec<Effect>) {
        let State::Source(source) = &self.state else { return };
        let (shard, epoch) = (self.shard, source.epoch);
        let near = cx.peers.is_near(&source.to, cx.now);
        let (to, message) = source.cancel(shard);
        match source.phase {
            Phase::Preparing { until } if cx.now >= until || !near => {
                out.push(Effect::Send { to, message });
                self.stay(cx);
            }
            Phase::Draining { .. } if !near => {
                out.push(Effect::Send { to, message });
                out.push(Effect::ResumeShard { shard, epoch });
                self.stay(cx);
            }
            Phase::Draining { until, .. } if cx.now >= until => {
                out.push(Effect::Deactivate { shard, epoch });
                self.release(out);
            }
            _ => {}
        }
    }

    /// The row names the target.
    pub(super) fn committed(&mut self, cx: &Context<'_>, out: &mut Vec<Effect>) {
        let State::Source(source) = &self.state else { return };
        let (shard, id, to) = (self.shard, source.id, source.to.clone());
        let epoch = source.epoch.next();
        let send = |message| Effect::Send { to: to.clone(), message };
        out.push(Effect::SendQueues { shard, to: to.clone(), id });
        out.push(send(PeerMessage::Committed { id, shard, epoch }));
        out.push(send(PeerMessage::FlushMarker { id, shard }));
        out.push(Effect::Forward { shard, to: to.clone(), keep: cx.timings.forward_for });
        self.state = State::Foreign;
        self.differs = None;
    }

    /// A source asks whether this node takes the shard.
    pub(super) fn asked(
        &mut self,
        from: &NodeName,
        id: HandoffId,
        epoch: Epoch,
        cx: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let shard = self.shard;
        let newest = self.row.as_ref().is_none_or(|row| row.epoch <= epoch);
        let replaced = match &self.state {
            State::Foreign => !self.busy,
            State::Target(target) => target.from == *from && target.id <= id,
            State::Owned { .. } | State::Source(_) => false,
        };
        // A late word of somebody who is gone.
        let over = cx.peers.is_gone(from, id.inc);
        let willing = cx.valid && !cx.draining && newest && replaced && !over;
        let inc = cx.inc.filter(|_| willing && self.rank.is_some());
        let Some(inc) = inc else {
            let message = PeerMessage::Refuse { id, shard };
            out.push(Effect::Send { to: from.clone(), message });
            return;
        };
        if !matches!(&self.state, State::Target(target) if target.is(from, id)) {
            if let State::Target(target) = &self.state {
                out.push(Effect::DiscardBuffer { shard, id: target.id });
            }
            out.push(Effect::BufferShard { shard, from: from.clone(), id });
        }
        let all = cx.timings.step_max + cx.timings.drain_max + cx.timings.target_check_every;
        self.state = State::Target(Target {
            id,
            from: from.clone(),
            epoch,
            check_at: cx.now.plus(cx.timings.target_check_every),
            until: cx.now.plus(2 * all),
        });
        out.push(Effect::Send { to: from.clone(), message: PeerMessage::Ready { id, shard, inc } });
    }

    /// The source says that the row names this node.
    pub(super) fn given(
        &mut self,
        from: &NodeName,
        id: HandoffId,
        epoch: Epoch,
        cx: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let waits = matches!(&self.state, State::Target(target)
            if target.is(from, id) && target.epoch.next() == epoch);
        let Some(inc) = cx.inc.filter(|_| waits && cx.valid && epoch > self.released) else {
            // The row knows better.
            let known = self.row.as_ref().map_or(Epoch::ZERO, |row| row.epoch);
            self.check |= epoch > known;
            return;
        };
        let (shard, owner) = (self.shard, cx.me.clone());
        self.row = Some(ShardRow { shard, owner, owner_inc: inc, epoch });
        self.state = State::Owned { epoch };
        (self.check, self.differs, self.claim_at) = (false, None, None);
        self.wanted = false;
        self.direct = Some((id, cx.now.plus(FLUSH_WAIT_MAX)));
        out.push(Effect::ActivateForwarded { shard, epoch });
    }
}
