//! What goes wrong in the model, and how.

use rand::{RngExt, rngs::StdRng};
use troupe_types::{NodeName, ShardId};

use super::{
    host::{Incoming, names},
    sim::{MS, NODES, S, SHARDS, Sim},
};

/// What becomes of a request.
#[derive(Debug)]
pub(super) struct Delivery {
    /// When it is done, if ever.
    pub(super) there: Option<u64>,
    /// How long the answer takes after that, if it comes.
    pub(super) back: Option<u64>,
    pub(super) late: bool,
}

/// How the store and the network do.
#[derive(Debug)]
pub(super) struct Weather {
    /// How often a request or an answer is lost, or is very late.
    lossy: f64,
    store_down: bool,
    /// Every answer of the store takes so long.
    store_slow: u64,
    cut: [[bool; NODES]; NODES],
    calm: bool,
}

impl Weather {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let lossy = if rng.random_bool(0.3) { 0.0 } else { rng.random_range(0.0..0.06) };
        let cut = Default::default();
        Self { lossy, store_down: false, store_slow: 0, cut, calm: false }
    }

    pub(super) fn clear(&mut self) {
        *self = Self {
            lossy: 0.0,
            store_down: false,
            store_slow: 0,
            cut: Default::default(),
            calm: true,
        };
    }

    pub(super) fn to_store(&self, rng: &mut StdRng, cut_off: bool) -> Delivery {
        let mut there = Some(rng.random_range(MS / 5..8 * MS));
        let mut back = Some(rng.random_range(MS / 5..8 * MS));
        let mut late = false;
        if self.store_slow > 0 {
            let delay = rng.random_range(self.store_slow / 2..self.store_slow);
            if rng.random_bool(0.5) {
                there = there.map(|d| d + delay);
            } else {
                back = back.map(|d| d + delay);
            }
        }
        let blocked = self.store_down || cut_off;
        if blocked || rng.random_bool(self.lossy) {
            // It may be done now, later, much later or never; nobody hears of it, or too late.
            match rng.random_range(0..if blocked { 8 } else { 5 }) {
                0 => back = None,
                1 => (there, late) = (Some(rng.random_range(S..4 * S)), true),
                2 => (there, back, late) = (Some(rng.random_range(2 * S..40 * S)), None, true),
                3 => back = Some(rng.random_range(S..20 * S)),
                _ => there = None,
            }
        }
        Delivery { there, back, late }
    }

    /// When copies of a message arrive.
    pub(super) fn to_peer(&self, rng: &mut StdRng, from: usize, to: usize) -> Vec<u64> {
        let soon = rng.random_range(MS / 5..5 * MS);
        if self.cut[from][to] {
            return Vec::new();
        }
        if self.calm || !rng.random_bool(self.lossy) {
            return vec![soon];
        }
        match rng.random_range(0..3) {
            0 => Vec::new(),
            1 => vec![soon, rng.random_range(MS..10 * S)],
            _ => vec![rng.random_range(100 * MS..15 * S)],
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// SIGSTOP.
    Freeze(usize),
    /// A node does not reach the store, or hears nothing from it.
    CutOff(usize),
    /// Nobody reaches it.
    StoreDown,
    StoreSlow,
    /// One direction between two nodes.
    Cut(usize, usize),
}

impl Fault {
    /// Something goes wrong now.
    pub(super) fn strike(sim: &mut Sim) {
        let host = usize::try_from(sim.below(NODES as u64)).unwrap();
        let other = usize::try_from(sim.below(NODES as u64)).unwrap();
        match sim.below(11) {
            0 | 1 => {
                let now = sim.now;
                sim.hosts[host].freeze(now);
                let long = [3 * S, 9 * S, 16 * S, 60 * S][usize::try_from(sim.below(4)).unwrap()];
                let duration = sim.below(long);
                sim.over_after(duration, Self::Freeze(host));
                sim.seen("freezes");
            }
            2 => {
                sim.hosts[host].crash();
                let delay = sim.below(20 * S);
                sim.start_after(delay, host);
                sim.seen("crashes");
            }
            3 => {
                sim.hosts[host].cut_off = true;
                let duration = sim.below(25 * S);
                sim.over_after(duration, Self::CutOff(host));
            }
            4 if sim.chance(0.4) => {
                sim.weather.store_down = true;
                let duration = sim.below(20 * S);
                sim.over_after(duration, Self::StoreDown);
            }
            5 => {
                let most = if sim.chance(0.7) { 1_500 * MS } else { 4 * S };
                sim.weather.store_slow = 300 * MS + sim.below(most);
                let duration = sim.below(15 * S);
                sim.over_after(duration, Self::StoreSlow);
            }
            6 => {
                sim.weather.cut[host][other] = true;
                let duration = sim.below(20 * S);
                sim.over_after(duration, Self::Cut(host, other));
                if sim.chance(0.5) {
                    sim.weather.cut[other][host] = true;
                    sim.over_after(duration, Self::Cut(other, host));
                }
            }
            7 => {
                // A little, as clocks do; or much more than any clock should.
                let rate = if sim.chance(0.7) { 0.99..1.01 } else { 0.5..2.0 };
                let rate = sim.rng.random_range(rate);
                let now = sim.now;
                sim.hosts[host].drift(now, rate);
            }
            8 => sim.tell(host, Incoming::Leave),
            _ => {
                for _ in 0..4 {
                    let shard = ShardId(sim.rng.random_range(0..SHARDS));
                    let to: NodeName = names()[other].as_str().into();
                    for host in 0..NODES {
                        let incoming = Incoming::Move { shard, to: NodeName::clone(&to) };
                        sim.tell(host, incoming);
                    }
                }
            }
        }
    }

    pub(super) fn end(self, sim: &mut Sim) {
        match self {
            Self::Freeze(host) => sim.resume(host),
            Self::CutOff(host) => sim.hosts[host].cut_off = false,
            Self::StoreDown => sim.weather.store_down = false,
            Self::StoreSlow => sim.weather.store_slow = 0,
            Self::Cut(from, to) => sim.weather.cut[from][to] = false,
        }
    }
}
