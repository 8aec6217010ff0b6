//! Faults under work: kill -9 of the node, a network that goes and comes, revocation.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_testkit::{Nat, try_until};

use super::kit::{COMMANDS, COUNT, Machine, counted, is_free, last_answer, node, options, until};
use crate::node::{Home, Node, NodeOptions, PATIENCE, Person, Rest};

/// How long the network is away, unless `TROUPE_TEST_AWAY_SECONDS` says otherwise.
const AWAY_SECONDS: u64 = 20;

/// From the network's return to streaming. It takes a quarter of a second; this is for a machine
/// that is busy, and still less than any back-off would take.
const SOON: Duration = Duration::from_secs(10);

/// A node whose door has an address that outlives it.
pub(super) struct Door {
    pub(super) home: Home,
    at: SocketAddr,
    options: NodeOptions,
}

impl Door {
    async fn new() -> Result<(Self, Node)> {
        Self::with(&[]).await
    }

    /// Its door is at this address, where a machine behind a [`Router`] finds it.
    pub(super) async fn outside(at: SocketAddr) -> Result<(Self, Node)> {
        let args = vec!["--edge".to_owned(), at.to_string()];
        Self::with_options(NodeOptions { args, ..options() }).await
    }

    pub(super) async fn with(settings: &[(&str, &str)]) -> Result<(Self, Node)> {
        let options = settings.iter().fold(options(), |options, (k, v)| options.env(k, v));
        Self::with_options(options).await
    }

    async fn with_options(options: NodeOptions) -> Result<(Self, Node)> {
        let home = Home::new()?;
        let node = Node::start_with(&home, &options).await?;
        let ready = std::fs::read(home.path().join("ready.json"))?;
        let ready: Value = serde_json::from_slice(&ready)?;
        let at = ready["edge"].as_str().context("no door")?.parse()?;
        Ok((Self { home, at, options }, node))
    }

    pub(super) const fn at(&self) -> SocketAddr {
        self.at
    }

    pub(super) async fn again(&self) -> Result<Node> {
        self.again_in(self.home.data()).await
    }

    /// The same over another data directory.
    pub(super) async fn again_in(&self, data: PathBuf) -> Result<Node> {
        let mut options = NodeOptions { data: Some(data), ..self.options.clone() };
        options.args = vec!["--edge".to_owned(), self.at.to_string()];
        Node::start_with(&self.home, &options).await
    }
}

/// Counts on a machine; returns once it began.
pub(super) async fn counting(node: &Rest, who: &Person, machine: &Machine) -> Result<String> {
    node.apply(who, COMMANDS).await?;
    // A command shows 160 KiB as they come: one that counts for long counts slowly.
    let long = ["TROUPE_TEST_CUTS", "TROUPE_TEST_AWAY_SECONDS"];
    let is_long = long.iter().any(|name| std::env::var_os(name).is_some());
    let line = if is_long { COUNT.replace("0.02", "0.2") } else { COUNT.to_owned() };
    let task = node.run(who, "sh", &line).await?;
    beyond(machine, 5).await?;
    Ok(task)
}

/// Waits until the machine counted so far.
pub(super) async fn beyond(machine: &Machine, n: u64) -> Result<u64> {
    let mut now = 0;
    let counted = try_until(PATIENCE, async || {
        // Empty while it is being written.
        now = machine.worked("n").and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        now >= n.max(1)
    });
    ensure!(counted.await, "it counts no further than {now}:\n{}", machine.log());
    Ok(now)
}

/// The Task ends, and its answer is whole.
pub(super) async fn whole(node: &Rest, who: &Person, task: &str) -> Result<u64> {
    node.settled(who, task, "COMPLETED").await?;
    node.assert_fold(who, task).await?;
    counted(&last_answer(node, who, task).await?)
}

#[tokio::test]
async fn a_killed_node_finds_all_output_when_it_is_back() -> Result<()> {
    let (door, node) = Door::new().await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&node, &who).await?;
    let task = counting(&node, &who, &machine).await?;
    node.kill().await?;
    let before = beyond(&machine, 0).await?;
    beyond(&machine, before + 50).await?;
    let node = door.again().await?;
    until(&node, &who, &device, |view| view["status"] == "online").await?;
    // It still runs, and a second time while the device's last output is on its way.
    let now = beyond(&machine, 0).await?;
    machine.put_beside("n", "go")?;
    node.kill().await?;
    let node = door.again().await?;
    let counted = whole(&node, &who, &task).await?;
    ensure!(counted >= now, "{counted} of at least {now}");
    is_free(&node, &who, &device).await
}

/// A machine that counts in a Task, with a relay between it and the node.
struct Behind {
    _door: Door,
    node: Node,
    who: Person,
    nat: Nat,
    machine: Machine,
    device: Value,
    task: String,
}

impl Behind {
    async fn new() -> Result<Self> {
        let (door, node) = Door::new().await?;
        let who = node.setup().await?;
        let nat = Nat::start(door.at).await?;
        let mut machine = Machine::new(None)?;
        machine.allow_sh()?;
        let invitation = json!({"address": nat.addr().to_string()});
        let device = machine.join_at(&node, &who, &invitation).await?;
        let task = counting(&node, &who, &machine).await?;
        Ok(Self { _door: door, node, who, nat, machine, device, task })
    }
}

#[tokio::test]
async fn a_network_that_goes_and_comes_loses_nothing() -> Result<()> {
    let Behind { _door, node, who, nat, machine, device, task } = Behind::new().await?;

    // A bad network first, then one that changes its address, then half of one, then none.
    nat.lose(100);
    let now = beyond(&machine, 0).await?;
    beyond(&machine, now + 50).await?;
    nat.lose(0);
    nat.rebind();
    follows(&node, &who, &task, beyond(&machine, 0).await?).await?;
    nat.cut(false, true);
    let now = beyond(&machine, 0).await?;
    beyond(&machine, now + 50).await?;
    nat.cut(false, false);
    follows(&node, &who, &task, beyond(&machine, 0).await?).await?;
    nat.cut(true, true);
    let began = Instant::now();
    let view = until(&node, &who, &device, |view| view["status"] == "away").await?;
    assert_eq!(view["slots_used"], 1, "its work is its own: {view}");
    let away_for = Duration::from_secs(number("TROUPE_TEST_AWAY_SECONDS", AWAY_SECONDS));
    let away = try_until(2 * away_for, async || began.elapsed() >= away_for);
    ensure!(away.await, "time stands still");
    let now = beyond(&machine, 0).await?;
    nat.cut(false, false);
    let back = Instant::now();
    follows(&node, &who, &task, now).await?;
    ensure!(back.elapsed() < SOON, "it took {:?}\n{}", back.elapsed(), machine.log());
    println!("streams again {:.2} s after the network came back", back.elapsed().as_secs_f64());
    machine.put_beside("n", "go")?;
    ensure!(whole(&node, &who, &task).await? >= now);
    is_free(&node, &who, &device).await
}

/// A turn that ends while there is no network ends there and then, on the device; all of it, its
/// end included, is there soon after the network is.
#[tokio::test]
async fn a_turn_that_ends_without_a_network_arrives_with_it() -> Result<()> {
    let Behind { _door, node, who, nat, machine, device, task } = Behind::new().await?;
    nat.cut(true, true);
    let now = beyond(&machine, 0).await?;
    let now = beyond(&machine, now + 50).await?;
    machine.put_beside("n", "go")?;
    let has_ended = try_until(PATIENCE, async || {
        let Ok((Some(0), status, _)) = machine.say(&["status", "-o", "json"]).await else {
            return false;
        };
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        status["executions"][0]["state"] == "ended"
    });
    ensure!(has_ended.await, "it has not ended on the device:\n{}", machine.log());
    let view = node.get(&format!("/api/v1/tasks/{task}"), &who).await?;
    assert_eq!(view["status"], "RUNNING", "nobody else can know");
    nat.cut(false, false);
    let back = Instant::now();
    ensure!(whole(&node, &who, &task).await? >= now);
    ensure!(back.elapsed() < SOON, "it took {:?}\n{}", back.elapsed(), machine.log());
    is_free(&node, &who, &device).await
}

/// What the environment says; else `or`.
pub(super) fn number(name: &str, or: u64) -> u64 {
    let given = std::env::var_os(name);
    given.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(or)
}

/// The Task has a line.
pub(super) async fn follows(node: &Rest, who: &Person, task: &str, n: u64) -> Result<()> {
    let line = format!("line-{n}\n");
    let mut answer = String::new();
    let there = try_until(PATIENCE, async || {
        answer = last_answer(node, who, task).await.unwrap_or_else(|error| format!("{error:#}"));
        answer.contains(&line)
    });
    ensure!(there.await, "{line} is not there: {answer}");
    Ok(())
}

#[tokio::test]
async fn a_revoked_device_ends_at_once_and_its_task_says_so() -> Result<()> {
    let (door, node) = Door::new().await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&node, &who).await?;
    let task = counting(&node, &who, &machine).await?;
    let id = device["id"].as_str().context("no id")?;
    let path = format!("/api/v1/devices/{id}");
    let began = Instant::now();
    let gone = node.call("DELETE", &path, Some(&who), None).await?;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(machine.ended().await?, Some(4), "{}", machine.log());
    println!("ended {:.2} s after the revocation", began.elapsed().as_secs_f64());
    let n = machine.worked("n");
    node.settled(&who, &task, "FAILED").await?;
    let (_, turns) = node.turns(&who, &task).await?;
    assert!(json!(turns).to_string().contains("revoked"), "{turns:#?}");
    assert_eq!(machine.worked("n"), n, "nothing runs any more");
    // It stays out, also at a node that knows it from its disk alone.
    machine.run()?;
    assert_eq!(machine.ended().await?, Some(4));
    node.kill().await?;
    let node = door.again().await?;
    machine.run()?;
    assert_eq!(machine.ended().await?, Some(4), "{}", machine.log());
    // Without it there is none.
    let task = node.run(&who, "sh", "sh -c 'echo never'").await?;
    let waits = try_until(PATIENCE, async || {
        node.task(&who, &task).await.is_ok_and(|view| view["wait"]["code"] == "no_device")
    });
    ensure!(waits.await, "it does not wait for a device");
    Ok(())
}

/// A run that takes more memory than the device gives is ended, told as such, and takes nothing else
/// with it.
#[tokio::test]
async fn a_run_has_no_more_memory_than_its_device_gives() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let settings = "run-memory-mib = 64\n[commands]\nsh = \"/bin/sh\"\n";
    machine.write(".local/state/troupe-edge/edge.toml", settings)?;
    let device = machine.join(&node, &who).await?;
    let (_, status, _) = machine.say(&["status", "-o", "json"]).await?;
    let status: Value = serde_json::from_str(&status)?;
    if let Some(why) = status["runs"]["no_bounds"].as_str() {
        println!("skipped: runs have no bounds here: {why}");
        return Ok(());
    }
    node.apply(&who, COMMANDS).await?;
    let hog = "sh -c 'exec python3 -c \"x = bytearray(b\\\"x\\\") * (400 << 20)\"'";
    let task = node.run(&who, "sh", hog).await?;
    node.settled(&who, &task, "FAILED").await?;
    let (_, turns) = node.turns(&who, &task).await?;
    let told = json!(turns).to_string();
    assert!(told.contains("out of memory") && told.contains("container_oom"), "{told}");
    is_free(&node, &who, &device).await?;
    let task = node.run(&who, "sh", "sh -c 'echo still here'").await?;
    node.settled(&who, &task, "COMPLETED").await
}

#[tokio::test]
async fn what_its_policy_forbids_fails_and_says_why() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&node, &who).await?;
    node.apply(&who, COMMANDS).await?;
    for (line, word) in [("rm -rf /", "rm"), ("sh -c 'echo", "quote")] {
        let task = node.run(&who, "sh", line).await?;
        node.settled(&who, &task, "FAILED").await?;
        node.assert_fold(&who, &task).await?;
        let (_, turns) = node.turns(&who, &task).await?;
        assert!(json!(turns).to_string().contains(word), "{line}: {turns:#?}");
        is_free(&node, &who, &device).await?;
    }
    Ok(())
}
