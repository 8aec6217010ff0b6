//! The entity of these tests: a list of words in a journal, and a script of misbehaviour.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use troupe_actor::{ActorTree, TaskHandle, settle, spawn_task};
use troupe_sharding::{
    AskError, Crash, Entity, EntityContext, EntityFactory, FailedAsk, FrameSink, HostOptions,
    HostParts, HostStats, OneNode, RegisteredKind, Reply, Router, ShardHost,
};
use troupe_store::{Entry, MemoryStore, Opened, Stores};
use troupe_telemetry::TraceParent;
use troupe_types::{Clock, EntityId, EntityKind, FrameSeq, ManualClock, Seq, Timestamp, Uuid};

/// Long enough for anything that is to happen.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// The wall clock of every test at its start.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What the entities of a test share and tell.
#[derive(Debug)]
pub(crate) struct World {
    /// Activations under way or done, by entity.
    pub(crate) activations: Mutex<HashMap<EntityId, usize>>,
    /// Handlers that began, with their bodies.
    pub(crate) handled: Mutex<Vec<String>>,
    /// Where in a trace they stood.
    pub(crate) traces: Mutex<Vec<Option<TraceParent>>>,
    /// `close()` calls.
    pub(crate) closes: AtomicUsize,
    /// `drain()` calls.
    pub(crate) drains: AtomicUsize,
    /// `wake()` calls, by entity.
    pub(crate) wakes: Mutex<Vec<EntityId>>,
    /// So many activations fail from now on.
    pub(crate) fail_activations: AtomicUsize,
    /// Activations that began wait for a permit of this, if there is one.
    pub(crate) hold_activations: Mutex<Option<Arc<Semaphore>>>,
    /// So many wake-ups crash from now on.
    pub(crate) crash_wakes: AtomicUsize,
    /// Crashes left per word, for `fragile`.
    pub(crate) fragile: Mutex<HashMap<String, usize>>,
    /// `block` waits for a permit of this.
    pub(crate) gate: Semaphore,
    /// Live entities say that they are not idle.
    pub(crate) busy: AtomicBool,
    /// Most entities that were ever handling at once.
    inside: Mutex<HashMap<EntityId, usize>>,
    /// An entity handled two things at once, or was there twice.
    pub(crate) overlap: AtomicBool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            activations: Mutex::default(),
            handled: Mutex::default(),
            traces: Mutex::default(),
            closes: AtomicUsize::default(),
            drains: AtomicUsize::default(),
            wakes: Mutex::default(),
            fail_activations: AtomicUsize::default(),
            hold_activations: Mutex::default(),
            crash_wakes: AtomicUsize::default(),
            fragile: Mutex::default(),
            gate: Semaphore::new(0),
            busy: AtomicBool::default(),
            inside: Mutex::default(),
            overlap: AtomicBool::default(),
        }
    }
}

impl World {
    pub(crate) fn activations(&self, id: EntityId) -> usize {
        self.activations.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.lock().unwrap().len()
    }
}

/// Says that an activation of an entity is there.
#[derive(Debug)]
struct Presence(Arc<World>, EntityId);

impl Presence {
    fn enter(world: &Arc<World>, id: EntityId) -> Self {
        let mut inside = world.inside.lock().unwrap();
        let here = inside.entry(id).or_default();
        *here += 1;
        if *here > 1 {
            world.overlap.store(true, Ordering::SeqCst);
        }
        Self(Arc::clone(world), id)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        *self.0.inside.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

#[derive(Debug)]
pub(crate) struct CounterFactory {
    pub(crate) world: Arc<World>,
    pub(crate) kind: EntityKind,
    pub(crate) idle_for: Duration,
}

#[async_trait]
impl EntityFactory for CounterFactory {
    type Entity = Counter;

    fn kind(&self) -> EntityKind {
        self.kind
    }

    fn idle_for(&self) -> Duration {
        self.idle_for
    }

    async fn activate(&self, context: EntityContext<Internal>) -> Result<Counter, Crash> {
        *self.world.activations.lock().unwrap().entry(context.id).or_default() += 1;
        let held = self.world.hold_activations.lock().unwrap().clone();
        if let Some(held) = held {
            held.acquire().await.unwrap().forget();
        }
        let left = &self.world.fail_activations;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Crash { reason: "scripted".to_owned(), blameless: true });
        }
        let mut opened = context
            .stores
            .journal
            .open(context.id, context.epoch)
            .await
            .map_err(|error| Crash { reason: error.to_string(), blameless: true })?;
        let words = opened.tail.drain(..).map(|entry| text(&entry.body)).collect();
        let presence = Presence::enter(&self.world, context.id);
        let world = Arc::clone(&self.world);
        Ok(Counter { world, context, opened, words, held: Vec::new(), sinks: Vec::new(), presence })
    }
}

#[derive(Debug)]
pub(crate) enum Internal {
    Crash,
    Append(String),
}

#[derive(Debug)]
pub(crate) struct Counter {
    world: Arc<World>,
    context: EntityContext<Internal>,
    opened: Opened,
    words: Vec<String>,
    held: Vec<Reply>,
    sinks: Vec<FrameSink>,
    #[expect(dead_code, reason = "held for its drop")]
    presence: Presence,
}

pub(crate) fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

fn crash(blameless: bool) -> Crash {
    Crash { reason: "scripted".to_owned(), blameless }
}

impl Counter {
    /// Appends a word once; answers its place.
    async fn add(&mut self, word: &str) -> Result<usize, Crash> {
        if let Some(place) = self.words.iter().position(|w| w == word) {
            return Ok(place + 1);
        }
        let seq = Seq(self.words.len() as u64 + 1);
        let body = Bytes::from(word.to_owned());
        let entry = Entry { seq, first_frame: FrameSeq(1), frames: 0, body };
        let journal = &self.context.stores.journal;
        journal.append(&self.opened, seq, vec![entry], vec![]).await.map_err(|_| crash(true))?;
        self.words.push(word.to_owned());
        Ok(self.words.len())
    }

    fn misbehave(&mut self, verb: &str, reply: Reply) -> Result<(), Crash> {
        match verb {
            "panic" => panic!("scripted"),
            "blameless" => {
                let left = self.world.fragile.lock().unwrap().get("blameless").copied();
                if left.unwrap_or(0) > 0 {
                    let left = left.unwrap_or(0) - 1;
                    self.world.fragile.lock().unwrap().insert("blameless".to_owned(), left);
                    return Err(crash(true));
                }
                reply.ok(Bytes::from_static(b"survived"));
            }
            "answer-crash" => {
                reply.ok(Bytes::from_static(b"answered"));
                return Err(crash(false));
            }
            // Keeps the reply somewhere that outlives the activation.
            "leak-crash" => {
                let stop = self.context.stop.clone();
                spawn_task("leak", async move {
                    stop.cancelled().await;
                    drop(reply);
                });
                return Err(crash(false));
            }
            _ => return Err(crash(false)),
        }
        Ok(())
    }

    async fn run(&mut self, command: &str, reply: Reply) -> Result<(), Crash> {
        let (verb, word) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "add" => {
                let place = self.add(word).await?;
                reply.ok(Bytes::from(place.to_string()));
            }
            // Crashes as often as the script says, then adds.
            "fragile" => {
                let left = self.world.fragile.lock().unwrap().get(word).copied().unwrap_or(0);
                if left > 0 {
                    self.world.fragile.lock().unwrap().insert(word.to_owned(), left - 1);
                    if left % 2 == 0 {
                        // Committed, but nobody was told.
                        self.add(word).await?;
                    }
                    return Err(crash(false));
                }
                let place = self.add(word).await?;
                reply.ok(Bytes::from(place.to_string()));
            }
            "get" => reply.ok(Bytes::from(self.words.join(" "))),
            "crash" | "panic" | "blameless" | "answer-crash" | "leak-crash" => {
                return self.misbehave(verb, reply);
            }
            "hold" => self.held.push(reply),
            "release" => {
                for held in self.held.drain(..) {
                    held.ok(Bytes::from_static(b"released"));
                }
                reply.ok(Bytes::new());
            }
            "drop" => drop(reply),
            "refuse" => reply.refuse(FailedAsk {
                code: "no".to_owned(),
                message: "no".to_owned(),
                detail: None,
            }),
            "block" => {
                self.world.gate.acquire().await.unwrap().forget();
                reply.ok(Bytes::new());
            }
            "internal-crash" => {
                assert!(self.context.me.send(Internal::Crash));
                reply.ok(Bytes::new());
            }
            "later" => {
                assert!(self.context.me.send(Internal::Append(word.to_owned())));
                reply.ok(Bytes::new());
            }
            "frames" => {
                let batch: troupe_sharding::FrameBatch = Arc::from([]);
                self.sinks.retain(|sink| sink.offer(Arc::clone(&batch)));
                reply.ok(Bytes::from(self.sinks.len().to_string()));
            }
            "ask" => {
                let to = EntityId { kind: self.context.id.kind, id: word.parse().unwrap() };
                let router = self.context.router.clone();
                spawn_task("ask", async move {
                    match router.ask(to, Bytes::from_static(b"get"), LONG).await {
                        Ok(answer) => reply.ok(answer),
                        Err(fate) => reply.fail(fate),
                    }
                });
            }
            other => panic!("unknown command {other}"),
        }
        Ok(())
    }
}

#[async_trait]
impl Entity for Counter {
    type Internal = Internal;

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        let command = text(&body);
        self.world.handled.lock().unwrap().push(command.clone());
        self.world.traces.lock().unwrap().push(troupe_telemetry::trace::current());
        self.run(&command, reply).await
    }

    async fn subscribe(&mut self, _: Bytes, sink: FrameSink, reply: Reply) -> Result<(), Crash> {
        self.sinks.push(sink);
        reply.ok(Bytes::from(self.words.len().to_string()));
        Ok(())
    }

    async fn internal(&mut self, message: Internal) -> Result<(), Crash> {
        match message {
            Internal::Crash => Err(crash(false)),
            Internal::Append(word) => self.add(&word).await.map(|_| ()),
        }
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        self.world.wakes.lock().unwrap().push(self.context.id);
        let left = &self.world.crash_wakes;
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => Err(crash(false)),
            Err(_) => Ok(()),
        }
    }

    fn is_running(&self) -> bool {
        !self.held.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty()
            && self.sinks.iter().all(FrameSink::is_closed)
            && !self.world.busy.load(Ordering::SeqCst)
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        self.world.drains.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn close(&mut self) {
        self.world.closes.fetch_add(1, Ordering::SeqCst);
        for sink in &self.sinks {
            sink.end();
        }
    }
}

/// A host with counters of kind Task.
pub(crate) struct Fixture {
    pub(crate) host: ShardHost,
    pub(crate) router: Router,
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) stores: Stores,
}

/// Quick options: short back-offs and sweeps, no limits in the way.
pub(crate) fn quick() -> HostOptions {
    let plenty = std::num::NonZeroU32::new(1_000_000).unwrap();
    HostOptions {
        activations_per_second: plenty,
        activations_burst: plenty,
        wakes_per_second: plenty,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        sweep_every: Duration::from_millis(5),
        ..HostOptions::default()
    }
}

pub(crate) async fn start() -> Fixture {
    start_with(quick(), MemoryStore::new().stores()).await
}

pub(crate) async fn start_with(options: HostOptions, stores: Stores) -> Fixture {
    let world = Arc::new(World::default());
    let clock = Arc::new(ManualClock::at(START));
    let shared: Arc<dyn Clock> = clock.clone();
    let parts = HostParts {
        options,
        stores: stores.clone(),
        clock: Arc::clone(&shared),
        placement: Arc::new(OneNode(stores.boot_epoch)),
        router: Router::new(),
        tree: ActorTree::new(shared),
    };
    let factory = CounterFactory {
        world: Arc::clone(&world),
        kind: EntityKind::Task,
        idle_for: Duration::from_secs(120),
    };
    let kinds = vec![RegisteredKind::new(factory)];
    let (host, router) = ShardHost::start(parts, kinds).await.unwrap();
    Fixture { host, router, world, clock, stores }
}

pub(crate) fn entity(n: u128) -> EntityId {
    EntityId { kind: EntityKind::Task, id: Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) }
}

impl Fixture {
    pub(crate) async fn ask(&self, to: EntityId, command: &str) -> Result<String, AskError> {
        self.ask_within(to, command, LONG).await
    }

    pub(crate) async fn ask_within(
        &self,
        to: EntityId,
        command: &str,
        time: Duration,
    ) -> Result<String, AskError> {
        let body = Bytes::from(command.to_owned());
        self.router.ask(to, body, time).await.map(|answer| text(&answer))
    }

    /// Asks from another task.
    pub(crate) fn ask_later(
        &self,
        to: EntityId,
        command: &str,
    ) -> TaskHandle<Result<String, AskError>> {
        let (router, body) = (self.router.clone(), Bytes::from(command.to_owned()));
        spawn_task(
            "asker",
            async move { router.ask(to, body, LONG).await.map(|answer| text(&answer)) },
        )
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let came = settle(LONG, || holds(self)).await;
        assert!(came, "not in time: {what}; {:?}", self.host.stats());
    }

    pub(crate) fn stats(&self) -> HostStats {
        self.host.stats()
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.stats().kinds[&EntityKind::Task].unanswered
    }

    pub(crate) fn no_overlap(&self) {
        assert!(!self.world.overlap.load(Ordering::SeqCst), "two activations at once");
    }
}
