//! Shards that move by themselves, or by an administrator's hand, on three nodes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use troupe_testkit::try_until;

use super::members::{ALIKE, Three, servers};
use crate::{
    cli::Terminal,
    node::{Home, PATIENCE, Person, Rest},
};

/// A node reads the setting every 2 s.
const READ_WITHIN: Duration = Duration::from_secs(10);

async fn nodes(node: &Rest, who: &Person) -> Result<Value> {
    node.get("/api/v1/admin/nodes", who).await
}

/// Every node is asked itself. While the store is slow nothing moves either, and a node says that.
async fn all_say(three: &Three, who: &Person, paused: bool) -> Result<()> {
    for n in 0..three.members.len() {
        let rest = three.rest(n)?;
        let mut told = Value::Null;
        let said = try_until(READ_WITHIN, async || {
            told = nodes(&rest, who).await.unwrap_or_default();
            told["rebalance"].as_str().is_some_and(|word| (word == "paused") == paused)
        });
        ensure!(said.await, "n{n}, paused {paused}: {told}");
    }
    Ok(())
}

/// A check of the doctor, by its name.
async fn check(node: &Rest, who: &Person, name: &str) -> Result<Value> {
    let report = node.get("/api/v1/admin/doctor", who).await?;
    let checks = report["checks"].as_array().context("no checks")?;
    let found = checks.iter().find(|check| check["name"] == name);
    found.cloned().with_context(|| format!("no check {name}: {report}"))
}

/// Some work, so that there are journals to look at.
async fn work(node: &Rest, who: &Person) -> Result<()> {
    let body = json!({"team_id": "assistant", "message": "Are you well?",
        "force_override_bot_model": "demo"});
    let ack = node.post("/api/v1/tasks", Some(who), &body).await?;
    node.settled(who, ack["task_id"].as_str().context("no task")?, "COMPLETED").await
}

/// The pause is the cluster's: every node has it, a node that starts again has it from its start,
/// and it is known whose it is.
#[tokio::test]
async fn rebalancing_stays_paused_for_all_until_somebody_resumes_it() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let mut three = Three::start(servers, ALIKE).await?;
    let who = three.setup().await?;
    let (home, first) = (Home::new()?, three.rest(0)?);
    let me = Terminal { home: &home, url: first.url.clone() };
    me.login().await?;
    assert!(nodes(&first, &who).await?["rebalance_setting"].is_null(), "nobody decided anything");
    work(&first, &who).await?;
    for name in ["fences", "activations", "frames", "endings", "orphans", "rebalance"] {
        let found = check(&first, &who, name).await?;
        assert_eq!(found["state"], "ok", "{found}");
    }

    me.say(&["admin", "rebalance", "pause"]).await?.ok();
    all_say(&three, &who, true).await?;
    let told = nodes(&three.rest(2)?, &who).await?;
    let setting = &told["rebalance_setting"];
    assert_eq!((&setting["paused"], &setting["user_name"]), (&json!(true), &json!("admin")));
    for verb in ["nodes", "shards"] {
        let text = me.say(&["admin", verb]).await?.ok();
        assert!(text.contains("paused by admin at 20"), "{verb}: {text}");
    }

    three.lose(1).await?;
    three.again(1).await?;
    let told = nodes(&three.rest(1)?, &who).await?;
    assert_eq!(told["rebalance"], "paused", "it was not there when it was said: {told}");
    assert_eq!(&told["rebalance_setting"], setting, "{told}");
    let found = check(&first, &who, "rebalance").await?;
    assert!(found["found"].as_str().is_some_and(|f| f.starts_with("paused on")), "{found}");

    let resume = json!({"action": "resume"});
    three.rest(1)?.post("/api/v1/admin/rebalance", Some(&who), &resume).await?;
    all_say(&three, &who, false).await?;
    let audit = me.say(&["admin", "audit"]).await?.ok();
    let audited: Vec<&str> = audit.lines().filter(|line| line.contains("rebalance")).collect();
    assert_eq!(audited.len(), 2, "{audit}");
    assert!(audited[0].contains("resume") && audited[1].contains("pause"), "{audit}");
    Ok(())
}

/// A shard that this node owns and should own, so that it rests.
async fn a_shard_of(node: &Rest, who: &Person, owner: &str) -> Result<String> {
    let mut found = None;
    let owned = try_until(PATIENCE, async || {
        let shards = node.get("/api/v1/admin/shards", who).await.unwrap_or_default();
        let shards = shards["items"].as_array().cloned().unwrap_or_default();
        let rests = |s: &Value| s["owner"] == owner && s["preferred"] == owner;
        found = shards.into_iter().find(rests);
        found.is_some()
    });
    ensure!(owned.await, "{owner} owns nothing");
    Ok(found.context("no shard")?["shard"].to_string())
}

#[tokio::test]
async fn an_order_to_move_says_what_became_of_it() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let mut three = Three::start(servers, ALIKE).await?;
    let who = three.setup().await?;
    let (home, first) = (Home::new()?, three.rest(0)?);
    let me = Terminal { home: &home, url: first.url.clone() };
    me.login().await?;
    // What is moved by hand must not go back meanwhile.
    me.say(&["admin", "rebalance", "pause"]).await?.ok();
    all_say(&three, &who, true).await?;
    let shard = a_shard_of(&first, &who, "n2").await?;

    let wait = ["admin", "move", &shard, "n1", "--wait", "-o", "json"];
    let moved: Value = serde_json::from_str(&me.say(&wait).await?.ok())?;
    assert_eq!((&moved["outcome"], &moved["from"]), (&json!("moved"), &json!("n2")), "{moved}");
    let path = format!("/api/v1/admin/shards/{shard}");
    for n in 0..3 {
        let seen = three.rest(n)?.get(&path, &who).await?;
        assert_eq!(seen["owner"], "n1", "n{n} asks who knows: {seen}");
    }
    let again = ["admin", "move", &shard, "n1", "-o", "json"];
    let again: Value = serde_json::from_str(&me.say(&again).await?.ok())?;
    assert_eq!(again["outcome"], "already_there", "{again}");
    let begun = ["admin", "move", &shard, "n0", "-o", "json"];
    let begun: Value = serde_json::from_str(&me.say(&begun).await?.ok())?;
    assert_eq!((&begun["outcome"], &begun["from"]), (&json!("begun"), &json!("n1")), "{begun}");
    me.say(&["admin", "move", &shard, "n0", "--wait"]).await?.ok();

    me.say(&["admin", "move", &shard, "nobody"]).await?.fails(3);
    three.lose(2).await?;
    // Begun or not: a node that is gone does not get it, and nobody has to look twice.
    let lost = me.say(&["admin", "move", &shard, "n2", "--wait"]).await?;
    assert!(matches!(lost.code, Some(1 | 5)), "{lost:?}");
    let found = check(&first, &who, "activations").await?;
    let words = found["found"].as_str().unwrap_or_default();
    assert!(found["state"] == "warn" && words.contains("not checked on n2"), "{found}");
    let body = json!({"to": "n2"});
    let mut answer = Value::Null;
    let refused = try_until(PATIENCE, async || {
        let told = first.call("POST", &format!("{path}/move"), Some(&who), Some(&body)).await;
        answer = told.map_or(Value::Null, |told| told.body);
        answer["code"] == "node_dead"
    });
    ensure!(refused.await, "{answer}");
    assert_eq!(first.get(&path, &who).await?["owner"], "n0", "it stayed where it was");
    Ok(())
}
