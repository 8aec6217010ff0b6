//! A device that works through the ends of three nodes on a real CQL server and Redis.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;
use troupe_testkit::try_until;

use super::{
    faults::{beyond, counting, follows, whole},
    kit::{Machine, is_free, until},
    members::{ALIKE, RolesOfAll, Three, owner_of, servers},
};
use crate::node::Person;

const APART: RolesOfAll = ["gateway", "edge", "entities,knowledge"];
/// How long the store says nothing: every lease ends meanwhile.
const FROZEN: Duration = Duration::from_secs(25);

/// A cluster with its administrator, and a machine that counts in a Task.
async fn at_work(
    servers: (String, String),
    roles: RolesOfAll,
) -> Result<(Three, Person, Machine, Value, String)> {
    let three = Three::start(servers, roles).await?;
    let (first, who) = (three.rest(0)?, three.setup().await?);
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&first, &who).await?;
    let task = counting(&first, &who, &machine).await?;
    Ok((three, who, machine, device, task))
}

/// kill -9 of the node where the link ends, of the Task's owner, and of both at once.
#[tokio::test]
async fn a_device_works_through_the_loss_of_any_node() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let (mut three, who, machine, device, task) = at_work(servers, ALIKE).await?;
    let online = |view: &Value| view["status"] == "online";
    for round in 0..3 {
        let rest = three.alive()?;
        let session = Three::number(&until(&rest, &who, &device, online).await?["node"])?;
        let owner = owner_of(&rest, &who, &task).await?;
        let lost = match round {
            0 => vec![session],
            1 => vec![owner],
            _ if owner == session => vec![owner],
            _ => vec![session, owner],
        };
        for n in &lost {
            three.lose(*n).await?;
        }
        let now = beyond(&machine, 0).await?;
        let rest = three.alive()?;
        let back = Instant::now();
        let goes_on = follows(&rest, &who, &task, now).await;
        goes_on.with_context(|| format!("round {round}, lost {lost:?}\n{}", machine.log()))?;
        println!("lost {lost:?}: streams on after {:.1} s", back.elapsed().as_secs_f64());
        for n in lost {
            three.again(n).await?;
        }
    }
    machine.put_beside("n", "go")?;
    let rest = three.alive()?;
    whole(&rest, &who, &task).await?;
    is_free(&rest, &who, &device).await
}

/// The store says nothing until every lease has ended; the device works on by itself.
#[tokio::test]
async fn a_device_works_through_a_frozen_store() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let (three, who, machine, device, task) = at_work(servers, ALIKE).await?;
    let rest = three.alive()?;
    follows(&rest, &who, &task, beyond(&machine, 0).await?).await?;
    three.store.cut(true);
    let began = Instant::now();
    let before = beyond(&machine, 0).await?;
    let frozen = try_until(2 * FROZEN, async || began.elapsed() >= FROZEN);
    ensure!(frozen.await, "time stands still");
    let now = beyond(&machine, before + 50).await?;
    three.store.cut(false);
    let back = Instant::now();
    let goes_on = follows(&rest, &who, &task, now).await;
    goes_on.with_context(|| format!("frozen from {before} to {now}\n{}", machine.log()))?;
    println!("streams on {:.1} s after the store was back", back.elapsed().as_secs_f64());
    machine.put_beside("n", "go")?;
    ensure!(whole(&rest, &who, &task).await? >= now);
    is_free(&rest, &who, &device).await
}

/// People at one node, devices at another, all that is owned at a third; none does the others' work,
/// and only the one with a door has the device CA's key.
#[tokio::test]
async fn roles_are_kept_apart() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let (three, who, mut machine, device, task) = at_work(servers, APART).await?;
    let [gateway, edge, entities] = [three.rest(0)?, three.rest(1)?, three.rest(2)?];
    ensure!(owner_of(&gateway, &who, &task).await? == 2, "only n2 hosts Tasks");
    let view = until(&gateway, &who, &device, |view| view["status"] == "online").await?;
    ensure!(view["node"] == "n1", "only n1 has a door: {view}");
    for (rest, name) in [(&edge, "edge"), (&entities, "entities")] {
        ensure!(rest.get("/health", &who).await?["status"] == "healthy", "{name}");
        let refused = rest.get("/api/v1/tasks", &who).await;
        let said = format!("{:#}", refused.expect_err("it serves no people"));
        ensure!(said.contains("not_a_gateway"), "{name}: {said}");
    }
    for (n, keeps) in [(0, false), (1, true), (2, false)] {
        let key = three.home.path().join(format!("keys/n{n}/device-ca.key"));
        ensure!(key.exists() == keeps, "n{n}: {}", key.display());
    }
    machine.put_beside("n", "go")?;
    whole(&gateway, &who, &task).await?;
    is_free(&gateway, &who, &device).await?;
    // Asked for at one node, decided at another, and the link ends at the third.
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    let began = Instant::now();
    let gone = gateway.call("DELETE", &path, Some(&who), None).await?;
    ensure!(gone.status == 204, "{}", gone.text);
    ensure!(machine.ended().await? == Some(4), "{}", machine.log());
    println!("ended {:.2} s after the revocation", began.elapsed().as_secs_f64());
    Ok(())
}
