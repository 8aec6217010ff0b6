//! Pools of three nodes over one store: who works, who waits, and what a node leaves that is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use troupe_testkit::try_until;

use super::{
    docker::{Engine, contained},
    kit::{COMMANDS, COUNT, counted, last_answer},
    members::{ALIKE, NODES, Three, servers},
};
use crate::node::{PATIENCE, Person, Rest};

/// Seconds after which a node is given up; without it the test waits for no such end.
const LOST: &str = "TROUPE_TEST_NODE_LOST";

struct Pools {
    engine: Engine,
    three: Three,
    who: Person,
}

impl Pools {
    /// Three pools of one small container each; `None`: the test is skipped.
    async fn start(more: &[(&str, &str)]) -> Result<Option<Self>> {
        let (Some(mut engine), Some(servers)) = (Engine::new()?, servers()) else {
            return Ok(None);
        };
        let options = engine.options();
        let is_of_pools = |(key, _): &&(String, String)| key.starts_with("TROUPE__CONTAINERS__");
        let given = options.env.iter().filter(is_of_pools);
        let mut env: Vec<(&str, &str)> = given.map(|(k, v)| (k.as_str(), v.as_str())).collect();
        env.extend([
            ("TROUPE__CONTAINERS__MAX", "1"),
            ("TROUPE__CONTAINERS__CPUS", "0.5"),
            ("TROUPE__CONTAINERS__MEMORY_MIB", "256"),
            ("TROUPE__CONTAINERS__WORKSPACE_MIB", "32"),
        ]);
        env.extend(more);
        let three = Three::start_with(servers, ALIKE, &env).await?;
        for n in 0..NODES {
            engine.opened_by(|| three.log(n)).await?;
        }
        let who = three.setup().await?;
        three.rest(0)?.apply(&who, &contained(COMMANDS)).await?;
        Ok(Some(Self { engine, three, who }))
    }

    /// A Task that counts in a container, and the container.
    async fn counting(&self) -> Result<(String, String)> {
        let rest = self.three.alive()?;
        let task = rest.run(&self.who, "sh", &COUNT.replace("0.02", "0.2")).await?;
        let name = self.container_of(&rest, &task, "").await?;
        Ok((task, name))
    }

    /// Waits until a Task counts in a container that is not this one.
    async fn container_of(&self, rest: &Rest, task: &str, not: &str) -> Result<String> {
        let mut name = String::new();
        let counts = try_until(2 * PATIENCE, async || {
            let page = rest.get("/api/v1/devices", &self.who).await.unwrap_or_default();
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let own = items.iter().find(|item| item["task_id"] == *task && item["name"] != *not);
            name = own.and_then(|own| own["name"].as_str()).unwrap_or_default().to_owned();
            !name.is_empty() && self.engine.counted_to(&name) > 0
        });
        ensure!(counts.await, "{task} has no container: {}", self.told(rest, task).await);
        Ok(name)
    }

    /// The node whose pool a container belongs to.
    fn node_of(&self, container: &str) -> Result<usize> {
        let has = |n: &usize| {
            let names = self.engine.containers_at(&format!("n{n}"));
            names.is_ok_and(|names| names.iter().any(|name| name == container))
        };
        (0..NODES).find(has).with_context(|| format!("{container} is in no pool"))
    }

    async fn told(&self, rest: &Rest, task: &str) -> Value {
        rest.get(&format!("/api/v1/tasks/{task}"), &self.who).await.unwrap_or_default()
    }

    /// Waits until a Task says that it waits in the queue, as these words say.
    async fn waits(&self, task: &str, running: &str, max: &str, ahead: &str) -> Result<()> {
        let rest = self.three.alive()?;
        let mut view = Value::Null;
        let waits = try_until(PATIENCE, async || {
            view = self.told(&rest, task).await["wait"].clone();
            let says = |name: &str, value: &str| view["args"][name] == value;
            let is_right = says("running", running) && says("max", max) && says("ahead", ahead);
            view["code"] == "container_queued" && is_right
        });
        ensure!(waits.await, "{task} waits for {view}");
        Ok(())
    }

    /// Lets a count end; its answer is whole.
    async fn ends(&self, task: &str, container: &str) -> Result<()> {
        let rest = self.three.alive()?;
        self.engine.let_go(container).await?;
        rest.settled(&self.who, task, "COMPLETED").await?;
        rest.assert_fold(&self.who, task).await?;
        counted(&last_answer(&rest, &self.who, task).await?).map(|_| ())
    }
}

/// Each Task is where there is room; who has none waits in turn, and has the first that is free.
#[tokio::test]
async fn three_pools_share_one_queue() -> Result<()> {
    let Some(pools) = Pools::start(&[]).await? else { return Ok(()) };
    let mut working = Vec::new();
    for _ in 0..NODES {
        working.push(pools.counting().await?);
    }
    let mut nodes =
        working.iter().map(|(_, name)| pools.node_of(name)).collect::<Result<Vec<_>>>()?;
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 1, 2], "one each");
    let rest = pools.three.alive()?;
    let line = COUNT.replace("0.02", "0.2");
    let fourth = rest.run(&pools.who, "sh", &line).await?;
    pools.waits(&fourth, "3", "3", "0").await?;
    let fifth = rest.run(&pools.who, "sh", &line).await?;
    pools.waits(&fifth, "3", "3", "1").await?;

    // Whichever pool has room takes the oldest, and no other container gives way.
    let (done, free) = working.swap_remove(1);
    let at = pools.node_of(&free)?;
    pools.ends(&done, &free).await?;
    let name = pools.container_of(&rest, &fourth, "").await?;
    assert_eq!(pools.node_of(&name)?, at, "the place that was free");
    pools.waits(&fifth, "3", "3", "0").await?;
    for (task, container) in &working {
        pools.ends(task, container).await?;
    }
    pools.ends(&fourth, &name).await?;
    let name = pools.container_of(&rest, &fifth, "").await?;
    pools.ends(&fifth, &name).await
}

/// A node is lost with its pool. Others take what waits; what works in its container goes on when
/// it comes back. If it never does, the work begins anew in a container of another node, and those
/// with the same engine clean up.
#[tokio::test]
async fn a_node_is_lost_with_its_pool() -> Result<()> {
    let given = std::env::var_os(LOST).and_then(|text| text.into_string().ok());
    let seconds = given.as_deref().unwrap_or("300");
    let more = [("TROUPE__CONTAINERS__ABANDONED_SECONDS", seconds)];
    let Some(mut pools) = Pools::start(&more).await? else { return Ok(()) };
    let (task, name) = pools.counting().await?;
    let (other, its) = pools.counting().await?;
    let lost = pools.node_of(&name)?;
    pools.three.lose(lost).await?;
    let before = pools.engine.counted_to(&name);
    // The third pool takes what comes now: nobody waits for one that is not there.
    let (third, thirds) = pools.counting().await?;
    ensure!(pools.node_of(&thirds)? != lost, "it is gone");
    let counts = try_until(PATIENCE, async || pools.engine.counted_to(&name) > before + 10);
    ensure!(counts.await, "it does not count on without its node");
    pools.ends(&third, &thirds).await?;
    if given.is_some() {
        let patience = Duration::from_secs(seconds.parse::<u64>()? + 120);
        let rest = pools.three.alive()?;
        let began_anew = try_until(patience, async || {
            let (_, turns) = rest.turns(&pools.who, &task).await.unwrap_or_default();
            let message = turns.last().and_then(|turn| turn["messages"].as_array()?.last());
            message
                .is_some_and(|message| message["attempts"].as_array().is_some_and(|a| a.len() == 2))
        });
        let told = pools.told(&rest, &task).await;
        ensure!(began_anew.await, "it was not given up: {told}");
        let anew = pools.container_of(&rest, &task, &name).await?;
        ensure!(pools.node_of(&anew)? != lost, "it is gone");
        let left = try_until(PATIENCE, async || {
            pools.engine.containers_at(&format!("n{lost}")).is_ok_and(|names| names.is_empty())
        });
        ensure!(left.await, "the others did not clean up");
        pools.ends(&task, &anew).await?;
    } else {
        pools.three.again(lost).await?;
        pools.ends(&task, &name).await?;
    }
    pools.ends(&other, &its).await
}
