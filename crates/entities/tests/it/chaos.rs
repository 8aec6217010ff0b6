//! Random commands, failed appends and restarts: whatever was told stays, and nothing is told
//! twice. A failure names its seed.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet};
use troupe_domain::task::{
    Ack, CollaborationModel, Command, QueueEdit, SendAck, TeamPlan, Transcript,
};
use troupe_entities::{
    TaskAddress, TaskOptions,
    task::{SubscribeReply, TaskError},
};
use troupe_sharding::{AskError, Router, StreamItem};
use troupe_store::{MemoryStore, memory::ScriptedFailure};
use troupe_testkit::{try_until, wait_until};
use troupe_types::{Frame, FrameBody, FrameSeq, Status, TaskId, Uuid};

use crate::host::{Host, PATIENCE, all_frames, first, is_over, member, message, team, wake_rows};

const STEPS: usize = 30;
/// Longest wait for the frames that a step waits for.
const SOON: Duration = Duration::from_millis(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_stays_whatever_fails_0() {
    run_all(0..5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_stays_whatever_fails_1() {
    run_all(5..10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_stays_whatever_fails_2() {
    run_all(10..15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_stays_whatever_fails_3() {
    run_all(15..20).await;
}

async fn run_all(seeds: Range<u64>) {
    for seed in seeds {
        // A panic inside a library names no seed.
        tracing::warn!(seed, "next");
        run(seed).await;
    }
}

/// What one Task was asked, and what it said.
struct Talk {
    task: TaskId,
    plan: Arc<TeamPlan>,
    created: bool,
    keys: u128,
    /// Sent, and not yet answered for certain.
    open: BTreeMap<u128, Command>,
    acked: BTreeMap<u128, (Command, SendAck)>,
    refused: Vec<u128>,
}

struct World {
    seed: u64,
    rng: StdRng,
    store: MemoryStore,
    host: Host,
    router: watch::Sender<Router>,
    told: Arc<Told>,
    talks: Vec<Talk>,
}

fn options() -> TaskOptions {
    TaskOptions {
        snapshot_entries: 40,
        idle_for: Duration::from_millis(50),
        ..TaskOptions::default()
    }
}

async fn run(seed: u64) {
    let store = MemoryStore::new();
    let host = Host::start_busy(&store.stores(), options()).await;
    let router = watch::Sender::new(host.router.clone());
    let (rng, told) = (StdRng::seed_from_u64(seed), Arc::new(Told::default()));
    let talks = talks(seed);
    let mut world = World { seed, rng, store, host, router, told, talks };
    let mut followers = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    for talk in &world.talks {
        let (router, stopped) = (world.router.subscribe(), stopped.clone());
        let task = talk.task;
        let told = Arc::clone(&world.told);
        followers.spawn(async move { (task, follow(task, router, stopped, &told).await) });
    }
    for _ in 0..STEPS {
        world.step().await;
    }
    world.settle().await;
    world.restart(false).await;
    world.settle().await;
    world.check().await;
    world.all_told().await;
    stop.send_replace(true);
    while let Some(end) = followers.join_next().await {
        let (task, seen) = end.expect("a follower does not panic");
        if seen.is_empty() {
            continue;
        }
        let stored = all_frames(&world.host.task(task)).await;
        assert_eq!(seen, stored, "seed {seed}: followers saw what is stored");
    }
    world.host.drain().await;
}

fn talks(seed: u64) -> Vec<Talk> {
    use CollaborationModel::{Collaborate, Coordinate, Pipeline, Route, Solo};
    let models = [Solo, Pipeline, Route, Coordinate, Collaborate];
    let talk = |(n, model): (u128, CollaborationModel)| {
        let mut members = vec![member("lead"), member("left"), member("right")];
        members[0].require_confirmation = model == Pipeline;
        let keys = (u128::from(seed) << 32) | (n << 16);
        Talk {
            task: first(&team(model, members.clone()), keys, "").0,
            plan: team(model, members),
            created: false,
            keys,
            open: BTreeMap::new(),
            acked: BTreeMap::new(),
            refused: Vec::new(),
        }
    };
    (0..).zip(models).map(talk).collect()
}

/// Everything that a follower is told, over all its streams.
async fn follow(
    task: TaskId,
    mut router: watch::Receiver<Router>,
    mut stopped: watch::Receiver<bool>,
    told: &Told,
) -> Vec<Frame> {
    let mut seen: Vec<Frame> = Vec::new();
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    while !*stopped.borrow() {
        let address = TaskAddress::new(router.borrow_and_update().clone(), task);
        let after = seen.last().map_or(FrameSeq::ZERO, |f| f.seq);
        match address.subscribe(after).await {
            Ok((SubscribeReply { following: true, .. }, mut stream)) => loop {
                tokio::select! {
                    item = stream.recv() => match item {
                        Some(StreamItem::Frames(batch)) => {
                            take(&mut seen, &batch);
                            told.note(task, &seen);
                        }
                        _ => break,
                    },
                    _ = stopped.changed() => return seen,
                    // The process is gone without a word, as in a real crash.
                    _ = router.changed() => break,
                }
            },
            Ok(_) => {
                if let Ok(frames) = address.raw_frames(after, 2_000).await {
                    take(&mut seen, &frames);
                    told.note(task, &seen);
                }
            }
            Err(_) => {}
        }
        pause.tick().await;
    }
    seen
}

fn take(seen: &mut Vec<Frame>, frames: &[Frame]) {
    for frame in frames {
        let next = seen.last().map_or(FrameSeq(1), |f| f.seq.next());
        assert_eq!(frame.seq, next, "a follower sees every frame once, in order");
        seen.push(frame.clone());
    }
}

/// How far each follower is.
#[derive(Default)]
struct Told(Mutex<BTreeMap<TaskId, FrameSeq>>);

impl Told {
    fn note(&self, task: TaskId, seen: &[Frame]) {
        let last = seen.last().map_or(FrameSeq::ZERO, |f| f.seq);
        self.0.lock().unwrap().insert(task, last);
    }

    /// Of all followers.
    fn frames(&self) -> u64 {
        self.0.lock().unwrap().values().map(|seq| seq.0).sum()
    }
}

impl World {
    /// Who follows is told everything at last.
    async fn all_told(&self) {
        for talk in self.talks.iter().filter(|t| t.created) {
            let head = self.host.task(talk.task).view().await.unwrap().head;
            let all = async || self.told.0.lock().unwrap().get(&talk.task) == Some(&head);
            assert!(try_until(PATIENCE, all).await, "seed {}: a follower waits", self.seed);
        }
    }

    async fn step(&mut self) {
        let which = self.rng.random_range(0..self.talks.len());
        match self.rng.random_range(0..100u32) {
            0..45 => self.send_new(which).await,
            45..52 => self.other(which, Command::Cancel).await,
            52..58 => self.other(which, Command::Queue(QueueEdit::Resume)).await,
            58..66 => self.retry(which).await,
            66..72 => {
                let key = Uuid::from_u128(self.rng.random());
                let _ = self.host.task(self.talks[which].task).confirm(key, None).await;
            }
            72..90 => {
                let failure = match self.rng.random_range(0..4u32) {
                    0 => ScriptedFailure::Full,
                    1 => ScriptedFailure::Unavailable,
                    n => ScriptedFailure::OutcomeUnknown { written: n == 2 },
                };
                self.store.fail_next_append(failure);
            }
            90..95 => self.restart(true).await,
            _ => self.restart(false).await,
        }
        // The next thing happens some frames later, or soon if none come.
        let (frames, before) = (self.rng.random_range(0..12), self.told.frames());
        try_until(SOON, async || self.told.frames() >= before + frames).await;
    }

    async fn send_new(&mut self, which: usize) {
        let chunks = self.rng.random_range(1..60u32);
        let pace = [0, 0, 400][self.rng.random_range(0..3usize)];
        let fail = if self.rng.random_bool(0.1) { " fail=invalid_parameter" } else { "" };
        let talk = &mut self.talks[which];
        talk.keys += 1;
        let key = talk.keys;
        let text = format!("[[demo chunks={chunks} size=6 pace={pace}{fail}]] number {key}");
        let create = match first(&talk.plan, talk.keys, &text).1 {
            Command::Send(mut send) => send.create.take().map(|c| {
                let task = talk.task;
                troupe_domain::task::CreateTask { task, ..c }
            }),
            _ => None,
        };
        let command = message(&talk.plan, key, &text, create.filter(|_| !talk.created));
        talk.open.insert(key, command);
        self.deliver(which, key).await;
    }

    /// Sends what is open under a key; keeps it open unless the answer is certain.
    async fn deliver(&mut self, which: usize, key: u128) {
        let Self { host, talks, seed, .. } = self;
        let talk = &mut talks[which];
        let Some(command) = talk.open.get(&key).cloned() else { return };
        match host.task(talk.task).command(command.clone()).await {
            Ok(Ack::Sent(ack)) => {
                talk.created = true;
                talk.open.remove(&key);
                talk.acked.insert(key, (command, ack));
            }
            Ok(other) => panic!("seed {seed}: not an answer to a message: {other:?}"),
            Err(TaskError::Refused(_)) => {
                talk.open.remove(&key);
                talk.refused.push(key);
            }
            Err(TaskError::Ask(AskError::Failed(why))) if why.code != "store" => {
                panic!("seed {seed}: {why:?}");
            }
            Err(TaskError::Ask(_)) => {}
            Err(TaskError::Protocol) => panic!("seed {seed}: a senseless answer"),
        }
    }

    async fn other(&self, which: usize, command: Command) {
        // Refused or not, with or without a known outcome: all of that may be.
        let _ = self.host.task(self.talks[which].task).command(command).await;
    }

    async fn retry(&self, which: usize) {
        let address = self.host.task(self.talks[which].task);
        let Ok(joined) = address.join(1, None).await else { return };
        let rows = joined.turns.iter().flat_map(|t| &t.messages);
        let failed = |s| matches!(s, Status::Failed | Status::Cancelled);
        if let Some(row) = rows.rev().find(|m| failed(m.status)) {
            let message = row.message;
            let _ = address.command(Command::Retry { message, plan: None }).await;
        }
    }

    /// Another process over the same rows; the old one drains, or is gone at once.
    async fn restart(&mut self, drain: bool) {
        let store = self.store.restart();
        if drain {
            let old = std::mem::replace(
                &mut self.host,
                Host::start_busy(&store.stores(), options()).await,
            );
            self.router.send_replace(self.host.router.clone());
            old.drain().await;
        } else {
            self.host = Host::start_busy(&store.stores(), options()).await;
            self.router.send_replace(self.host.router.clone());
        }
        self.store = store;
    }

    /// All is answered, and every Task comes to rest by itself.
    async fn settle(&mut self) {
        for which in 0..self.talks.len() {
            let answered = try_until(PATIENCE, async || {
                if let Some(key) = self.talks[which].open.keys().next().copied() {
                    self.deliver(which, key).await;
                }
                self.talks[which].open.is_empty()
            });
            assert!(answered.await, "seed {}: nobody answers", self.seed);
            let Talk { task, created, .. } = &self.talks[which];
            let address = self.host.task(*task);
            let rests = try_until(PATIENCE, async || {
                !created || address.view().await.is_ok_and(|v| is_over(v.status))
            })
            .await;
            assert!(
                rests,
                "seed {}: {:?} {:?}",
                self.seed,
                address.view().await,
                address.why().await
            );
        }
    }

    async fn check(&self) {
        let seed = self.seed;
        let stores = self.store.stores();
        for talk in self.talks.iter().filter(|t| t.created) {
            let address = self.host.task(talk.task);
            let frames = all_frames(&address).await;
            let joined = address.join(100_000, None).await.expect("it is there");
            assert_eq!(Transcript::of(&frames).into_turns(), joined.turns, "seed {seed}");
            assert_eq!(joined.head, frames.last().expect("frames").seq, "seed {seed}");
            for (key, (command, ack)) in &talk.acked {
                let wanted = Some(Uuid::from_u128(*key));
                let said = frames.iter().filter(
                    |f| matches!(&f.body, FrameBody::Message(m) if m.client_message_id == wanted),
                );
                let waits = joined.task.queue.iter().filter(|q| q.client_message_id == wanted);
                assert_eq!(said.count() + waits.count(), 1, "seed {seed}: key {key}");
                let again = address.command(command.clone()).await;
                assert_eq!(again, Ok(Ack::Sent(ack.clone())), "seed {seed}");
            }
            let refused = talk.refused.iter().map(|key| Some(Uuid::from_u128(*key)));
            for key in refused {
                let said = frames.iter().any(
                    |f| matches!(&f.body, FrameBody::Message(m) if m.client_message_id == key),
                );
                assert!(!said, "seed {seed}: a refused message was said");
            }
            let word = serde_json::to_value(joined.task.status).unwrap();
            wait_until(PATIENCE, async || {
                let rows = stores.projections.get_tasks(&[talk.task]).await.unwrap();
                rows.first().is_some_and(|row| word == row.status.as_str())
            })
            .await;
        }
        let gone = try_until(PATIENCE, async || wake_rows(&stores).await == 0).await;
        assert!(gone, "seed {seed}: wake rows stay though nothing is to do");
    }
}
