//! Faults of the processes themselves.

use std::{collections::BTreeMap, fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use rand::RngExt as _;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use troupe_testkit::try_until;

use crate::{
    check::bounds,
    cluster::NODES,
    history::{Record, What},
    node::{Node, Which, is_there},
    place::{hub, node_address},
    proxy::udp::UdpProxy,
    stage::Stage,
};

/// With a launcher.
const CRASH: Duration = Duration::from_secs(3);
/// Without a word.
const SILENCE: Duration = Duration::from_secs(15);
/// By how much a node may grow while a peer is frozen, in KiB.
const FROZEN_KIB_MAX: u64 = 64 * 1024;
/// Where the others reach the link of a second process of one name.
const TWIN_PORT: u16 = 9_600;
/// An older process that hears of a newer one of its name ends within this.
const GIVES_UP: Duration = Duration::from_secs(30);
/// A client of a rolling restart tries for so long.
const RETRY_BUDGET: Duration = Duration::from_secs(15);

fn signal(stage: &mut Stage, node: usize, which: Which, signal: Signal) -> Result<()> {
    stage.note(format!("{} ({which:?}): {signal:?}", stage.node_name(node)));
    stage.cluster.nodes.get_mut(node).context("no such node")?.signal(which, signal)
}

async fn random_moment(stage: &mut Stage) {
    let wait = Duration::from_millis(stage.rng.random_range(0..1_500));
    stage.cluster.watch(wait).await;
}

pub(super) async fn crash(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let probes = stage.probes_of(node).await?;
    random_moment(stage).await;
    signal(stage, node, Which::Worker, Signal::KILL)?;
    let asking = stage.ask(&probes, node);
    stage.answered("fail-over", asking, CRASH).await;
    // The launcher brings it back by itself.
    let back = Instant::now();
    let node = &mut stage.cluster.nodes[node];
    let up = troupe_testkit::try_until(Duration::from_secs(60), async || {
        sleep(Duration::from_millis(100)).await;
        node.is_up()
    })
    .await;
    stage.figure(format!("back after {:.1} s", back.elapsed().as_secs_f64()), Some(up));
    Ok(())
}

pub(super) async fn crash_launcher(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let probes = stage.probes_of(node).await?;
    signal(stage, node, Which::Launcher, Signal::KILL)?;
    let asking = stage.ask(&probes, node);
    stage.answered("answers meanwhile", asking, SILENCE).await;
    let began = Instant::now();
    stage.cluster.nodes[node].gone().await?;
    stage.took("the node left", began.elapsed(), Duration::from_secs(120));
    Ok(())
}

pub(super) async fn crash_both(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let probes = stage.probes_of(node).await?;
    random_moment(stage).await;
    signal(stage, node, Which::Both, Signal::KILL)?;
    let asking = stage.ask(&probes, node);
    stage.cluster.watch(Duration::from_secs(1)).await;
    stage.answered("fail-over", asking, SILENCE).await;
    Ok(())
}

pub(super) async fn pause(stage: &mut Stage) -> Result<()> {
    for _ in 0..2 {
        let node = stage.any_owner().await?;
        let time = Duration::from_millis(stage.rng.random_range(1_000..5_000));
        let probes = stage.probes_of(node).await?;
        signal(stage, node, Which::Both, Signal::STOP)?;
        let asking = stage.ask(&probes, node);
        stage.cluster.watch(time).await;
        signal(stage, node, Which::Both, Signal::CONT)?;
        stage.answered("answers over the pause", asking, SILENCE).await;
    }
    Ok(())
}

pub(super) async fn freeze(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let probes = stage.probes_of(node).await?;
    let name = stage.node_name(node);
    let from = stage.history.now();
    let until = Instant::now() + Duration::from_secs(60);
    signal(stage, node, Which::Both, Signal::STOP)?;
    let asking = stage.ask(&probes, node);
    stage.answered("fail-over", asking, SILENCE).await;
    stage.cluster.watch_until(until).await;
    let records = stage.history.records()?;
    let growth = bounds::growth(records.iter().map(AsRef::as_ref), from..u64::MAX);
    let others = growth.iter().filter(|((node, _), _)| *node != name);
    let most = others.map(|(_, kib)| *kib).max().unwrap_or(0);
    let limit = FROZEN_KIB_MAX / 1024;
    stage.figure(
        format!("the others grew by at most {} MiB (limit {limit})", most / 1024),
        Some(most < FROZEN_KIB_MAX),
    );
    stage.keep(bounds::check(&growth, FROZEN_KIB_MAX, &name));
    signal(stage, node, Which::Both, Signal::CONT)?;
    Ok(())
}

pub(super) async fn same_name(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let probes = stage.probes_of(node).await?;
    signal(stage, node, Which::Both, Signal::STOP)?;
    let mut plan = stage.cluster.nodes[node].plan.clone();
    plan.dir = plan.dir.join("twin");
    // Beside the first one in its place: other ports, and a way for the others to the second
    // link, as what goes straight from place to place may be forbidden on this machine.
    let link = SocketAddr::from((node_address(node), 8445));
    for (name, new) in [("--http", SocketAddr::from((node_address(node), 8081))), ("--link", link)]
    {
        let at = plan.args.iter().position(|word| word == name).context("an argument")? + 1;
        plan.args[at] = new.to_string();
    }
    let door = SocketAddr::from((hub(), TWIN_PORT));
    let _door = UdpProxy::start(door, hub(), link, stage.rng.random()).await?;
    plan.args.extend(["--advertise".to_owned(), door.to_string()]);
    let mut twin = Node::new(plan);
    let asking = stage.ask(&probes, node);
    stage.note("a second process of that name starts");
    twin.start().await?;
    stage.answered("answers by whoever owns them", asking, Duration::from_secs(60)).await;
    let older = stage.cluster.nodes[node].worker();
    signal(stage, node, Which::Both, Signal::CONT)?;
    let woke = Instant::now();
    let gave_up = try_until(GIVES_UP, async || !is_there(older)).await;
    stage.took("the older process gave up", woke.elapsed(), GIVES_UP);
    ensure!(gave_up, "two processes of one name");
    // Its launcher begins another one, which must leave the name where it is.
    let winner = twin.worker();
    stage.cluster.watch(stage.span(10, 30)).await;
    ensure!(is_there(winner), "two processes of one name take it from each other");
    twin.terminate().await?;
    let back = Instant::now();
    ensure!(stage.cluster.nodes[node].comes_back().await, "the name is not taken up again");
    stage.took("the older one's successor has the name", back.elapsed(), Duration::from_secs(30));
    Ok(())
}

pub(super) async fn clock_jump(stage: &mut Stage) -> Result<()> {
    let node = stage.any_node();
    let clock = stage.plan.dir.join("clock");
    let set = |offset: &str| fs::write(&clock, offset).context("set a clock");
    set("+0")?;
    stage.note(format!("{} is started with a clock of its own", stage.node_name(node)));
    let it = &mut stage.cluster.nodes[node];
    it.terminate().await?;
    it.clock = Some(clock.clone());
    it.start().await?;
    stage.cluster.converged(Duration::from_secs(30)).await?;
    // What it had before it left comes back to it.
    stage.rest().await;
    let before = stage.cluster.witness().await?.leases().await?;
    let claims = stage.claims().await?;
    for offset in ["+3600", "-7200", "+0"] {
        stage.note(format!("its wall clock says {offset} s"));
        set(offset)?;
        stage.cluster.watch(stage.span(4, 15)).await;
    }
    let after = stage.cluster.witness().await?.leases().await?;
    let again: Vec<_> = after
        .iter()
        .filter(|(name, now)| before.get(*name).is_none_or(|b| b.inc != now.inc))
        .collect();
    let moves = stage.moves(claims).await?;
    let text = format!("{} leases lost, {moves} shards moved", again.len());
    stage.figure(text, Some(again.is_empty() && moves == 0));
    let it = &mut stage.cluster.nodes[node];
    it.terminate().await?;
    it.clock = None;
    it.start().await
}

pub(super) async fn rolling_restart(stage: &mut Stage) -> Result<()> {
    let from = stage.history.now();
    for node in 0..NODES {
        stage.note(format!("{} is restarted", stage.node_name(node)));
        let began = Instant::now();
        let it = &mut stage.cluster.nodes[node];
        it.terminate().await?;
        let left = began.elapsed();
        // An older build goes on as the newer one.
        it.plan.troupe.clone_from(&stage.plan.troupe);
        it.start().await?;
        let name = stage.node_name(node);
        stage.took(&format!("{name} left"), left, Duration::from_secs(120));
        stage.cluster.converged(Duration::from_secs(60)).await?;
    }
    let records = stage.history.records()?;
    let (most, count) = longest_command(records.iter().map(AsRef::as_ref), from);
    stage.took(&format!("longest of {count} commands"), most, RETRY_BUDGET);
    Ok(())
}

/// From the first try to the acknowledgement; commands first sent after `from`.
fn longest_command<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    from: u64,
) -> (Duration, usize) {
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut most, mut count) = (0, 0);
    for record in records.into_iter().filter(|record| record.at >= from) {
        match &record.what {
            What::Sent { key, .. } => {
                sent.entry(key).or_insert(record.at);
            }
            What::Acked { key, .. } => {
                if let Some(at) = sent.get(key.as_str()) {
                    most = most.max(record.at - at);
                    count += 1;
                }
            }
            _ => {}
        }
    }
    (Duration::from_micros(most), count)
}

pub(super) async fn crash_all(stage: &mut Stage) -> Result<()> {
    random_moment(stage).await;
    for node in 0..NODES {
        signal(stage, node, Which::Both, Signal::KILL)?;
    }
    for node in &mut stage.cluster.nodes {
        node.gone().await?;
    }
    let probes: Vec<_> = stage.probes.iter().take(8).cloned().collect();
    let asking = stage.ask(&probes, usize::MAX);
    stage.cluster.nodes.iter_mut().try_for_each(Node::spawn)?;
    try_join_all(stage.cluster.nodes.iter_mut().map(Node::wait_ready)).await?;
    stage.answered("answers again", asking, Duration::from_secs(60)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_longest_command_counts_from_its_first_try() {
        let sent = |at, key: &str| {
            let (key, node) = (key.to_owned(), "n1".to_owned());
            Record { at, what: What::Sent { key, node, verb: "say", task: None } }
        };
        let acked = |at, key: &str| {
            let (key, node, task) = (key.to_owned(), "n1".to_owned(), "tsk_a".to_owned());
            Record { at, what: What::Acked { key, node, task, body: Value::Null } }
        };
        let history = [sent(1, "a"), sent(5, "b"), sent(9, "b"), acked(20, "b"), acked(30, "a")];
        assert_eq!(longest_command(&history, 4), (Duration::from_micros(15), 1));
    }
}
