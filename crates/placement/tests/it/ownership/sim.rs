//! The world of the model: an event queue, a network, chance, and the checks.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use troupe_placement::PeerMessage;
use troupe_types::{Epoch, MonoTime, NodeName, ShardId};

use super::{
    faults::{Fault, Weather},
    host::{Action, Host, Incoming, Request, names},
    store::Store,
};

pub(super) const NODES: usize = 4;
pub(super) const SHARDS: u16 = 8;
/// One millisecond in the unit of the model.
pub(super) const MS: u64 = 1_000;
pub(super) const S: u64 = 1_000 * MS;
/// Faults happen until then.
const FAULTS_UNTIL: u64 = 75 * S;
/// By then every shard must have a live owner again.
const CALM_FOR: u64 = 30 * S;

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    NoFence,
    GoBack,
}

/// What a run has shown.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) violations: Vec<String>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

pub(super) fn micros(n: u64) -> MonoTime {
    MonoTime::ZERO.plus(Duration::from_micros(n))
}

enum Event {
    /// Reaches the store, on behalf of a process of a host.
    AtStore {
        host: usize,
        process: u64,
        request: Request,
        answer: Option<u64>,
    },
    /// Reaches a host; only that process, if one is named.
    AtHost {
        host: usize,
        process: Option<u64>,
        incoming: Incoming,
    },
    Start {
        host: usize,
        process: u64,
    },
    Strike,
    /// A fault is over.
    Over(Fault),
}

pub(super) struct Sim {
    pub(super) rng: StdRng,
    pub(super) now: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) weather: Weather,
    queue: BTreeMap<(u64, u64), Event>,
    count: u64,
    store: Store,
    /// Number and value of every acknowledged entry.
    acked: BTreeMap<(ShardId, u64), u64>,
    counts: BTreeMap<&'static str, u64>,
    flaw: Flaw,
}

/// One life of a cluster.
pub(super) fn run(seed: u64, flaw: Flaw) -> Report {
    let mut sim = Sim::new(seed, flaw);
    for host in 0..NODES {
        let delay = sim.below(3 * S);
        let process = sim.hosts[host].process;
        sim.after(delay, Event::Start { host, process });
        sim.after(S, Event::AtHost { host, process: None, incoming: Incoming::Tick });
        sim.after(S, Event::AtHost { host, process: None, incoming: Incoming::Work });
    }
    sim.after(5 * S, Event::Strike);
    sim.run_until(FAULTS_UNTIL);
    sim.calm();
    sim.run_until(FAULTS_UNTIL + CALM_FOR);
    sim.finish()
}

impl Sim {
    fn new(seed: u64, flaw: Flaw) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let weather = Weather::new(&mut rng);
        Self {
            rng,
            now: 0,
            hosts: names().iter().map(|name| Host::new(name, flaw)).collect(),
            weather,
            queue: BTreeMap::new(),
            count: 0,
            store: Store::new(flaw != Flaw::NoFence),
            acked: BTreeMap::new(),
            counts: BTreeMap::new(),
            flaw,
        }
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.rng.random_range(0..n.max(1))
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + delay, self.count), event);
    }

    pub(super) fn over_after(&mut self, delay: u64, fault: Fault) {
        self.after(delay, Event::Over(fault));
    }

    pub(super) fn tell(&mut self, host: usize, incoming: Incoming) {
        self.after(0, Event::AtHost { host, process: None, incoming });
    }

    pub(super) fn start_after(&mut self, delay: u64, host: usize) {
        let process = self.hosts[host].process;
        self.after(delay, Event::Start { host, process });
    }

    pub(super) fn seen(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn run_until(&mut self, end: u64) {
        while let Some(next) = self.queue.first_entry()
            && next.key().0 <= end
        {
            let ((at, _), event) = next.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AtStore { host, process, request, answer } => {
                let incoming = self.execute(&self.hosts[host].name.clone(), request);
                if let (Some(delay), Some(incoming)) = (answer, incoming) {
                    self.after(delay, Event::AtHost { host, process: Some(process), incoming });
                }
            }
            Event::AtHost { host, process, incoming } => self.reach(host, process, incoming),
            Event::Start { host, process } => {
                if self.hosts[host].process == process && self.hosts[host].node.is_none() {
                    let seed = self.rng.random();
                    let actions = self.hosts[host].start(self.now, seed);
                    self.act(host, actions);
                }
            }
            Event::Strike => {
                if self.now < FAULTS_UNTIL {
                    Fault::strike(self);
                    let pause = self.below(6 * S);
                    self.after(pause, Event::Strike);
                }
            }
            Event::Over(fault) => fault.end(self),
        }
    }

    fn reach(&mut self, host: usize, process: Option<u64>, incoming: Incoming) {
        // Clocks of the model go on, whatever the host does.
        match incoming {
            Incoming::Tick => {
                let next = 100 * MS + self.below(200 * MS);
                self.after(next, Event::AtHost { host, process: None, incoming: Incoming::Tick });
            }
            Incoming::Work => {
                let next = 100 * MS + self.below(400 * MS);
                self.after(next, Event::AtHost { host, process: None, incoming: Incoming::Work });
            }
            _ => {}
        }
        let it = &mut self.hosts[host];
        if it.node.is_none() || process.is_some_and(|process| process != it.process) {
            return;
        }
        if it.paused {
            // Timers do not pile up in a frozen process; everything else does.
            if !matches!(incoming, Incoming::Tick | Incoming::Work) {
                it.backlog.push(incoming);
            }
            return;
        }
        let actions = it.receive(incoming, self.now);
        self.act(host, actions);
    }

    /// A frozen process goes on: what waited for it comes in any order.
    pub(super) fn resume(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].paused, false) {
            return;
        }
        let held_back = std::mem::take(&mut self.hosts[host].held_back);
        self.act(host, held_back);
        let mut backlog = std::mem::take(&mut self.hosts[host].backlog);
        while !backlog.is_empty() {
            let index = usize::try_from(self.below(backlog.len() as u64)).unwrap();
            let incoming = backlog.swap_remove(index);
            self.reach(host, None, incoming);
        }
    }

    fn act(&mut self, host: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Ask(request) => self.ask(host, request),
                Action::Say { to, message } => self.say(host, &to, &message),
                Action::SayAll(message) => {
                    for to in names() {
                        self.say(host, &to.as_str().into(), &message);
                    }
                }
                Action::Later { after, incoming } => {
                    let process = Some(self.hosts[host].process);
                    self.after(after, Event::AtHost { host, process, incoming });
                }
                Action::Exit => {
                    self.hosts[host].crash();
                    let delay = S + self.below(5 * S);
                    self.start_after(delay, host);
                    self.seen("exits");
                }
                Action::Acked { shard, seq, value, epoch, seen } => {
                    self.acked(shard, seq, value, epoch, seen);
                }
                Action::Count(what) => self.seen(what),
                Action::Broken(what) => self.store.violations.push(what),
            }
        }
    }

    /// I2: at the moment of the commit, the row named this epoch.
    fn acked(&mut self, shard: ShardId, seq: u64, value: u64, epoch: Epoch, seen: Epoch) {
        self.seen("acks");
        if epoch != seen {
            let what = format!("I2: shard {shard} entry {seq} committed under {epoch} in {seen}");
            self.store.violations.push(what);
        }
        if let Some(other) = self.acked.insert((shard, seq), value) {
            let what = format!("I4: shard {shard} entry {seq} was {other}, is {value}");
            self.store.violations.push(what);
        }
    }

    fn ask(&mut self, host: usize, request: Request) {
        let process = self.hosts[host].process;
        let delivery = self.weather.to_store(&mut self.rng, self.hosts[host].cut_off);
        if delivery.late {
            self.seen("late");
        }
        if let Some(delay) = delivery.there {
            let answer = delivery.back;
            self.after(delay, Event::AtStore { host, process, request, answer });
        }
    }

    fn say(&mut self, host: usize, to: &NodeName, message: &PeerMessage) {
        let from = self.hosts[host].name.clone();
        let Some(target) = self.hosts.iter().position(|h| h.name == *to) else { return };
        if target == host {
            return;
        }
        for delay in self.weather.to_peer(&mut self.rng, host, target) {
            let incoming = Incoming::Peer { from: from.clone(), message: message.clone() };
            self.after(delay, Event::AtHost { host: target, process: None, incoming });
        }
    }

    fn execute(&mut self, node: &NodeName, request: Request) -> Option<Incoming> {
        let store = &mut self.store;
        Some(match request {
            Request::Placement { attempt, op } => {
                Incoming::Reply { attempt, answer: store.run(&op) }
            }
            Request::ClaimFence { shard, epoch, token } => {
                Incoming::Fence { shard, fence: store.claim_fence(shard, epoch), token }
            }
            Request::Start { shard, fence, token } => {
                Incoming::Started { shard, found: store.start(shard, fence), token }
            }
            Request::Write { shard, fence, seq, entry, token } => {
                store.write(shard, fence, seq, entry);
                let epoch = store.epoch(shard);
                Incoming::Written { shard, seq, token, epoch }
            }
            Request::Barrier { shard, seq, token, inc } => {
                let (row, epoch) = (store.leases.get(node).cloned(), store.epoch(shard));
                Incoming::Barrier { shard, seq, token, inc, row, epoch }
            }
        })
    }

    /// The faults are over; what is late still comes.
    fn calm(&mut self) {
        self.weather.clear();
        for host in 0..NODES {
            self.hosts[host].cut_off = false;
            self.resume(host);
            if self.hosts[host].node.is_none() {
                self.start_after(S, host);
            }
        }
    }

    /// I6: shards that nobody serves. One that just changes hands gets a moment.
    fn unserved(&mut self) -> Vec<String> {
        let mut missing: Vec<_> = (0..SHARDS).map(ShardId).collect();
        for _ in 0..20 {
            let served = |shard| {
                let epoch = self.store.epoch(shard);
                self.hosts.iter().any(|host| host.serves(shard, epoch))
            };
            missing.retain(|shard| !served(*shard));
            self.run_until(self.now + 200 * MS);
        }
        let row = |shard| self.store.shards.get(&shard);
        missing.into_iter().map(|shard| format!("I6: nobody serves {:?}", row(shard))).collect()
    }

    fn finish(mut self) -> Report {
        let unserved = self.unserved();
        self.store.check(&self.acked);
        let mut violations = std::mem::take(&mut self.store.violations);
        violations.extend(unserved.into_iter().filter(|_| self.flaw == Flaw::None));
        Report { violations, counts: self.counts }
    }
}
