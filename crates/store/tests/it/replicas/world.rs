//! Time, chance, messages, tasks: a small executor that a seed decides.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{cluster::Replicas, process};

pub(super) const NODES: usize = 3;
/// Processes act until then; what is under way still arrives.
const UNTIL: u64 = 4_000;

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    NoBarrier,
    BarrierWithWrite,
    TailNotWrittenAgain,
    PlainLeaseRead,
    HighestFence,
    GoBack,
    NoFence,
}

/// How likely what is, each of a thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odds {
    pub(super) lost: u32,
    pub(super) late: u32,
    /// Of a step of a process.
    pub(super) stall: u32,
    pub(super) crash: u32,
    pub(super) kill: u32,
    pub(super) snapshot: u32,
    pub(super) give: u32,
    pub(super) reopen: u32,
    /// Of requests for a compare-and-set.
    pub(super) lwt_late: u32,
    /// Of what a compare-and-set tells the replicas.
    pub(super) commit_late: u32,
    /// Of what goes to the replica that is far from its node.
    pub(super) far: u32,
    /// How late a late message may be.
    pub(super) late_max: u64,
    /// An operation without an answer for so long has an unknown outcome.
    pub(super) timeout: u64,
    /// Between two steps of a process, at most.
    pub(super) pause: u64,
}

impl Odds {
    /// A bit of everything, more or less.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(!seed);
        Self {
            lost: rng.random_range(0..80),
            late: rng.random_range(0..150),
            stall: rng.random_range(0..40),
            crash: rng.random_range(0..10),
            kill: rng.random_range(0..60),
            snapshot: rng.random_range(0..100),
            give: rng.random_range(0..60),
            reopen: rng.random_range(0..60),
            lwt_late: rng.random_range(0..150),
            commit_late: rng.random_range(0..300),
            far: if rng.random_ratio(1, 2) { 0 } else { rng.random_range(0..1_000) },
            late_max: rng.random_range(30..2_000),
            timeout: rng.random_range(40..300),
            pause: rng.random_range(5..30),
        }
    }

    /// Of half the seeds anything, of the others what would bring out one of the flaws.
    pub(super) fn any(seed: u64) -> Self {
        let flaws = [
            Flaw::TailNotWrittenAgain,
            Flaw::PlainLeaseRead,
            Flaw::BarrierWithWrite,
            Flaw::GoBack,
            Flaw::HighestFence,
        ];
        let turn = usize::try_from(seed / 2).unwrap() % flaws.len();
        if seed.is_multiple_of(2) { Self::of(seed) } else { Self::against(flaws[turn], seed) }
    }

    /// Odds under which a flaw shows sooner.
    pub(super) fn against(flaw: Flaw, seed: u64) -> Self {
        let odds = Self::of(seed);
        let calm = Self { lost: 0, late: 0, stall: 0, crash: 0, give: 0, ..odds };
        // A node far from one replica has its own two, so that views stay apart for longer.
        let apart =
            Self { far: 1_000, snapshot: 0, reopen: 0, lwt_late: 0, commit_late: 0, ..calm };
        match flaw {
            Flaw::TailNotWrittenAgain => {
                let apart = Self { lost: 150, late_max: 300, timeout: 30, pause: 10, ..apart };
                Self { crash: 50, kill: 10, reopen: 100, ..apart }
            }
            Flaw::PlainLeaseRead => {
                let apart = Self { late_max: 400, timeout: 200, pause: 20, ..apart };
                Self { kill: 100, commit_late: 600, ..apart }
            }
            Flaw::BarrierWithWrite => {
                let apart = Self { late_max: 500, timeout: 600, pause: 20, ..apart };
                Self { kill: 100, late: 100, stall: 20, ..apart }
            }
            Flaw::GoBack => {
                let calm = Self { lwt_late: 300, late_max: 400, timeout: 40, ..calm };
                Self { give: 200, kill: 0, ..calm }
            }
            Flaw::HighestFence => Self { kill: 100, late: 250, ..odds },
            _ => odds,
        }
    }
}

/// What a run has shown.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) violations: Vec<String>,
    pub(super) acks: u64,
    pub(super) opens: u64,
    pub(super) snapshots: u64,
    pub(super) claims: u64,
    pub(super) moves: u64,
    pub(super) kills: u64,
    pub(super) crashes: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        self.acks += other.acks;
        self.opens += other.opens;
        self.snapshots += other.snapshots;
        self.claims += other.claims;
        self.moves += other.moves;
        self.kills += other.kills;
        self.crashes += other.crashes;
    }
}

type Message = Box<dyn FnOnce(&mut World)>;
type Task = Pin<Box<dyn Future<Output = ()>>>;

enum Action {
    Deliver(Message),
    Poll(u64),
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) flaw: Flaw,
    pub(super) odds: Odds,
    pub(super) now: u64,
    pub(super) replicas: Replicas,
    pub(super) report: Report,
    queue: BTreeMap<(u64, u64), Action>,
    count: u64,
    /// Polls of these nodes' tasks wait until then.
    pub(super) stalled: [u64; NODES],
    spawned: Vec<(usize, Task)>,
    pub(super) crashed: Vec<usize>,
}

impl World {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.rng.random_range(0..n.max(1))
    }

    /// So many times of a thousand.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.random_ratio(per_mille.min(1000), 1000)
    }

    pub(super) fn after(&mut self, delay: u64, message: impl FnOnce(&mut Self) + 'static) {
        self.count += 1;
        self.queue.insert((self.now + delay, self.count), Action::Deliver(Box::new(message)));
    }

    /// Sends a message, which may be lost or late.
    pub(super) fn send(&mut self, message: impl FnOnce(&mut Self) + 'static) {
        self.send_late(self.odds.late, message);
    }

    /// The same, with another chance to be late.
    pub(super) fn send_late(&mut self, late: u32, message: impl FnOnce(&mut Self) + 'static) {
        if self.chance(self.odds.lost) {
            return;
        }
        let late = self.chance(late);
        let most = if late { self.odds.late_max } else { 8 };
        let delay = 1 + self.below(most);
        self.after(delay, message);
    }

    fn wake(&mut self, task: u64) {
        let delay = self.below(3);
        self.count += 1;
        self.queue.insert((self.now + delay, self.count), Action::Poll(task));
    }
}

/// A handle to the world.
#[derive(Clone)]
pub(super) struct Handle {
    shared: Rc<Shared>,
    node: usize,
}

struct Shared {
    world: RefCell<World>,
    current: Cell<u64>,
}

impl Handle {
    /// The same, for what this node does.
    pub(super) fn of(&self, node: usize) -> Self {
        Self { shared: Rc::clone(&self.shared), node }
    }

    /// How often a message from here to this replica is late.
    pub(super) fn lateness(&self, odds: &Odds, replica: usize) -> u32 {
        if replica == self.node { odds.late.max(odds.far) } else { odds.late }
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.shared.world.borrow_mut())
    }

    /// Starts something that ends with its process.
    pub(super) fn spawn(&self, node: usize, task: impl Future<Output = ()> + 'static) {
        self.with(|world| world.spawned.push((node, Box::pin(task))));
    }

    pub(super) fn slot<T: 'static>(&self) -> Slot<T> {
        let state = SlotState { value: None, done: false, task: None };
        Slot { handle: self.clone(), state: Rc::new(RefCell::new(state)) }
    }

    pub(super) async fn sleep(&self, ticks: u64) {
        let slot = self.slot();
        let done = slot.clone();
        self.with(|world| world.after(ticks, move |world| done.set(world, ())));
        slot.await;
    }
}

/// A place for one answer. The first one counts, later ones are dropped.
pub(super) struct Slot<T> {
    handle: Handle,
    state: Rc<RefCell<SlotState<T>>>,
}

struct SlotState<T> {
    value: Option<T>,
    done: bool,
    task: Option<u64>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), state: Rc::clone(&self.state) }
    }
}

impl<T> Slot<T> {
    pub(super) fn set(&self, world: &mut World, value: T) {
        let mut state = self.state.borrow_mut();
        if std::mem::replace(&mut state.done, true) {
            return;
        }
        state.value = Some(value);
        if let Some(task) = state.task {
            world.wake(task);
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let mut state = self.state.borrow_mut();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.task = Some(self.handle.shared.current.get());
                Poll::Pending
            }
        }
    }
}

struct Executor {
    handle: Handle,
    tasks: HashMap<u64, (usize, Task)>,
    last: u64,
}

/// One life of a cluster with one entity.
pub(super) fn run(seed: u64, flaw: Flaw, odds: Odds) -> Report {
    let world = World {
        rng: StdRng::seed_from_u64(seed),
        flaw,
        odds,
        now: 0,
        replicas: Replicas::default(),
        report: Report::default(),
        queue: BTreeMap::new(),
        count: 0,
        stalled: [0; NODES],
        spawned: Vec::new(),
        crashed: Vec::new(),
    };
    let shared = Rc::new(Shared { world: RefCell::new(world), current: Cell::new(0) });
    let handle = Handle { shared, node: 0 };
    let mut executor = Executor { handle: handle.clone(), tasks: HashMap::new(), last: 0 };
    for node in 0..NODES {
        handle.spawn(node, process::live(handle.of(node), node));
    }
    executor.run();
    handle.with(|world| {
        world.check();
        std::mem::take(&mut world.report)
    })
}

impl Executor {
    fn run(&mut self) {
        self.adopt();
        while let Some(action) = self.next() {
            match action {
                Action::Deliver(message) => self.handle.with(message),
                Action::Poll(task) => self.poll(task),
            }
            self.adopt();
        }
    }

    /// The next thing that happens. After the end only messages do.
    fn next(&mut self) -> Option<Action> {
        self.handle.with(|world| {
            let ((at, _), action) = world.queue.pop_first()?;
            world.now = world.now.max(at);
            if world.now > UNTIL && matches!(action, Action::Poll(_)) {
                return Some(Action::Deliver(Box::new(|_| ())));
            }
            if world.count % 64 == 0 {
                world.check();
            }
            Some(action)
        })
    }

    fn poll(&mut self, id: u64) {
        let Some((node, mut task)) = self.tasks.remove(&id) else { return };
        let stalled = self.handle.with(|world| {
            if world.chance(world.odds.stall) {
                let most = [20, 100, 600][usize::try_from(world.below(3)).unwrap()];
                world.stalled[node] = world.now + world.below(most);
            }
            let until = world.stalled[node];
            if world.now < until {
                world.count += 1;
                world.queue.insert((until, world.count), Action::Poll(id));
            }
            world.now < until
        });
        self.handle.shared.current.set(id);
        let mut context = Context::from_waker(Waker::noop());
        if stalled || task.as_mut().poll(&mut context).is_pending() {
            self.tasks.insert(id, (node, task));
        }
    }

    fn adopt(&mut self) {
        let crashed = self.handle.with(|world| std::mem::take(&mut world.crashed));
        for node in crashed {
            self.tasks.retain(|_, (of, _)| *of != node);
            self.handle.with(|world| world.spawned.retain(|(of, _)| *of != node));
            self.handle.spawn(node, process::live(self.handle.of(node), node));
        }
        let spawned = self.handle.with(|world| std::mem::take(&mut world.spawned));
        for (node, task) in spawned {
            self.last += 1;
            let id = self.last;
            self.tasks.insert(id, (node, task));
            self.handle.with(|world| world.wake(id));
        }
    }
}
