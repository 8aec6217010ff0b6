//! Containers of Tasks, in a real Docker engine.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use troupe_testkit::{FakeModel, Gate, Rule, try_until};

use super::{
    docker::{Engine, contained, only},
    kills::{cut_in_two, goes_on},
    kit::{COMMANDS, COUNT, KEY, answer, asked, counted, last_answer, team},
    script::Script,
};
use crate::node::{Home, Node, PATIENCE};

/// A model that containers reach.
async fn everywhere(rules: Vec<Rule>) -> Result<FakeModel> {
    let at = (Ipv4Addr::UNSPECIFIED, 0).into();
    let fake = FakeModel::start_at(at, troupe_testkit::Script::rules(rules)).await?;
    fake.require_key(KEY);
    Ok(fake)
}

async fn whole_job(script: Script) -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let fake = everywhere(script.rules()).await?;
    let home = Home::new()?;
    let options = engine.options().env("TROUPE__CONTAINERS__IDLE_SECONDS", 1);
    let node = Node::start_with(&home, &options).await?;
    let who = node.setup().await?;
    let gateway = engine.opened(&home).await?;
    let url = format!(
        "http://{gateway}:{}{}",
        fake.addr().port(),
        if script.openai { "/v1" } else { "" }
    );
    node.apply(&who, &contained(&script.team(&url))).await?;
    let task = node.run(&who, "devs", "the job").await?;

    let block = asked(&node, &who, &task).await?;
    assert!(block.to_string().contains("a.txt"), "{block}");
    let device = only(&node, &who).await?;
    let name = device["name"].as_str().context("no name")?.to_owned();
    assert_eq!(device["task_id"], json!(task), "it works for this Task alone");
    let worked =
        |file: &str| engine.within(&name, &format!("cat $(find /state/workspaces -name {file})"));
    assert_ne!(worked("a.txt")?.1, "one\ntwo\n", "not before somebody allows it");
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await?, 204);
    let block = asked(&node, &who, &task).await?;
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await?, 204);
    let block = asked(&node, &who, &task).await?;
    assert_eq!(worked("a.txt")?.1, "one\ntwo\n");
    assert_eq!(worked("b.txt")?.1, "ran\n");
    assert_eq!(engine.within(&name, "find /state/workspaces -name denied.txt")?.1, "");
    // The fence: no rights, nothing to write but the workspace, no engine.
    let (_, status) = engine.within(&name, "grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/1/status")?;
    assert_eq!(status.matches("0000000000000000").count(), 2, "no capability: {status}");
    let (code, said) =
        engine.within(&name, "touch /etc/x; touch /usr/x; ls /var/run/docker.sock")?;
    assert_ne!(code, Some(0), "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    let inspected = engine.say(&["inspect", &name])?;
    let secrets = inspected.contains(KEY) || inspected.contains("troupe://");
    assert!(!secrets, "neither key nor invitation: {inspected}");

    let no = json!({"answer": "deny", "message": "not today"});
    assert_eq!(answer(&node, &who, &task, &block, no).await?, 204);
    node.settled(&who, &task, "COMPLETED").await?;
    let told = format!("{:?}", node.assert_fold(&who, &task).await?);
    assert!(last_answer(&node, &who, &task).await?.ends_with("All done."), "{told}");
    let frames = node.get(&format!("/api/v1/tasks/{task}/frames?after=0"), &who).await?.to_string();
    for shown in script.shows() {
        assert!(frames.contains(shown), "{shown}: {frames}");
    }
    assert!(frames.contains(&format!("{{\"id\":\"{name}\",\"kind\":\"container\"}}")), "{frames}");
    engine.until_count(0).await?;
    let devices = node.get("/api/v1/devices", &who).await?;
    assert_eq!(devices["items"], json!([]), "nothing of it is left");
    assert!(!(home.log() + &frames).contains(KEY));
    Ok(())
}

#[tokio::test]
async fn claude_code_works_in_a_container() -> Result<()> {
    whole_job(Script::claude_code()).await
}

#[tokio::test]
async fn codex_works_in_a_container() -> Result<()> {
    whole_job(Script::codex()).await
}

#[tokio::test]
async fn agno_works_in_a_container() -> Result<()> {
    whole_job(Script::agno()).await
}

#[tokio::test]
async fn an_agno_team_works_in_a_container() -> Result<()> {
    whole_job(Script::agno_team()).await
}

/// kill -9 of the agent within its container: another one goes on, in the session of the first.
#[tokio::test]
async fn an_agent_that_is_killed_in_its_container_goes_on() -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let gate = Gate::closed();
    let fake = everywhere(cut_in_two(&gate)).await?;
    let home = Home::new()?;
    let node = Node::start_with(&home, &engine.options()).await?;
    let who = node.setup().await?;
    let gateway = engine.opened(&home).await?;
    let url = format!("http://{gateway}:{}", fake.addr().port());
    node.apply(&who, &contained(&team("ClaudeCode", &url))).await?;
    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await?, 204);
    let asks = try_until(PATIENCE, async || fake.request_count() >= 2);
    ensure!(asks.await, "the model was not asked again");
    let device = only(&node, &who).await?;
    let name = device["name"].as_str().context("no name")?.to_owned();
    let (code, said) = engine.within(&name, "pkill -9 -f 'troupe-edge [r]un'")?;
    ensure!(code == Some(0), "the agent was not found: {said}");
    let before = fake.request_count();
    gate.open();
    node.settled(&who, &task, "COMPLETED").await?;
    let worked = engine.within(&name, "cat $(find /state/workspaces -name b.txt)")?.1;
    assert_eq!(worked, "ran\n", "what was done is not done again");
    assert!(last_answer(&node, &who, &task).await?.ends_with("All done."));
    node.assert_fold(&who, &task).await?;
    goes_on(&fake, before)
}

/// kill -9 of the node: what runs in a container goes on and is adopted; what nobody knows goes.
#[tokio::test]
async fn containers_outlive_the_node_and_strangers_go() -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let home = Home::new()?;
    let mut options = engine.options().env("TROUPE__CONTAINERS__WARM", 1);
    options.args = vec!["--edge".to_owned(), "127.0.0.1:0".to_owned()];
    let node = Node::start_with(&home, &options).await?;
    // Its door stays where it is.
    let ready = std::fs::read(home.path().join("ready.json"))?;
    let ready: serde_json::Value = serde_json::from_slice(&ready)?;
    options.args[1] = ready["edge"].as_str().context("no door")?.to_owned();
    let who = node.setup().await?;
    engine.opened(&home).await?;
    // One waits for a Task before there is any.
    let waits = || home.log().contains("a container waits for a Task");
    ensure!(try_until(PATIENCE, async || waits()).await, "none waits: {}", home.log());
    let warm = engine.containers()?;
    node.apply(&who, &contained(COMMANDS)).await?;
    let task = node.run(&who, "sh", COUNT).await?;
    let device = only(&node, &who).await?;
    assert_eq!(device["name"], json!(warm[0]), "the one that waited works");
    engine.until_count(2).await?;
    let name = warm[0].clone();
    let count = |than: u64| engine.counted_to(&name) > than;
    ensure!(try_until(PATIENCE, async || count(20)).await, "it does not count");
    node.kill().await?;
    let node = Node::start_with(&home, &options).await?;
    ensure!(try_until(PATIENCE, async || count(100)).await, "it does not count on");
    // The one that waited for a Task is nobody's now: another one takes its place.
    let replaced = try_until(PATIENCE, async || {
        let names = engine.containers().unwrap_or_default();
        names.len() == 2 && names.contains(&name)
    });
    ensure!(replaced.await, "there are {:?}", engine.containers());
    engine.let_go(&name).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let lines = counted(&last_answer(&node, &who, &task).await?)?;
    ensure!(lines >= 100, "{lines} lines");
    Ok(())
}
