//! A machine whose network lets no UDP through, and one whose network does.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use troupe_link::TcpRelay;
use troupe_testkit::try_until;

use super::{
    faults::{beyond, counting, follows, whole},
    kit::{Machine, is_free, node, until},
};
use crate::node::{Home, PATIENCE};

/// What the agent says that its link is.
async fn link(machine: &Machine) -> Result<Value> {
    let mut link = Value::Null;
    let up = try_until(PATIENCE, async || {
        let Ok((Some(0), out, _)) = machine.say(&["status", "-o", "json"]).await else {
            return false;
        };
        link = serde_json::from_str::<Value>(&out).unwrap_or_default()["link"].clone();
        link["state"] == "connected" && link["rtt_ms"].is_number()
    });
    ensure!(up.await, "no link: {link}\n{}", machine.log());
    Ok(link)
}

fn door(home: &Home) -> Result<SocketAddr> {
    let ready: Value = serde_json::from_slice(&std::fs::read(home.path().join("ready.json"))?)?;
    Ok(ready["edge"].as_str().context("no door")?.parse()?)
}

#[tokio::test]
async fn a_machine_without_udp_joins_works_and_loses_nothing() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    // Nobody takes datagrams at its port.
    let relay = TcpRelay::before(door(&home)?).await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let invitation = json!({"address": relay.addr().to_string()});
    let device = machine.join_at(&node, &who, &invitation).await?;
    assert_eq!(link(&machine).await?["carrier"], "websocket", "{}", machine.log());
    let task = counting(&node, &who, &machine).await?;
    follows(&node, &who, &task, beyond(&machine, 0).await?).await?;

    // Broken off, again and again: each time it comes back by itself.
    for _ in 0..5 {
        let before = relay.accepted();
        relay.break_off();
        let back = try_until(PATIENCE, async || relay.accepted() > before).await;
        ensure!(back, "it does not come back\n{}", machine.log());
        let now = beyond(&machine, 0).await?;
        follows(&node, &who, &task, now).await.with_context(|| machine.log())?;
    }
    // A network that says nothing is noticed, on both sides, and what was made meanwhile arrives.
    relay.cut(true);
    until(&node, &who, &device, |view| view["status"] == "away").await?;
    let now = beyond(&machine, 0).await?;
    let now = beyond(&machine, now + 50).await?;
    relay.cut(false);
    follows(&node, &who, &task, now).await.with_context(|| machine.log())?;
    let (code, out, err) = machine.say(&["doctor"]).await?;
    assert!(out.contains("over websocket") && out.contains("UDP"), "{code:?}: {out}{err}");

    machine.put_beside("n", "go")?;
    ensure!(whole(&node, &who, &task).await? >= now);
    is_free(&node, &who, &device).await
}

#[tokio::test]
async fn a_revoked_machine_without_udp_ends_at_once() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let relay = TcpRelay::before(door(&home)?).await?;
    let mut machine = Machine::new(None)?;
    let invitation = json!({"address": relay.addr().to_string()});
    let device = machine.join_at(&node, &who, &invitation).await?;
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    let gone = node.call("DELETE", &path, Some(&who), None).await?;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(machine.ended().await?, Some(4), "{}", machine.log());
    // It stays out.
    machine.run()?;
    assert_eq!(machine.ended().await?, Some(4), "{}", machine.log());
    Ok(())
}

#[tokio::test]
async fn a_machine_with_udp_uses_it() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    let device = machine.join(&node, &who).await?;
    assert_eq!(link(&machine).await?["carrier"], "quic", "{}", machine.log());
    // Without an agent `doctor` tries it itself.
    machine.kill().await?;
    until(&node, &who, &device, |view| view["status"] == "offline").await?;
    let (code, out, err) = machine.say(&["doctor"]).await?;
    assert!(out.contains("quic to 127.0.0.1"), "{code:?}: {out}{err}");
    Ok(())
}
