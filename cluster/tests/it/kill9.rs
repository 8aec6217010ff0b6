//! kill -9 at random moments under load, again and again, on one data directory; also where it
//! takes along what was not synced, as a power failure does.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::Instant;
use troupe_testkit::{FakeModel, McpServer, try_until};

use crate::{
    load::Load,
    node::{Disk, Home, Node, NodeOptions, Rest},
    scene::{self, Pace},
};

/// Rounds unless `TROUPE_KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 10;
/// Power failures unless `TROUPE_POWER_ROUNDS` says otherwise.
const POWER_ROUNDS: u64 = 3;
/// Frames between a start and a kill.
const FRAMES: Range<usize> = 40..1_600;
/// The same where nothing is synced: a checkpoint would spoil what was on the disk before.
const FRAMES_NEVER_SYNCED: Range<usize> = 40..200;
/// Commands that are sent while the node is killed.
const BURST: usize = 5;
/// A node under load that shows nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// All that runs at the end must end by then.
const END: Duration = Duration::from_secs(180);
/// Settled Tasks and old commands that are looked at again after each kill.
const SAMPLE: usize = 10;
const PACE: Pace = Pace { words: 16, gap: Duration::from_millis(25) };

fn told(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_survives_kill_9() -> Result<()> {
    kill_often(Disk::Kernel, "TROUPE_KILL_ROUNDS", ROUNDS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_its_promises_when_the_power_fails() -> Result<()> {
    kill_often(Disk::Forgetful, "TROUPE_POWER_ROUNDS", POWER_ROUNDS).await
}

/// The checks do miss what is lost: people and Teams are on the disk, and nothing that came after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_syncs_breaks_its_promises() -> Result<()> {
    let (mut stage, node) = Stage::open(Disk::Forgetful).await?;
    assert_eq!(node.terminate().await?, Some(0));
    stage.options.disk = Disk::NeverSynced;
    let node = stage.start().await?;
    stage.until_killed(node, FRAMES_NEVER_SYNCED).await?;
    stage.options.disk = Disk::Forgetful;
    let node = stage.start().await?;
    let broken = check_round(&mut stage.load, &node.rest()).await;
    let broken = format!("{:#}", broken.expect_err("nothing was synced, and nothing is missing"));
    // Not just any trouble: what was promised is not there, or is something else.
    assert!(["404", " was ", " became "].iter().any(|loss| broken.contains(loss)), "{broken}");
    node.assert_well(&stage.load.who).await
}

async fn kill_often(disk: Disk, told_by: &str, rounds: u64) -> Result<()> {
    let rounds = told(told_by).unwrap_or(rounds);
    println!("{disk:?}: {rounds} rounds");
    let (mut stage, mut node) = Stage::open(disk).await?;
    for round in 1..=rounds {
        stage.until_killed(node, FRAMES).await.with_context(|| format!("round {round}"))?;
        let began = Instant::now();
        node = stage.start().await?;
        let up = began.elapsed().as_secs_f32();
        check_round(&mut stage.load, &node.rest())
            .await
            .with_context(|| format!("after kill {round}"))?;
        let all = began.elapsed().as_secs_f32();
        println!("round {round}: up again after {up:.1} s, checked after {all:.1} s");
    }
    finish(&mut stage.load, &node.rest()).await?;
    ask_the_doctor(&stage.load, &node.rest()).await?;
    check_effects(&stage.load, &stage.mcp)?;
    assert_eq!(node.terminate().await?, Some(0));
    Ok(())
}

/// What outlives the node: its place, its model and tools, the people and what they were told.
struct Stage {
    home: Home,
    options: NodeOptions,
    load: Load,
    mcp: McpServer,
    #[expect(dead_code, reason = "held for its drop")]
    fake: FakeModel,
}

impl Stage {
    /// A node with its people and Teams.
    async fn open(disk: Disk) -> Result<(Self, Node)> {
        let seed = told("TROUPE_KILL_SEED").unwrap_or_else(rand::random);
        println!("TROUPE_KILL_SEED={seed}");
        let fake = FakeModel::start(scene::load_script(PACE)).await?;
        let mcp = McpServer::start().await?;
        let home = Home::new()?;
        let options = NodeOptions { disk, ..NodeOptions::default() }
            .env("TROUPE__TASKS__SNAPSHOT_ENTRIES", 20);
        let node = Node::start_with(&home, &options).await?;
        let admin = node.setup().await?;
        let who = node.with_key(&admin).await?;
        let teams = scene::teams();
        let mut yaml = scene::cast(&fake, Some(&mcp.url()));
        teams.iter().for_each(|(_, team)| yaml.push_str(team));
        node.apply(&who, &yaml).await?;
        let names = teams.iter().map(|(name, _)| *name).collect();
        let load = Load::new(StdRng::seed_from_u64(seed), who, names);
        load.node_is_at(Some(&node.url));
        Ok((Self { home, options, load, mcp, fake }, node))
    }

    async fn start(&self) -> Result<Node> {
        let node = Node::start_with(&self.home, &self.options).await?;
        self.load.node_is_at(Some(&node.url));
        Ok(node)
    }

    /// Lets it work for a while, and kills it.
    async fn until_killed(&mut self, node: Node, frames: Range<usize>) -> Result<()> {
        run_for_a_while(&mut self.load, &node.rest(), frames).await?;
        kill_in_a_burst(&mut self.load, node).await
    }
}

/// Until so many frames were shown that a random number says so.
async fn run_for_a_while(load: &mut Load, rest: &Rest, frames: Range<usize>) -> Result<()> {
    let wanted = load.frames_seen() + 2 * load.rng.random_range(frames);
    let mut trouble = None;
    let reached = try_until(STUCK, async || {
        trouble = load.tend(rest).await.err();
        trouble.is_some() || load.frames_seen() >= wanted
    })
    .await;
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    ensure!(
        reached,
        "stuck at {} of {wanted} frames: {:?}",
        load.frames_seen(),
        load.statuses(rest).await
    );
    Ok(())
}

/// Kills it while commands are on their way.
async fn kill_in_a_burst(load: &mut Load, node: Node) -> Result<()> {
    let rest = node.rest();
    let acks = AtomicUsize::new(0);
    let enough = load.rng.random_range(0..=BURST);
    let killed = async {
        try_until(STUCK, async || acks.load(Ordering::Relaxed) >= enough).await;
        node.kill().await
    };
    let (_, killed) = tokio::join!(load.burst(&rest, BURST, &acks), killed);
    load.node_is_at(None);
    killed
}

async fn check_round(load: &mut Load, rest: &Rest) -> Result<()> {
    // What was not acked is sent again, and some of what was.
    let count = load.ledger.sent.len();
    let mut again: Vec<usize> = (0..count).collect();
    again = again.sample(&mut load.rng, SAMPLE).copied().collect();
    again.extend((0..count).filter(|at| load.ledger.sent[*at].ack.is_none()));
    for at in again {
        let who = load.who.clone();
        load.ledger.send(rest, &who, at).await?;
        load.look_at(at);
    }
    let old: Vec<String> = load.settled.iter().cloned().collect();
    let old: Vec<String> = old.sample(&mut load.rng, SAMPLE).cloned().collect();
    let mut tasks: Vec<String> = load.viewers.keys().cloned().collect();
    tasks.extend(old);
    for task in tasks {
        check_task(load, rest, &task).await?;
    }
    Ok(())
}

/// Checks a Task; a viewer of one that has come to rest may go.
async fn check_task(load: &mut Load, rest: &Rest, task: &str) -> Result<()> {
    let who = load.who.clone();
    let status = rest.status(&who, task).await?;
    let viewers = load.viewers.remove(task).unwrap_or_default();
    let fold = load.ledger.check(rest, &who, task, &viewers).await?;
    let over = ["COMPLETED", "FAILED", "CANCELLED"].contains(&status.as_str());
    let seen_all = viewers.iter().all(|v| v.last() == fold.head());
    if over && seen_all {
        load.settled.insert(task.to_owned());
    } else {
        load.viewers.insert(task.to_owned(), viewers);
    }
    Ok(())
}

/// Lets all that runs come to its end, then checks everything.
async fn finish(load: &mut Load, rest: &Rest) -> Result<()> {
    let mut trouble = None;
    let mut open = BTreeMap::new();
    let rested = try_until(END, async || {
        trouble = load.tend_gates(rest).await.err();
        open.clear();
        for task in load.viewers.keys() {
            match rest.status(&load.who, task).await {
                Ok(status) if !is_over(&status) => {
                    open.insert(task.clone(), status);
                }
                Ok(_) => {}
                Err(error) => trouble = Some(error),
            }
        }
        trouble.is_some() || open.is_empty()
    })
    .await;
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let mut whys = Vec::new();
    for task in open.keys() {
        whys.push(rest.get(&format!("/api/v1/tasks/{task}/why"), &load.who).await);
    }
    ensure!(rested, "these do not come to an end: {open:#?}\n{whys:#?}");
    let all: Vec<String> = load.viewers.keys().chain(&load.settled).cloned().collect();
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for task in &all {
        let heads = rest.turns(&load.who, task).await?.0;
        let viewers = load.viewers.get(task).map(Vec::as_slice).unwrap_or_default();
        let caught_up = try_until(STUCK, async || {
            viewers.iter().all(|v| v.last() >= heads || !v.faults().is_empty())
        })
        .await;
        ensure!(caught_up, "the viewers of {task} do not catch up with {heads}");
        check_task(load, rest, task).await?;
        *ends.entry(rest.status(&load.who, task).await?).or_default() += 1;
    }
    ensure!(load.viewers.is_empty(), "not all is at rest: {:?}", load.viewers.keys());
    println!("{} tasks ended as {ends:?}; {} commands", all.len(), load.ledger.sent.len());
    println!("{} attempts were lost and went on", load.ledger.went_on.len());
    ensure!(!load.ledger.went_on.is_empty(), "no kill hit an attempt: this proves nothing");
    check_list(load, rest, &all).await
}

fn is_over(status: &str) -> bool {
    ["COMPLETED", "FAILED", "CANCELLED"].contains(&status)
}

/// The list has every Task once, with its status.
async fn check_list(load: &Load, rest: &Rest, all: &[String]) -> Result<()> {
    let mut listed: BTreeMap<String, u32> = BTreeMap::new();
    let mut path = "/api/v1/tasks?limit=50".to_owned();
    loop {
        let page = rest.get(&path, &load.who).await?;
        for item in page["items"].as_array().context("a page without items")? {
            let id = item["id"].as_str().context("an item without an id")?;
            *listed.entry(id.to_owned()).or_default() += 1;
            let status = rest.status(&load.who, id).await?;
            ensure!(item["status"] == status.as_str(), "{id} is {status}, listed as {item}");
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/tasks?limit=50&cursor={next}"),
            None => break,
        }
    }
    for task in all {
        ensure!(listed.get(task) == Some(&1), "{task} is listed {:?} times", listed.get(task));
    }
    ensure!(listed.len() == all.len(), "{} are listed, {} were acked", listed.len(), all.len());
    Ok(())
}

/// The node's own doctor finds nothing broken.
async fn ask_the_doctor(load: &Load, rest: &Rest) -> Result<()> {
    let report = rest.get("/api/v1/admin/doctor", &load.who).await?;
    let checks = report["checks"].as_array().context("a report without checks")?;
    let bad: Vec<_> = checks.iter().filter(|check| check["state"] != "ok").collect();
    ensure!(bad.is_empty() && !checks.is_empty(), "the doctor finds {bad:#?}");
    println!("the doctor's {} checks went well", checks.len());
    Ok(())
}

/// No side effect took place twice.
fn check_effects(load: &Load, mcp: &McpServer) -> Result<()> {
    let mut keys: BTreeMap<String, u32> = BTreeMap::new();
    for call in mcp.calls() {
        let key = call.idempotency_key.with_context(|| format!("{} without a key", call.tool))?;
        *keys.entry(key).or_default() += 1;
    }
    println!("{} side effects, {} results shown", keys.len(), load.ledger.results_shown());
    let twice: Vec<_> = keys.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "called again: {twice:?}");
    ensure!(!keys.is_empty(), "no tool was called: this proves nothing");
    Ok(())
}
