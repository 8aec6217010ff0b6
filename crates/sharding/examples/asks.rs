//! Asks per second through the Router to 10,000 entities, and what an activation costs.
//!
//! `cargo run --release -p troupe-sharding --example asks`

use std::{
    error::Error,
    fs,
    io::{Write, stdout},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;
use troupe_actor::ActorTree;
use troupe_sharding::{
    Crash, Entity, EntityContext, EntityFactory, FrameSink, HostOptions, HostParts, OneNode,
    RegisteredKind, Reply, Router, ShardHost,
};
use troupe_store::MemoryStore;
use troupe_types::{EntityId, EntityKind, SystemClock, Uuid};

const ENTITIES: u128 = 10_000;
const ASKS: u128 = 1_000_000;
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct EchoFactory;

struct Echo;

#[async_trait]
impl EntityFactory for EchoFactory {
    type Entity = Echo;

    fn kind(&self) -> EntityKind {
        EntityKind::Task
    }

    fn idle_for(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    async fn activate(&self, _: EntityContext<()>) -> Result<Echo, Crash> {
        Ok(Echo)
    }
}

#[async_trait]
impl Entity for Echo {
    type Internal = ();

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        reply.ok(body);
        Ok(())
    }

    async fn subscribe(&mut self, _: Bytes, _: FrameSink, _: Reply) -> Result<(), Crash> {
        Ok(())
    }

    async fn internal(&mut self, (): ()) -> Result<(), Crash> {
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    async fn close(&mut self) {}
}

fn entity(n: u128) -> EntityId {
    let id = Uuid::from_u128((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
    EntityId { kind: EntityKind::Task, id }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rss| rss.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// `callers` tasks ask one after the other; answers asks per second and sorted latencies.
async fn run(router: &Router, callers: u128, asks: u128) -> (f64, Vec<Duration>) {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let router = router.clone();
        tasks.spawn(async move {
            let each = asks / callers;
            let mut latencies = Vec::with_capacity(usize::try_from(each).unwrap_or(0));
            for n in 0..each {
                let to = entity((caller * each + n) % ENTITIES);
                let asked = Instant::now();
                let answer = router.ask(to, Bytes::from_static(b"hello"), TIMEOUT).await;
                latencies.push(asked.elapsed());
                assert!(answer.is_ok(), "{answer:?}");
            }
            latencies
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies.unwrap_or_default());
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    all.sort_unstable();
    (rate, all)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = SystemClock::shared();
    let plenty = NonZeroU32::new(1_000_000).unwrap_or(NonZeroU32::MIN);
    let stores = MemoryStore::new().stores();
    let parts = HostParts {
        options: HostOptions {
            activations_per_second: plenty,
            activations_burst: plenty,
            ..HostOptions::default()
        },
        placement: Arc::new(OneNode(stores.boot_epoch)),
        stores,
        clock: Arc::clone(&clock),
        router: Router::new(),
        tree: ActorTree::new(clock),
    };
    let kinds = vec![RegisteredKind::new(EchoFactory)];
    let (host, router) = ShardHost::start(parts, kinds).await?;
    let mut out = stdout();

    let before = resident_kib();
    let (rate, _) = run(&router, 64, ENTITIES).await;
    let each = (resident_kib() - before) * 1024 / 10_000;
    writeln!(out, "activation: {rate:.0}/s, {each} bytes each (Shards' actors included)")?;
    for callers in [1, 8, 64, 1_024] {
        let (rate, all) = run(&router, callers, if callers == 1 { ASKS / 10 } else { ASKS }).await;
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        let (p50, p99) = (at(0.5), at(0.99));
        writeln!(out, "{callers:>5} callers: {rate:.0} asks/s, p50 {p50:?}, p99 {p99:?}")?;
    }
    let begun = Instant::now();
    let outcome = host.drain(TIMEOUT).await;
    writeln!(out, "drain: {:?}, {outcome:?}", begun.elapsed())?;
    Ok(())
}
