//! When shards move on purpose: after the hash has differed for a while, and on the way out.

use troupe_types::{MonoTime, NodeName, NodeState, ShardId};

use super::Node;
use crate::{
    effect::{Effect, FenceReason, HandoffId, MoveAnswer, MoveRefusal},
    hash::{Candidate, preferred},
    shard::State,
};

/// How far this node is on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    since: MonoTime,
    phase: Phase,
}

/// Whether shards move by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rebalancing {
    /// They do.
    #[default]
    On,
    /// An administrator paused it.
    Paused,
    /// It rests while the store is slow.
    StoreIsSlow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    HandingOver,
    Passivating,
    Ending,
}

impl Leaving {
    pub(super) fn is_ending(&self) -> bool {
        self.phase == Phase::Ending
    }
}

impl Node {
    /// Starts the hand-offs that are due, as many as may be under way.
    pub(super) fn rebalance(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        let draining = self.lease.is_draining();
        if self.lease().is_none() {
            return;
        }
        let rests = !draining && self.rebalancing(now) != Rebalancing::On;
        let mut free = self.free_moves(now);
        let mut due = Vec::new();
        self.each(now, |slot, cx| {
            // Asked in any case: it keeps the time for which the hash has differed.
            if let Some(to) = slot.should_move(cx)
                && free > 0
                && !rests
            {
                free -= 1;
                due.push((slot.shard, to));
            }
        });
        for (shard, to) in due {
            self.start_handoff(shard, to, now, out);
        }
    }

    /// Hand-offs that may begin. One that waits for a long step holds no place: what is at rest
    /// goes meanwhile, and all steps are waited for side by side.
    fn free_moves(&self, now: MonoTime) -> usize {
        let (mut all, mut waiting) = (0, 0);
        for slot in self.slots.values() {
            if let State::Source(source) = &slot.state {
                all += 1;
                waiting += usize::from(source.awaits_step(now, self.timings.step_long));
            }
        }
        let free = self.timings.moves_max.saturating_sub(all - waiting);
        free.min(self.timings.moves_waiting_max.saturating_sub(all))
    }

    /// An administrator's wish; it is answered in any case.
    pub(super) fn move_ordered(
        &mut self,
        shard: ShardId,
        to: NodeName,
        now: MonoTime,
        out: &mut Vec<Effect>,
    ) {
        let answer = self.may_move(shard, &to, now);
        if answer == MoveAnswer::Begun {
            self.start_handoff(shard, to, now, out);
        }
        out.push(Effect::MoveAnswered { shard, answer });
    }

    fn may_move(&self, shard: ShardId, to: &NodeName, now: MonoTime) -> MoveAnswer {
        let refused = MoveAnswer::Refused;
        if self.lease().is_none() {
            return refused(MoveRefusal::NoLease);
        }
        match self.slots.get(&shard).map(|slot| &slot.state) {
            Some(State::Owned { .. }) if *to == self.lease.me().node => MoveAnswer::AlreadyThere,
            Some(State::Owned { .. }) => match self.unfit(shard, to, now) {
                Some(why) => refused(why),
                None if self.free_moves(now) == 0 => {
                    refused(MoveRefusal::Full { under_way: self.moving() })
                }
                None => MoveAnswer::Begun,
            },
            Some(State::Source(source)) if source.to == *to => MoveAnswer::UnderWay,
            Some(State::Source(source)) => refused(MoveRefusal::Elsewhere(source.to.clone())),
            Some(State::Foreign | State::Target(_)) | None => refused(MoveRefusal::NotOwner),
        }
    }

    /// Why another node cannot take a shard now, as far as this one knows.
    fn unfit(&self, shard: ShardId, to: &NodeName, now: MonoTime) -> Option<MoveRefusal> {
        let Some(row) = self.peers.row(to) else { return Some(MoveRefusal::UnknownTarget) };
        let as_candidate = Candidate { node: to.clone(), roles: row.roles, weight: row.weight };
        match row.state {
            NodeState::Dead => Some(MoveRefusal::DeadTarget),
            NodeState::Draining => Some(MoveRefusal::DrainingTarget),
            NodeState::Alive if preferred(shard, &[as_candidate]).is_none() => {
                Some(MoveRefusal::UnfitTarget)
            }
            NodeState::Alive => (!self.peers.is_near(to, now)).then_some(MoveRefusal::SilentTarget),
        }
    }

    pub(super) fn start_handoff(
        &mut self,
        shard: ShardId,
        to: NodeName,
        now: MonoTime,
        out: &mut Vec<Effect>,
    ) {
        let free = self.free_moves(now) > 0;
        let elsewhere = to != self.lease.me().node && self.peers.is_near(&to, now);
        let Some(lease) = self.lease().filter(|_| free && elsewhere) else { return };
        self.handoffs += 1;
        let id = HandoffId { inc: lease.inc, count: self.handoffs };
        self.with(shard, now, |slot, cx| slot.start_handoff(to, id, cx, out));
    }

    pub(super) fn leave(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(Leaving { since: now, phase: Phase::HandingOver });
        if self.lease.inc().is_none() {
            out.push(Effect::Exit);
            return;
        }
        self.lease.drain(now);
    }

    pub(super) fn passivated(&mut self, now: MonoTime) {
        if let Some(leaving) = &mut self.leaving
            && leaving.phase == Phase::Passivating
        {
            leaving.phase = Phase::Ending;
            self.lease.leave(now);
        }
    }

    pub(super) fn advance_leaving(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        let Some(leaving) = self.leaving else { return };
        let spent = now.since(leaving.since);
        if leaving.phase == Phase::Ending {
            if spent >= self.timings.leave_max + self.timings.drain_max {
                out.push(Effect::Exit);
                self.leaving = None;
            }
            return;
        }
        let phase = if spent >= self.timings.leave_max {
            out.push(Effect::FenceNode { reason: FenceReason::LeavingTooLong });
            self.each(now, |slot, _| slot.fenced(out));
            self.lease.leave(now);
            Phase::Ending
        } else if leaving.phase == Phase::HandingOver && self.nothing_to_give() {
            out.push(Effect::PassivateAll);
            Phase::Passivating
        } else {
            return;
        };
        self.leaving = Some(Leaving { phase, ..leaving });
    }

    /// No shard is left that somebody else could take.
    fn nothing_to_give(&self) -> bool {
        self.slots.values().all(|slot| !slot.is_held() || slot.first.is_none())
    }
}
