//! One node of the cluster: the lease, the peers and the shards in one machine.
//!
//! `step(input, now)` changes the state and says what is to be done. Every step first looks
//! whether the lease has run out and which attempts have, so that a process that was frozen
//! drops everything before it believes any answer that waited for it.

mod policy;

use std::{collections::BTreeMap, time::Duration};

use troupe_types::{
    Epoch, Incarnation, LeaseRow, MonoTime, NodeName, NodeState, ShardId, ShardRow, Uuid,
};

use crate::{
    effect::{AttemptId, Effect, FenceReason, Input, LeaseView, Owner, PeerMessage},
    hash::{Candidate, ranked},
    lease::{Identity, Lease, News},
    op::{Answer, StoreOp},
    pace::{Jitter, Pace},
    peers::Peers,
    shard::{Context, Priority, Slot, State},
    timings::Timings,
};

pub use self::policy::Rebalancing;

/// Decides for one node what it may own, claims it, and gives it away.
#[derive(Debug)]
pub struct Node {
    timings: Timings,
    lease: Lease,
    peers: Peers,
    slots: BTreeMap<ShardId, Slot>,
    attempts: BTreeMap<AttemptId, Attempt>,
    attempt_last: AttemptId,
    jitter: Jitter,
    pace: Pace,
    leases_listed: bool,
    shards_listed: bool,
    list_leases_at: MonoTime,
    list_shards_at: MonoTime,
    heartbeat_at: MonoTime,
    /// What the ranks in the slots were computed for.
    candidates: Vec<Candidate>,
    ends_seen: u64,
    paused: bool,
    handoffs: u64,
    leaving: Option<policy::Leaving>,
}

#[derive(Debug)]
struct Attempt {
    purpose: Purpose,
    op: StoreOp,
    sent: MonoTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Own,
    Peer(NodeName),
    ListLeases,
    ListShards,
    Shard(ShardId),
}

impl Node {
    /// A node that has not joined. `seed` spreads its claims; any number will do.
    pub fn new(
        me: Identity,
        timings: Timings,
        shards: impl IntoIterator<Item = ShardId>,
        seed: u64,
    ) -> Self {
        Self {
            peers: Peers::new(me.node.clone(), &timings),
            lease: Lease::new(me, &timings),
            timings,
            slots: shards.into_iter().map(|shard| (shard, Slot::new(shard))).collect(),
            attempts: BTreeMap::new(),
            attempt_last: AttemptId(0),
            jitter: Jitter(seed),
            pace: Pace::default(),
            leases_listed: false,
            shards_listed: false,
            list_leases_at: MonoTime::ZERO,
            list_shards_at: MonoTime::ZERO,
            heartbeat_at: MonoTime::ZERO,
            candidates: Vec::new(),
            ends_seen: 0,
            paused: false,
            handoffs: 0,
            leaving: None,
        }
    }

    /// Something happened at `now`, a reading of a clock that goes on while the machine sleeps
    /// (`CLOCK_BOOTTIME`) and never goes back.
    pub fn step(&mut self, input: Input, now: MonoTime) -> Vec<Effect> {
        self.step_all([input], now)
    }

    /// The same for several things that happened by `now`, in their order; what is due anyway
    /// is looked at once.
    pub fn step_all(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        now: MonoTime,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        self.check_time(now, &mut out);
        let mut look = false;
        for input in inputs {
            // Heartbeats come often; what follows from them has time.
            look |= !matches!(input, Input::Message { message: PeerMessage::Heartbeat { .. }, .. });
            self.take(input, now, &mut out);
        }
        if look {
            self.advance(now, &mut out);
        }
        out
    }

    fn take(&mut self, input: Input, now: MonoTime, out: &mut Vec<Effect>) {
        match input {
            Input::Start { boot_id } => self.start(boot_id, now, out),
            Input::Tick => {}
            Input::Reply { attempt, answer } => self.reply(attempt, &answer, now, out),
            Input::Message { from, message } => self.message(&from, &message, now, out),
            Input::BarrierShows { inc, row } => {
                let news = self.lease.shown(inc, row.as_ref());
                self.heed(news, now, out);
            }
            Input::Drained { shard, id } => {
                if let Some(slot) = self.slots.get_mut(&shard) {
                    slot.drained(id, out);
                }
            }
            Input::Wanted { shard } => {
                self.with(shard, now, |slot, cx| slot.want(cx));
            }
            Input::PauseRebalance(paused) => self.paused = paused,
            Input::MoveShard { shard, to } => self.move_ordered(shard, to, now, out),
            Input::Leave => self.leave(now, out),
            Input::Passivated => self.passivated(now),
        }
    }

    /// Who owns the shard, as far as this node knows at `now`.
    #[must_use]
    pub fn owner(&self, shard: ShardId, now: MonoTime) -> Owner {
        let Some(slot) = self.slots.get(&shard) else { return Owner::Nobody };
        if let Some(epoch) = slot.owned() {
            let valid = self.valid_until().is_some_and(|until| now < until);
            return if valid { Owner::Here(epoch) } else { Owner::Nobody };
        }
        let me = &self.lease.me().node;
        match &slot.row {
            Some(row) if row.owner == *me => Owner::Nobody,
            Some(row) if !self.is_unowned(slot) => Owner::There(row.owner.clone(), row.epoch),
            // Whoever should own it is the first to know who does. What others still say of the
            // owner that is gone is older than this.
            row => match slot.first.as_ref().filter(|first| *first != me) {
                Some(first) => {
                    let epoch = row.as_ref().map_or(Epoch::ZERO, |row| row.epoch);
                    Owner::There(first.clone(), epoch)
                }
                None => Owner::Nobody,
            },
        }
    }

    /// Whether no living owner of a shard is known.
    fn is_unowned(&self, slot: &Slot) -> bool {
        let gone = |row: &ShardRow| self.peers.seems_gone(&row.owner, row.owner_inc);
        slot.owned().is_none() && slot.row.as_ref().is_none_or(gone)
    }

    /// Shards that somebody should own and nobody is known to.
    #[must_use]
    pub fn unowned(&self) -> usize {
        self.slots.values().filter(|slot| slot.first.is_some() && self.is_unowned(slot)).count()
    }

    /// Handle nothing from here on, whatever this machine has been told meanwhile. `None`:
    /// handle nothing now.
    #[must_use]
    pub fn valid_until(&self) -> Option<MonoTime> {
        self.lease().map(|lease| lease.valid_until)
    }

    /// The own lease, while it holds.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseView> {
        let over = self.leaving.as_ref().is_some_and(policy::Leaving::is_ending);
        let (inc, seq, valid_until) = self.lease.valid().filter(|_| !over)?;
        Some(LeaseView { inc, seq, valid_until })
    }

    /// Shards that this node handles, with their epochs.
    pub fn owned(&self) -> impl Iterator<Item = (ShardId, Epoch)> {
        self.slots.values().filter_map(|slot| Some((slot.shard, slot.owned()?)))
    }

    /// The newest shard rows seen.
    pub fn rows(&self) -> impl Iterator<Item = &ShardRow> {
        self.slots.values().filter_map(|slot| slot.row.as_ref())
    }

    /// The node that should own a shard, as the hash has it now.
    #[must_use]
    pub fn preferred(&self, shard: ShardId) -> Option<&NodeName> {
        self.slots.get(&shard)?.first.as_ref()
    }

    /// Where a shard of this node is being moved to.
    #[must_use]
    pub fn moving_to(&self, shard: ShardId) -> Option<&NodeName> {
        match &self.slots.get(&shard)?.state {
            State::Source(source) => Some(&source.to),
            _ => None,
        }
    }

    /// The newest lease rows seen, the own one left out.
    pub fn peers(&self) -> impl Iterator<Item = &LeaseRow> {
        self.peers.rows()
    }

    /// All leases seen, the own one among them while it holds, each with the time since this
    /// node saw it renewed.
    #[must_use]
    pub fn leases(&self, now: MonoTime) -> Vec<(LeaseRow, Duration)> {
        let mut all: Vec<_> =
            self.peers.seen(now).map(|(row, since)| (row.clone(), since)).collect();
        if let (Some(row), Some(until)) = (self.lease.row(), self.valid_until()) {
            let left = until.since(now);
            all.push((row.clone(), self.timings.validity.saturating_sub(left)));
        }
        all
    }

    /// Hand-offs to others that are under way.
    #[must_use]
    pub fn moving(&self) -> usize {
        self.slots.values().filter(|slot| matches!(slot.state, State::Source(_))).count()
    }

    /// Whether shards move by themselves.
    #[must_use]
    pub fn rebalancing(&self, now: MonoTime) -> Rebalancing {
        if self.paused {
            Rebalancing::Paused
        } else if self.pace.p99(now) > self.timings.pause_above {
            Rebalancing::StoreIsSlow
        } else {
            Rebalancing::On
        }
    }

    fn context(&self, now: MonoTime) -> Context<'_> {
        Context {
            me: &self.lease.me().node,
            inc: self.lease.inc(),
            valid: self.lease().is_some(),
            draining: self.lease.is_draining(),
            listed: self.leases_listed && self.shards_listed,
            peers: &self.peers,
            timings: &self.timings,
            now,
        }
    }

    /// Runs `f` on every shard.
    fn each(&mut self, now: MonoTime, mut f: impl FnMut(&mut Slot, &Context<'_>)) {
        let mut slots = std::mem::take(&mut self.slots);
        let cx = self.context(now);
        for slot in slots.values_mut() {
            f(slot, &cx);
        }
        self.slots = slots;
    }

    /// Runs `f` on one shard.
    fn with<T>(
        &mut self,
        shard: ShardId,
        now: MonoTime,
        f: impl FnOnce(&mut Slot, &Context<'_>) -> T,
    ) -> Option<T> {
        let mut slot = self.slots.remove(&shard)?;
        let done = f(&mut slot, &self.context(now));
        self.slots.insert(shard, slot);
        Some(done)
    }

    fn start(&mut self, boot_id: Uuid, now: MonoTime, out: &mut Vec<Effect>) {
        if self.lease.inc().is_some() {
            self.heed(vec![News::Lost], now, out);
        }
        self.attempts.clear();
        self.leaving = None;
        self.lease.start(boot_id, now);
    }

    fn check_time(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        let news = self.lease.check(now);
        self.heed(news.into_iter().collect(), now, out);
        let late = self
            .attempts
            .iter()
            .filter(|(_, attempt)| now.since(attempt.sent) >= self.timings.attempt_timeout);
        let late: Vec<AttemptId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.reply(id, &Answer::Failed, now, out);
        }
    }

    fn reply(&mut self, id: AttemptId, answer: &Answer, now: MonoTime, out: &mut Vec<Effect>) {
        // What is not there any more was given up; its answer says nothing reliable now.
        let Some(Attempt { purpose, op, sent }) = self.attempts.remove(&id) else { return };
        if op.is_compare_and_set() {
            self.pace.took(now.since(sent), now);
        }
        match purpose {
            Purpose::Own => {
                let news = self.lease.answered(&op, answer, sent, now);
                self.heed(news, now, out);
            }
            Purpose::Peer(node) => {
                let retry_at = now.plus(self.timings.retry_after);
                self.peers.answered(&node, &op, answer, retry_at, now);
            }
            Purpose::ListLeases => self.leases_listed(answer, now, out),
            Purpose::ListShards => match answer {
                Answer::Shards(rows) => self.shards(rows, now),
                _ => self.list_shards_at = now.plus(self.timings.retry_after),
            },
            Purpose::Shard(shard) => {
                self.with(shard, now, |slot, cx| slot.answered(&op, answer, cx, out));
            }
        }
    }

    fn leases_listed(&mut self, answer: &Answer, now: MonoTime, out: &mut Vec<Effect>) {
        let Answer::Leases(rows) = answer else {
            self.list_leases_at = now.plus(self.timings.retry_after);
            return;
        };
        for row in rows {
            self.peers.saw(row, now);
        }
        self.leases_listed = true;
        let own = rows.iter().find(|row| row.node == self.lease.me().node);
        if let (Some(row), Some(inc)) = (own, self.lease.inc()) {
            let news = self.lease.shown(inc, Some(row));
            self.heed(news, now, out);
        }
    }

    fn shards(&mut self, rows: &[ShardRow], now: MonoTime) {
        for row in rows {
            self.with(row.shard, now, |slot, cx| slot.listed(row, cx));
        }
        self.shards_listed = true;
    }

    fn message(
        &mut self,
        from: &NodeName,
        message: &PeerMessage,
        now: MonoTime,
        out: &mut Vec<Effect>,
    ) {
        let shard = match *message {
            PeerMessage::Heartbeat { inc, seq } => return self.heard(from, inc, seq, now),
            PeerMessage::Prepare { shard, .. }
            | PeerMessage::Ready { shard, .. }
            | PeerMessage::Refuse { shard, .. }
            | PeerMessage::Cancel { shard, .. }
            | PeerMessage::Committed { shard, .. }
            | PeerMessage::FlushMarker { shard, .. } => shard,
        };
        self.with(shard, now, |slot, cx| slot.message(from, message, cx, out));
    }

    fn heard(&mut self, from: &NodeName, inc: Incarnation, seq: u64, now: MonoTime) {
        if !self.peers.heard(from, inc, seq, now) {
            self.list_leases_at = self.list_leases_at.min(now);
        }
    }

    fn heed(&mut self, news: Vec<News>, now: MonoTime, out: &mut Vec<Effect>) {
        for news in news {
            match news {
                News::Joined(inc) => {
                    self.peers.superseded(inc);
                    (self.leases_listed, self.shards_listed) = (false, false);
                    (self.list_leases_at, self.list_shards_at) = (now, now);
                    self.handoffs = 0;
                }
                News::Valid => {
                    self.peers.restart_clocks(now);
                    if let Some(LeaseView { inc, .. }) = self.lease() {
                        out.push(Effect::UnfenceNode { inc });
                        self.each(now, |slot, _| slot.unfenced(out));
                    }
                }
                News::Expired => {
                    out.push(Effect::FenceNode { reason: FenceReason::Expired });
                    self.each(now, |slot, _| slot.fenced(out));
                }
                News::Lost | News::Left => {
                    if news == News::Lost {
                        out.push(Effect::FenceNode { reason: FenceReason::Lost });
                    }
                    self.attempts.clear();
                    self.each(now, |slot, _| slot.forget());
                    if self.leaving.is_some() {
                        out.push(Effect::Exit);
                    }
                }
            }
        }
    }

    /// Starts whatever is due.
    fn advance(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        if !self.is_under_way(&Purpose::Own)
            && let Some(op) = self.lease.next(now)
        {
            self.begin(Purpose::Own, op, now, out);
        }
        if self.lease.inc().is_none() {
            return;
        }
        self.look_around(now, out);
        self.rank(now);
        self.heartbeat(now, out);
        self.watch_peers(now, out);
        self.each(now, |slot, cx| slot.tick(cx, out));
        self.rebalance(now, out);
        self.advance_shards(now, out);
        self.advance_leaving(now, out);
    }

    fn is_under_way(&self, purpose: &Purpose) -> bool {
        self.attempts.values().any(|attempt| attempt.purpose == *purpose)
    }

    fn begin(&mut self, purpose: Purpose, op: StoreOp, now: MonoTime, out: &mut Vec<Effect>) {
        self.attempt_last = AttemptId(self.attempt_last.0 + 1);
        let attempt = self.attempt_last;
        out.push(Effect::Store { attempt, op: op.clone() });
        self.attempts.insert(attempt, Attempt { purpose, op, sent: now });
    }

    fn look_around(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        if now >= self.list_leases_at && !self.is_under_way(&Purpose::ListLeases) {
            let often = self.peers.any_silent(now);
            let Timings { heartbeat_every, list_leases_every, .. } = self.timings;
            self.list_leases_at = now.plus(if often { heartbeat_every } else { list_leases_every });
            self.begin(Purpose::ListLeases, StoreOp::ListLeases, now, out);
        }
        // What the dead owned is claimed; what others have told of it may be old.
        let ends = self.peers.ends();
        if std::mem::replace(&mut self.ends_seen, ends) != ends {
            self.list_shards_at = now;
        }
        if now >= self.list_shards_at && !self.is_under_way(&Purpose::ListShards) {
            // Others are claiming what this node waits for: look soon who has it.
            let Timings { heartbeat_every, list_shards_every, .. } = self.timings;
            let often = self.unowned() > 0;
            self.list_shards_at = now.plus(if often { heartbeat_every } else { list_shards_every });
            self.begin(Purpose::ListShards, StoreOp::ListShards, now, out);
        }
    }

    /// Hashes anew if the nodes that take shards have changed.
    fn rank(&mut self, now: MonoTime) {
        let mut candidates: Vec<_> = self.peers.candidates().collect();
        let me = self.lease.me();
        if !self.lease.is_draining() {
            let (node, roles, weight) = (me.node.clone(), me.roles, me.weight);
            candidates.push(Candidate { node, roles, weight });
        }
        if candidates == self.candidates {
            return;
        }
        self.each(now, |slot, cx| {
            let order = ranked(slot.shard, &candidates);
            let rank = order.iter().position(|node| *node == cx.me);
            let rank = rank.and_then(|rank| u32::try_from(rank).ok());
            slot.ranked(order.first().copied().cloned(), rank);
        });
        self.candidates = candidates;
    }

    fn heartbeat(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        if let Some(LeaseView { inc, seq, .. }) = self.lease()
            && now >= self.heartbeat_at
        {
            self.heartbeat_at = now.plus(self.timings.heartbeat_every);
            out.push(Effect::Heartbeat { inc, seq });
        }
    }

    /// Ends the leases of those who are over, and has ends proved that claims wait for.
    fn watch_peers(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        if self.lease().is_none() {
            return;
        }
        let cx = self.context(now);
        let mut wanted: Vec<_> = self.slots.values().filter_map(|s| s.wants_proof(&cx)).collect();
        wanted.sort();
        wanted.dedup();
        let busy = |node: &NodeName| self.is_under_way(&Purpose::Peer(node.clone()));
        for (node, op) in self.peers.next(&wanted, busy, now) {
            self.begin(Purpose::Peer(node), op, now, out);
        }
    }

    fn advance_shards(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        let shards = self.attempts.values().filter(|a| matches!(a.purpose, Purpose::Shard(_)));
        // A store that is slow throughout takes few at once, or the lease would not be renewed in
        // time. A few slow answers are no reason: shards without owner are waited for.
        let is_slow = self.pace.p50(now) > self.timings.pause_above;
        let max = if is_slow { self.timings.claims_slow_max } else { self.timings.claims_max };
        let free = max.saturating_sub(shards.count());
        let mut room = self.timings.claims_unwanted_max;
        let mut due = Vec::new();
        let mut jitter = std::mem::replace(&mut self.jitter, Jitter(0));
        self.each(now, |slot, cx| {
            slot.schedule(cx, &mut jitter);
            let priority = slot.priority(cx);
            if slot.busy && priority == Priority::Unwanted {
                room = room.saturating_sub(1);
            }
            // What failed before comes behind what did not: it must not take all places for ever.
            let turn = (priority, slot.not_before);
            due.extend(slot.next(cx).map(|op| (turn, slot.shard, op)));
        });
        self.jitter = jitter;
        // Those of one turn stay in their order.
        due.sort_by_key(|(turn, ..)| *turn);
        let unwanted = due.partition_point(|((priority, _), ..)| *priority < Priority::Unwanted);
        due.truncate(free.min(unwanted + room));
        for (_, shard, op) in due {
            if let Some(slot) = self.slots.get_mut(&shard) {
                slot.busy = true;
            }
            self.begin(Purpose::Shard(shard), op, now, out);
        }
    }

    /// The state of the own lease row as this node wants it, for operators.
    #[must_use]
    pub const fn wanted_state(&self) -> NodeState {
        if self.lease.is_draining() { NodeState::Draining } else { NodeState::Alive }
    }
}
