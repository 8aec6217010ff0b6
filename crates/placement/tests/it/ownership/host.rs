//! The shell around one node of the model: a process with a clock, activations, a journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use troupe_placement::{
    Answer, AttemptId, Effect, HandoffId, Identity, Input, Node, PeerMessage, StoreOp, Timings,
};
use troupe_types::{
    Epoch, Incarnation, LeaseRow, MonoTime, NodeName, NodeState, Roles, ShardId, Uuid,
};

use super::{
    sim::{Flaw, MS, NODES, SHARDS, micros},
    store::Entry,
};

/// What a host asks of the store.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Placement { attempt: AttemptId, op: StoreOp },
    ClaimFence { shard: ShardId, epoch: Epoch, token: u64 },
    Start { shard: ShardId, fence: u64, token: u64 },
    Write { shard: ShardId, fence: u64, seq: u64, entry: Entry, token: u64 },
    Barrier { shard: ShardId, seq: u64, token: u64, inc: Incarnation },
}

/// What reaches a host.
#[derive(Clone, Debug)]
pub(super) enum Incoming {
    Tick,
    Work,
    Reply {
        attempt: AttemptId,
        answer: Answer,
    },
    Peer {
        from: NodeName,
        message: PeerMessage,
    },
    Fence {
        shard: ShardId,
        fence: Option<u64>,
        token: u64,
    },
    Started {
        shard: ShardId,
        found: Option<(u64, u64)>,
        token: u64,
    },
    /// `epoch`: of the shard row at the moment of the write.
    Written {
        shard: ShardId,
        seq: u64,
        token: u64,
        epoch: Epoch,
    },
    /// The own row, and the epoch of the shard row at the moment of the read.
    Barrier {
        shard: ShardId,
        seq: u64,
        token: u64,
        inc: Incarnation,
        row: Option<LeaseRow>,
        epoch: Epoch,
    },
    Rested {
        shard: ShardId,
        id: HandoffId,
    },
    Passivated,
    Leave,
    Move {
        shard: ShardId,
        to: NodeName,
    },
}

/// What a host does to the world.
#[derive(Debug)]
pub(super) enum Action {
    Ask(Request),
    Say { to: NodeName, message: PeerMessage },
    SayAll(PeerMessage),
    Later { after: u64, incoming: Incoming },
    Exit,
    Acked { shard: ShardId, seq: u64, value: u64, epoch: Epoch, seen: Epoch },
    Count(&'static str),
    Broken(String),
}

#[derive(Debug)]
struct Active {
    epoch: Epoch,
    /// Matches answers to this activation.
    token: u64,
    asked: bool,
    open: Option<Open>,
    rest: Option<HandoffId>,
    /// It has said that it is at rest.
    rested: bool,
    since: MonoTime,
}

#[derive(Debug)]
struct Open {
    fence: u64,
    head: u64,
    last: u64,
    flights: BTreeMap<u64, Flight>,
}

#[derive(Debug)]
struct Flight {
    value: u64,
    sent: MonoTime,
    /// The shard's epoch when the commit was decided.
    passed: Option<Epoch>,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: NodeName,
    /// Which process; answers to an older one go nowhere.
    pub(super) process: u64,
    pub(super) node: Option<Node>,
    pub(super) paused: bool,
    pub(super) backlog: Vec<Incoming>,
    /// What it was about to do when it was frozen.
    pub(super) held_back: Vec<Action>,
    /// No answer of the store comes through.
    pub(super) cut_off: bool,
    clock: (u64, u64, f64),
    inc: Option<Incarnation>,
    shards: BTreeMap<ShardId, Active>,
    floors: BTreeMap<ShardId, Epoch>,
    tokens: u64,
    flaw: Flaw,
    /// For the flaw: epochs under which a move was sent.
    moved: BTreeMap<ShardId, Epoch>,
    /// For the flaw: shards that are handled again under such an epoch.
    went_back: BTreeSet<ShardId>,
}

impl Host {
    pub(super) fn new(name: &str, flaw: Flaw) -> Self {
        Self {
            name: name.into(),
            process: 0,
            node: None,
            paused: false,
            backlog: Vec::new(),
            held_back: Vec::new(),
            cut_off: false,
            clock: (0, 0, 1.0),
            inc: None,
            shards: BTreeMap::new(),
            floors: BTreeMap::new(),
            tokens: 0,
            flaw,
            moved: BTreeMap::new(),
            went_back: BTreeSet::new(),
        }
    }

    /// What the process's clock says.
    fn now(&self, real: u64) -> MonoTime {
        let (at, reading, rate) = self.clock;
        let passed = ((real - at) as f64 * rate) as u64;
        micros(reading + passed)
    }

    /// From now on the clock runs at another speed.
    pub(super) fn drift(&mut self, real: u64, rate: f64) {
        let reading = self.now(real).since(MonoTime::ZERO).as_micros();
        self.clock = (real, u64::try_from(reading).unwrap(), rate);
    }

    pub(super) fn start(&mut self, real: u64, seed: u64) -> Vec<Action> {
        self.process += 1;
        self.shards.clear();
        self.floors.clear();
        self.moved.clear();
        self.went_back.clear();
        (self.paused, self.inc) = (false, None);
        self.backlog.clear();
        self.held_back.clear();
        let me = Identity {
            node: self.name.clone(),
            addr: String::new(),
            build: String::new(),
            roles: Roles::ALL,
            weight: 100,
        };
        self.node = Some(Node::new(me, Timings::default(), (0..SHARDS).map(ShardId), seed));
        let boot_id = Uuid::from_u128((u128::from(seed) << 64) | u128::from(self.process));
        self.step(Input::Start { boot_id }, real)
    }

    fn step(&mut self, input: Input, real: u64) -> Vec<Action> {
        let now = self.now(real);
        let Some(node) = &mut self.node else { return Vec::new() };
        let effects = node.step(input, now);
        let mut actions = Vec::new();
        for effect in effects {
            self.effect(effect, now, &mut actions);
        }
        actions
    }

    fn effect(&mut self, effect: Effect, now: MonoTime, actions: &mut Vec<Action>) {
        match effect {
            Effect::Store { attempt, op } => {
                let name = counted(&op);
                if let StoreOp::Move { expected, .. } | StoreOp::Bump { expected, .. } = &op
                    && self.went_back.contains(&expected.shard)
                {
                    return; // For the flaw: it believes that the move has failed.
                }
                actions.extend(name.map(Action::Count));
                actions.push(Action::Ask(Request::Placement { attempt, op }));
            }
            Effect::Send { to, message } => actions.push(Action::Say { to, message }),
            Effect::Heartbeat { inc, seq } => {
                actions.push(Action::SayAll(PeerMessage::Heartbeat { inc, seq }));
            }
            Effect::FenceNode { .. } => {
                actions.push(Action::Count("fences"));
                self.shards.clear();
                self.moved.clear();
                self.went_back.clear();
            }
            Effect::UnfenceNode { inc } => self.inc = Some(inc),
            Effect::Activate { shard, epoch } | Effect::ActivateForwarded { shard, epoch } => {
                if self.floors.get(&shard).is_some_and(|floor| epoch <= *floor) {
                    actions.push(Action::Broken(format!("{shard} went back to {epoch}")));
                }
                self.activate(shard, epoch, now);
            }
            Effect::Deactivate { shard, epoch } => {
                self.shards.retain(|s, active| *s != shard || active.epoch > epoch);
            }
            Effect::DrainShard { shard, id, .. } => match self.shards.get_mut(&shard) {
                Some(active) => {
                    (active.rest, active.rested, active.since) = (Some(id), false, now);
                }
                None => {
                    let incoming = Incoming::Rested { shard, id };
                    actions.push(Action::Later { after: MS, incoming });
                }
            },
            Effect::ResumeShard { shard, .. } => {
                if let Some(active) = self.shards.get_mut(&shard) {
                    active.rest = None;
                }
            }
            Effect::Release { shard, epoch } => {
                if self.flaw == Flaw::GoBack {
                    self.moved.insert(shard, epoch);
                } else {
                    self.floors.insert(shard, epoch);
                }
                self.shards.remove(&shard);
            }
            Effect::SendQueues { shard, .. } => {
                // For the flaw: it learns at last that the shard is gone.
                self.shards.remove(&shard);
                self.moved.remove(&shard);
                self.went_back.remove(&shard);
            }
            Effect::PassivateAll => {
                let incoming = Incoming::Passivated;
                actions.push(Action::Later { after: 50 * MS, incoming });
            }
            Effect::Exit => actions.push(Action::Exit),
            Effect::OpenDirect { .. }
            | Effect::MoveAnswered { .. }
            | Effect::Forward { .. }
            | Effect::BufferShard { .. }
            | Effect::DiscardBuffer { .. } => {}
        }
    }

    fn activate(&mut self, shard: ShardId, epoch: Epoch, since: MonoTime) {
        self.tokens += 1;
        let token = self.tokens;
        let (open, rest) = (None, None);
        let active = Active { epoch, token, asked: false, open, rest, rested: false, since };
        self.shards.insert(shard, active);
    }

    pub(super) fn receive(&mut self, incoming: Incoming, real: u64) -> Vec<Action> {
        // Whatever comes, the lease is looked at first.
        let now = self.now(real);
        let until = self.node.as_ref().and_then(Node::valid_until);
        let over = until.is_none_or(|until| now >= until);
        let tick = over || matches!(incoming, Incoming::Tick);
        let mut actions = if tick { self.step(Input::Tick, real) } else { Vec::new() };
        match incoming {
            Incoming::Tick => self.give_up_late(now),
            Incoming::Work => self.work(now, &mut actions),
            Incoming::Reply { attempt, answer } => {
                if self.flaw == Flaw::GoBack {
                    self.go_back(&answer, now);
                }
                actions.extend(self.step(Input::Reply { attempt, answer }, real));
            }
            Incoming::Peer { from, message } => {
                actions.extend(self.step(Input::Message { from, message }, real));
            }
            Incoming::Fence { shard, fence, token } => {
                match (self.active(shard, token).is_some(), fence) {
                    (true, Some(fence)) => {
                        actions.push(Action::Ask(Request::Start { shard, fence, token }));
                        let open = Open { fence, head: 0, last: 0, flights: BTreeMap::new() };
                        self.shards.get_mut(&shard).unwrap().open = Some(open);
                    }
                    // Refused: opened again with the next message, if it still is this node's.
                    (true, None) => self.active(shard, token).unwrap().asked = false,
                    (false, _) => {}
                }
            }
            Incoming::Started { shard, found, token } => self.started(shard, found, token),
            Incoming::Written { shard, seq, token, epoch } => {
                self.written(shard, seq, token, epoch, &mut actions);
            }
            Incoming::Barrier { shard, seq, token, inc, row, epoch } => {
                let holds =
                    row.as_ref().is_some_and(|row| row.inc == inc && row.state != NodeState::Dead);
                if holds {
                    self.passed(shard, seq, token, epoch, &mut actions);
                } else {
                    actions.extend(self.step(Input::BarrierShows { inc, row }, real));
                }
            }
            Incoming::Rested { shard, id } => {
                actions.extend(self.step(Input::Drained { shard, id }, real));
            }
            Incoming::Passivated => actions.extend(self.step(Input::Passivated, real)),
            Incoming::Leave => actions.extend(self.step(Input::Leave, real)),
            Incoming::Move { shard, to } => {
                actions.extend(self.step(Input::MoveShard { shard, to }, real));
            }
        }
        self.rest(now, &mut actions);
        actions
    }

    /// The flaw: a SERIAL read shows the old epoch after a move was sent, so it goes on.
    fn go_back(&mut self, answer: &Answer, now: MonoTime) {
        if let Answer::Shard(Some(row)) = answer
            && row.owner == self.name
            && self.moved.get(&row.shard) == Some(&row.epoch)
            && !self.shards.contains_key(&row.shard)
        {
            self.activate(row.shard, row.epoch, now);
            self.went_back.insert(row.shard);
        }
    }

    fn active(&mut self, shard: ShardId, token: u64) -> Option<&mut Active> {
        self.shards.get_mut(&shard).filter(|active| active.token == token)
    }

    /// Handles what clients want, on every shard that is active here.
    fn work(&mut self, now: MonoTime, actions: &mut Vec<Action>) {
        let valid = self.node.as_ref().and_then(Node::valid_until).is_some_and(|t| now < t);
        if !valid {
            return;
        }
        for (shard, active) in &mut self.shards {
            let (shard, token, epoch) = (*shard, active.token, active.epoch);
            match &mut active.open {
                None if !active.asked => {
                    (active.asked, active.since) = (true, now);
                    actions.push(Action::Ask(Request::ClaimFence { shard, epoch, token }));
                }
                Some(open) if open.head > 0 && active.rest.is_none() && open.flights.len() < 4 => {
                    self.tokens += 1;
                    // Unique over all hosts and processes.
                    let host = u64::from(self.name.as_str().as_bytes()[5]);
                    let value = (host << 56) | (self.process << 40) | self.tokens;
                    let seq = open.head;
                    let entry = Entry { value, before: open.last };
                    let fence = open.fence;
                    (open.head, open.last) = (seq + 1, value);
                    open.flights.insert(seq, Flight { value, sent: now, passed: None });
                    actions.push(Action::Ask(Request::Write { shard, fence, seq, entry, token }));
                }
                _ => {}
            }
        }
    }

    fn started(&mut self, shard: ShardId, found: Option<(u64, u64)>, token: u64) {
        let Some(active) = self.active(shard, token) else { return };
        match (found, &mut active.open) {
            // `head` is the next number from here on.
            (Some((head, last)), Some(open)) => (open.head, open.last) = (head + 1, last),
            _ => (active.open, active.asked) = (None, false),
        }
    }

    fn written(
        &mut self,
        shard: ShardId,
        seq: u64,
        token: u64,
        epoch: Epoch,
        actions: &mut Vec<Action>,
    ) {
        let (flaw, inc) = (self.flaw, self.inc);
        if self.active(shard, token).is_none() {
            return;
        }
        match (flaw, inc) {
            (Flaw::NoFence, _) => self.passed(shard, seq, token, epoch, actions),
            (_, Some(inc)) => {
                actions.push(Action::Ask(Request::Barrier { shard, seq, token, inc }));
            }
            (_, None) => {}
        }
    }

    /// Acknowledges in order, after a last look at what this process has released.
    fn passed(
        &mut self,
        shard: ShardId,
        seq: u64,
        token: u64,
        seen: Epoch,
        actions: &mut Vec<Action>,
    ) {
        let floor = self.floors.get(&shard).copied().unwrap_or(Epoch::ZERO);
        let Some(active) = self.active(shard, token).filter(|active| active.epoch > floor) else {
            return;
        };
        let epoch = active.epoch;
        let Some(open) = &mut active.open else { return };
        if let Some(flight) = open.flights.get_mut(&seq) {
            flight.passed = Some(seen);
        }
        while let Some(first) = open.flights.first_entry()
            && let Some(seen) = first.get().passed
        {
            let (seq, Flight { value, .. }) = first.remove_entry();
            actions.push(Action::Acked { shard, seq, value, epoch, seen });
        }
    }

    /// What is not confirmed in two seconds ends its activation; the next one reads again.
    fn give_up_late(&mut self, now: MonoTime) {
        let limit = Duration::from_secs(2);
        let mut late = Vec::new();
        for (shard, active) in &self.shards {
            let since = match &active.open {
                Some(open) if open.head > 0 => open.flights.values().next().map(|f| f.sent),
                _ if active.asked => Some(active.since),
                _ => None,
            };
            if since.is_some_and(|since| now.since(since) > limit) {
                late.push((*shard, active.epoch, active.rest));
            }
        }
        for (shard, epoch, rest) in late {
            self.activate(shard, epoch, now);
            self.shards.get_mut(&shard).unwrap().rest = rest;
        }
    }

    /// Tells of shards that were to come to rest and have. Some take longer than they may.
    fn rest(&mut self, now: MonoTime, actions: &mut Vec<Action>) {
        for (shard, active) in &mut self.shards {
            let Some(id) = active.rest else { continue };
            let idle = active.open.as_ref().is_none_or(|open| open.flights.is_empty());
            let stubborn = id.count % 13 == 0 && now.since(active.since).as_secs() < 70;
            if idle && !stubborn && !active.rested {
                let incoming = Incoming::Rested { shard: *shard, id };
                actions.push(Action::Later { after: MS, incoming });
                active.rested = true;
            }
        }
    }

    /// The process is frozen after it has decided to write, and before it writes.
    pub(super) fn freeze(&mut self, real: u64) {
        if self.node.is_some() && !self.paused {
            self.held_back = self.receive(Incoming::Work, real);
            self.paused = true;
        }
    }

    /// Shards that are open here under the epoch that the store shows.
    pub(super) fn serves(&self, shard: ShardId, epoch: Epoch) -> bool {
        let active = self.shards.get(&shard).filter(|active| active.epoch == epoch);
        !self.paused && active.is_some_and(|a| a.open.as_ref().is_some_and(|o| o.head > 0))
    }

    /// kill -9: nothing is left of the process.
    pub(super) fn crash(&mut self) {
        self.node = None;
        self.shards.clear();
        self.backlog.clear();
        self.held_back.clear();
        self.paused = false;
        self.process += 1;
    }
}

/// The names of all hosts.
pub(super) fn names() -> Vec<String> {
    (0..NODES).map(|n| format!("node-{n}")).collect()
}

/// What of an operation is counted.
fn counted(op: &StoreOp) -> Option<&'static str> {
    match op {
        StoreOp::Claim { .. } => Some("claims"),
        StoreOp::Move { .. } => Some("moves"),
        StoreOp::Bump { .. } => Some("bumps"),
        StoreOp::Kill { .. } => Some("kills"),
        _ => None,
    }
}
