//! `troupe admin ..` against a real node.

use anyhow::{Context as _, Result};
use serde_json::Value;
use troupe_testkit::{Answer, FakeModel, Gate, Script, wait_until};

use crate::{
    cli::{Terminal, at, node},
    node::{Home, PATIENCE},
    scene::{self, team},
};

async fn json(me: &Terminal<'_>, args: &[&str]) -> Result<Value> {
    let mut all = vec!["admin"];
    all.extend(args);
    all.extend(["-o", "json"]);
    Ok(serde_json::from_str(&me.say(&all).await?.ok())?)
}

/// The doctor checks what it can, and finds nothing wrong.
async fn check_doctor(me: &Terminal<'_>) -> Result<()> {
    let doctor = json(me, &["doctor"]).await?;
    let checks = doctor["checks"].as_array().context("no checks")?;
    let names: Vec<_> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in [
        "nodes",
        "leases",
        "builds",
        "keys",
        "shards",
        "epochs",
        "placement",
        "rebalance",
        "fences",
        "activations",
        "frames",
        "endings",
        "orphans",
        "crashes",
        "queues",
        "runs",
        "wakes",
        "dead_letters",
        "store",
        "soft_state",
        "disk",
        "key_files",
        "clock",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_ne!(doctor["state"], "fail", "{doctor:#}");
    for check in checks.iter().filter(|check| check["invariant"].is_string()) {
        assert_eq!(check["state"], "ok", "{check}");
    }
    // What it cannot see it says, and does not count as well.
    let text = me.say(&["admin", "doctor"]).await?.ok();
    for invariant in ["I4", "I8", "I10", "I11"] {
        assert!(text.contains(&format!("not checked ({invariant}): ")), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_what_a_node_is_and_does() -> Result<()> {
    let gate = Gate::closed();
    let held = gate.clone();
    let script = Script::new(move |_| Answer::text("Quite so.").held_by(&held, 2));
    let fake = FakeModel::start(script).await?;
    let home = Home::new()?;
    let (node, who) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let yaml = [scene::cast(&fake, None), team("alone", "solo", &["ann"])].concat();
    std::fs::write(home.path().join("team.yaml"), yaml)?;
    me.say(&["apply", "-f", "team.yaml"]).await?.ok();

    let nodes = json(&me, &["nodes"]).await?;
    let this = &nodes["items"][0];
    assert_eq!((&this["name"], &this["is_this"]), (&"local".into(), &true.into()), "{nodes}");
    assert_eq!(this["load"]["shards"], 1_280);
    assert!(this["load"]["memory_bytes"].as_u64().unwrap_or(0) > 1_000_000, "{nodes}");
    assert!(me.say(&["admin", "nodes"]).await?.ok().contains("local*"));
    let one = node.get("/api/v1/admin/shards/7", &who).await?;
    assert_eq!((&one["shard"], &one["owner"]), (&7.into(), &"local".into()), "{one}");
    let shards = me.say(&["admin", "shards"]).await?.ok();
    let line = shards.lines().nth(1).context("no owner")?;
    assert!(line.starts_with("local") && line.contains("1280"), "{shards}");
    let all = me.say(&["admin", "shards", "--all", "-o", "name"]).await?.ok();
    assert_eq!(all.lines().count(), 1_280);

    let detached = ["run", "secret words", "--team", "alone", "--detach", "-o", "name"];
    let id = me.say(&detached).await?.ok().trim().to_owned();
    wait_until(PATIENCE, async || fake.active() == 1).await;
    let why = me.say(&["admin", "why", &id]).await?.ok();
    for part in ["running: ", "lives on local, in shard ", "is live in memory", "(run, since"] {
        assert!(why.contains(part), "{part} in {why}");
    }
    let told = json(&me, &["why", &id]).await?;
    assert_eq!((&told["node"], &told["status"]), (&"local".into(), &"RUNNING".into()), "{told}");
    assert_eq!(told["wakes"][0]["kind"], "run", "{told}");
    let tree = me.say(&["admin", "actors", "--entities"]).await?.ok();
    let shard = format!("  shard {}", told["shard"]);
    let entity = told["entity"]["entity"].as_str().context("not in memory")?;
    let below = tree.lines().skip_while(|line| !line.starts_with(&shard)).nth(1);
    assert!(below.is_some_and(|line| line.starts_with(&format!("    {entity}"))), "{tree}");
    assert!(!me.say(&["admin", "actors"]).await?.ok().contains(entity));
    let queues = json(&me, &["queues"]).await?;
    assert!(queues["kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"] == "task")));

    // What runs is not idle; begun anew it goes on by itself, as its next attempt.
    let told = me.say(&["admin", "actors", "--passivate", &id]).await?.fails(1);
    assert!(told.contains("not idle"), "{told}");
    me.say(&["admin", "actors", "--restart", &id]).await?.ok();
    gate.open();
    wait_until(PATIENCE, async || {
        node.status(&who, &id).await.is_ok_and(|status| status == "COMPLETED")
    })
    .await;
    let passivated = json(&me, &["actors", "--passivate", &id]).await?;
    assert_eq!(passivated["outcome"], "passivated", "{passivated}");

    check_doctor(&me).await?;
    let audit = me.say(&["admin", "audit"]).await?.ok();
    assert_eq!(audit.matches("passivate_entity").count(), 2, "{audit}");
    assert!(audit.contains("restart_entity") && !audit.contains("secret"), "{audit}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_has_its_exit_code_and_its_way_out() -> Result<()> {
    let home = Home::new()?;
    let (node, _) = node(&home).await?;
    let me = at(&home, &node);
    let url = me.url.clone();
    me.say(&["admin", "nodes", "--url", &url]).await?.fails(4);
    me.login().await?;
    assert!(me.say(&["admin", "dead-letters"]).await?.ok().contains("no dead letters"));
    me.say(&["admin", "dead-letters", "show", "x"]).await?.fails(3);
    me.say(&["admin", "why", "tsk_00000000000000000000000000"]).await?.fails(3);
    let told = me.say(&["admin", "drain", "local"]).await?.fails(5);
    assert!(told.contains("SIGTERM"), "{told}");
    me.say(&["admin", "drain", "nobody"]).await?.fails(3);
    me.say(&["admin", "move", "7", "nobody"]).await?.fails(5);
    me.say(&["admin", "rebalance", "pause"]).await?.fails(5);
    me.say(&["admin", "rebalance", "sideways"]).await?.fails(2);
    me.say(&["admin", "actors", "--node", "nobody"]).await?.fails(3);
    // A key file that others may read is found, and the doctor says so by its exit code.
    use std::os::unix::fs::PermissionsExt as _;
    let keys = std::fs::read_dir(home.data().join("keys"))?.next().context("no key")??.path();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644))?;
    let unwell = me.say(&["admin", "doctor", "-o", "name"]).await?;
    assert_eq!(unwell.code, Some(1), "{unwell:?}");
    assert!(unwell.out.lines().any(|line| line == "key_files"), "{unwell:?}");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600))?;
    me.say(&["admin", "doctor"]).await?.ok();

    // A user who is no administrator is told so, everywhere.
    me.pipe(&["user", "add", "bob", "--password-stdin"], "bob-password\n").await?.ok();
    let bob = Terminal { home: &Home::new()?, url: url.clone() };
    let login = ["login", &url, "--user", "bob", "--password-stdin"];
    bob.pipe(&login, "bob-password\n").await?.ok();
    for verb in ["nodes", "shards", "actors", "queues", "dead-letters", "doctor", "audit"] {
        bob.say(&["admin", verb]).await?.fails(4);
    }
    bob.say(&["admin", "why", "tsk_00000000000000000000000000"]).await?.fails(4);
    bob.say(&["admin", "drain", "local"]).await?.fails(4);
    Ok(())
}
