//! Who becomes a device, and who does not.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use troupe_testkit::try_until;

use super::kit::{COMMANDS, Machine, invite, node, until};
use crate::node::{Home, PATIENCE};

#[tokio::test]
async fn an_invitation_is_good_once_and_for_its_cluster_alone() -> Result<()> {
    let (home, other) = (Home::new()?, Home::new()?);
    let here = node(&home).await?;
    let who = here.setup().await?;
    let there = node(&other).await?;
    let them = there.setup().await?;

    let mut first = Machine::new(None)?;
    let invited = invite(&here, &who, &json!({"name": "laptop"})).await?;
    let line = invited["url"].as_str().context("no line")?;
    let (code, out, err) = first.say(&["join", "--no-run", line]).await?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("joined") && out.contains("laptop") && out.contains("found"), "{out}");
    // Stolen, and used after the one who was meant.
    let thief = Machine::new(None)?;
    let (code, out, err) = thief.say(&["join", "--no-run", line]).await?;
    assert_eq!(code, Some(4), "{out}{err}");
    assert!(err.contains("used already") && err.contains("troupe device invite"), "{err}");
    // Of another cluster: the fingerprint is not that of this one.
    let foreign = invite(&there, &them, &json!({})).await?;
    let foreign = foreign["url"].as_str().context("no line")?;
    let token = |line: &str| line.rsplit_once('/').map(|(_, token)| token.to_owned());
    let (host, _) = line.rsplit_once('/').context("no host")?;
    let mixed = format!("{host}/{}", token(foreign).context("no token")?);
    let (code, out, err) = thief.say(&["join", "--no-run", &mixed]).await?;
    assert!(code == Some(1) || code == Some(4), "{code:?}: {out}{err}");
    // Changed by one character.
    let mut guessed = line.to_owned();
    let last = if guessed.pop() == Some('A') { 'B' } else { 'A' };
    guessed.push(last);
    let (code, ..) = thief.say(&["join", "--no-run", &guessed]).await?;
    assert!(code == Some(1) || code == Some(4), "{code:?}");
    // Nothing came of it, and it is told.
    let page = here.get("/api/v1/devices", &who).await?;
    assert_eq!(page["total"], 1, "{page}");
    let log = home.log();
    let denied = |line: &&str| line.contains("enrol_device") && line.contains("denied");
    assert!(log.lines().any(|line| denied(&line)), "{log}");
    // A second join of the same machine says what to do.
    let (code, _, err) = first.say(&["join", "--no-run", line]).await?;
    assert_eq!(code, Some(1));
    assert!(err.contains("troupe-edge leave") && err.contains("--force"), "{err}");
    // Its own certificate lets it in again.
    first.run()?;
    until(&here, &who, &page["items"][0], |view| view["status"] == "online").await?;
    Ok(())
}

/// `--restarts`: one that is killed is followed by another, and SIGTERM ends it all, also in the
/// pause between two.
#[tokio::test]
async fn a_kept_agent_comes_back_and_ends_when_it_is_told() -> Result<()> {
    let home = Home::new()?;
    let here = node(&home).await?;
    let who = here.setup().await?;
    let mut machine = Machine::new(None)?;
    let kept = ["--restarts", "9"];
    let device = machine.join_with(&here, &who, &json!({}), &kept).await?;
    for killed in 1..=3 {
        // Each of them was linked, and the ones before it are not forgotten.
        let kept = || std::fs::read_to_string(machine.dir().join("links.json")).unwrap_or_default();
        let noted = async || kept().matches("from").count() >= killed;
        ensure!(try_until(PATIENCE, noted).await, "{}", kept());
        let linked = |view: &Value| view["links"].as_array().is_some_and(|l| l.len() >= killed);
        until(&here, &who, &device, |view| view["status"] == "online" && linked(view)).await?;
        let workers = machine.children()?;
        let kill = Command::new("kill").arg("-9").args(&workers).status().await?;
        ensure!(kill.success() && workers.len() == 1, "{workers:?}");
        let noticed = || machine.log().matches("another one goes on").count() == killed;
        ensure!(try_until(PATIENCE, async || noticed()).await, "{}", machine.log());
    }
    machine.ask_to_stop().await?;
    assert_eq!(machine.ended().await?, Some(0), "{}", machine.log());
    until(&here, &who, &device, |view| view["status"] == "offline").await?;
    Ok(())
}

#[tokio::test]
async fn nobody_elses_work_runs_on_a_device() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let ann = node.setup().await?;
    let bob = node.user(&ann, "bob").await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&node, &ann).await?;
    let id = device["id"].as_str().context("no id")?;
    node.apply(&bob, COMMANDS).await?;
    let body = json!({"team_id": "sh", "message": "sh -c 'echo mine'", "device_id": id});
    let ack = node.post("/api/v1/tasks", Some(&bob), &body).await?;
    let task = ack["task_id"].as_str().context("no task")?;
    let waits = troupe_testkit::try_until(crate::node::PATIENCE, async || {
        node.task(&bob, task).await.is_ok_and(|view| view["wait"]["code"] == "no_device")
    });
    assert!(waits.await, "it waits for a device of its own");
    // Ann's does run there, named by id.
    node.apply(&ann, COMMANDS).await?;
    let ack = node.post("/api/v1/tasks", Some(&ann), &body).await?;
    let hers = ack["task_id"].as_str().context("no task")?;
    node.settled(&ann, hers, "COMPLETED").await?;
    let view = node.task(&bob, task).await?;
    assert_eq!(view["status"], "PENDING", "{view}");
    Ok(())
}
