//! A node over a Redis that hangs, dies and comes back: it says so, and works on.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::process::{Child, Command};
use troupe_testkit::wait_until;

use crate::node::{Home, Node, NodeOptions, PATIENCE};

/// A call of the node while soft state is away; it may wait for 200 ms.
const FAST: Duration = Duration::from_secs(5);

/// A server on a socket in `dir`, for this test alone.
fn redis(dir: &Path) -> Result<Child> {
    let socket = dir.join("redis.socket");
    let _gone = std::fs::remove_file(&socket);
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--dir"]).arg(dir).arg("--unixsocket").arg(socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().context("Debian's redis-server is installed")
}

async fn signal(server: &Child, signal: &str) -> Result<()> {
    let pid = server.id().context("it runs")?;
    Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status().await?;
    Ok(())
}

/// Waits until the node says how it is, and that it takes work all the same.
async fn until(node: &Node, degraded: bool) {
    wait_until(PATIENCE, async || {
        let Ok(answer) = node.call("GET", "/ready", None, None).await else { return false };
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["status"], "ready");
        match &answer.body["message"] {
            Value::String(why) => degraded && why.contains("soft state is degraded: redis"),
            _ => !degraded,
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_works_on_without_its_redis_and_says_so() -> Result<()> {
    if std::env::var_os("TROUPE_TEST_REDIS").is_none() {
        println!("skipped: `cargo xtask test` installs a redis and sets TROUPE_TEST_REDIS");
        return Ok(());
    }
    let home = Home::new()?;
    let url = format!("unix://{}", home.path().join("redis.socket").display());
    let options =
        NodeOptions::default().env("TROUPE__REDIS__URL", url).env("TROUPE__MODELS__DEMO_PACE", 200);
    // There is none at its start, and that keeps it from nothing.
    let node = Node::start_with(&home, &options).await?;
    let admin = node.setup().await?;
    until(&node, true).await;
    node.assert_well(&admin).await?;

    let mut server = redis(home.path())?;
    until(&node, false).await;
    node.assert_well(&admin).await?;
    let task = node.run(&admin, "assistant", "Tell me all about it.").await?;
    signal(&server, "STOP").await?;
    // Nothing else is asked of it for a while: this one finds out.
    let login = tokio::time::timeout(FAST, node.login("admin")).await;
    let again = login.context("a login waits for redis")??;
    node.settled(&again, &task, "COMPLETED").await?;
    until(&node, true).await;
    node.assert_well(&admin).await?;
    signal(&server, "CONT").await?;
    until(&node, false).await;

    server.kill().await?;
    until(&node, true).await;
    node.assert_well(&admin).await?;
    let _server = redis(home.path())?;
    until(&node, false).await;
    node.assert_well(&admin).await?;
    assert!(!home.log().contains("panicked"), "{}", home.log());
    assert_eq!(node.terminate().await?, Some(0));
    Ok(())
}
