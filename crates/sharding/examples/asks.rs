//! Asks per second through the Router to 10,000 entities, and what an activation costs.
//!
//! `cargo run --release -p troupe-sharding --example asks`

use std::{
    error::Error,
    fs,
    io::{Write, stdout},
    num::NonZeroU32,
    sync::Arc,
    time::Instant,
};

use troupe_actor::ActorTree;
use troupe_sharding::{HostOptions, HostParts, OneNode, RegisteredKind, Router, ShardHost};
use troupe_store::MemoryStore;
use troupe_types::SystemClock;

#[path = "parts/echo.rs"]
mod echo;
use echo::{ENTITIES, EchoFactory, TIMEOUT, run};

const ASKS: u128 = 1_000_000;

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rss| rss.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
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
