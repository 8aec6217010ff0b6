//! A Docker engine for tests: real, and cleaned up after.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use troupe_testkit::try_until;

use super::kit::options;
use crate::node::{Home, Node, NodeOptions, PATIENCE, Person};

/// A Docker engine, and what a test left in it.
pub(super) struct Engine {
    address: String,
    image: String,
    pools: Vec<String>,
}

impl Engine {
    /// `None`: the test is skipped.
    pub(super) fn new() -> Result<Option<Self>> {
        let given = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
        let (engine, base) = (given("TROUPE_TEST_DOCKER"), given("TROUPE_TEST_IMAGE"));
        let Some((address, base)) = engine.zip(base) else {
            assert!(std::env::var_os("CI").is_none(), "there is no Docker engine, and it is CI");
            println!("skipped: `cargo xtask test` starts a Docker engine, if it may");
            return Ok(None);
        };
        let mut engine = Self { address, image: String::new(), pools: Vec::new() };
        engine.image = engine.with_agent(&base)?;
        Ok(Some(engine))
    }

    pub(super) fn run(&self, args: &[&str]) -> Result<Output> {
        Ok(Command::new("docker").args(["-H", &self.address]).args(args).output()?)
    }

    pub(super) fn say(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker {args:?}: {text} {error}");
        Ok(text)
    }

    /// The image with the agent that was just built; the same for all tests of one build.
    pub(super) fn with_agent(&self, base: &str) -> Result<String> {
        let edge = Path::new(env!("CARGO_BIN_EXE_troupe")).with_file_name("troupe-edge");
        let meta = fs::metadata(&edge).context("troupe-edge: is it built?")?;
        let mut hasher = DefaultHasher::new();
        (meta.modified()?, meta.len(), base).hash(&mut hasher);
        let tag = format!("troupe-edge-test:{:016x}", hasher.finish());
        if self.say(&["images", "-q", &tag])?.is_empty() {
            // Of an earlier build; one in use stays.
            for old in self.say(&["images", "-q", "troupe-edge-test"])?.lines() {
                self.run(&["rmi", old])?;
            }
            let container = self.say(&["create", base])?;
            let from = edge.to_str().context("no text")?;
            self.say(&["cp", from, &format!("{container}:/usr/local/bin/troupe-edge")])?;
            self.say(&["commit", &container, &tag])?;
            self.say(&["rm", "-f", &container])?;
        }
        Ok(tag)
    }

    /// Options of a node with a small pool; more may be added.
    pub(super) fn options(&self) -> NodeOptions {
        let base = options();
        base.env("TROUPE__CONTAINERS__ENGINE", &self.address)
            .env("TROUPE__CONTAINERS__IMAGE", &self.image)
            .env("TROUPE__CONTAINERS__ISOLATED", true)
            .env("TROUPE__CONTAINERS__CPUS", "1.5")
            .env("TROUPE__CONTAINERS__WARM", 0)
    }

    /// Waits for the pool; this machine's address in its network.
    pub(super) async fn opened(&mut self, home: &Home) -> Result<Ipv4Addr> {
        self.opened_by(|| home.log()).await
    }

    /// The same of a node with this log.
    pub(super) async fn opened_by(&mut self, log: impl Fn() -> String) -> Result<Ipv4Addr> {
        let mut line = String::new();
        let opened = try_until(PATIENCE, async || {
            let log = log();
            let found = log.lines().rfind(|line| line.contains("containers can be had"));
            line = found.unwrap_or_default().to_owned();
            !line.is_empty()
        });
        ensure!(opened.await, "no pool: {}", log());
        let field = |name: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)).context(line.clone())
        };
        self.pools.push(field("pool=")?.to_owned());
        let at: SocketAddr = field("at=")?.parse()?;
        match at {
            SocketAddr::V4(at) => Ok(*at.ip()),
            SocketAddr::V6(_) => bail!("{at} is no IPv4 address"),
        }
    }

    /// Names of the pools' containers, ended ones too.
    pub(super) fn containers(&self) -> Result<Vec<String>> {
        ensure!(!self.pools.is_empty(), "no pool");
        let mut all = Vec::new();
        for pool in &self.pools {
            all.extend(self.containers_of(pool)?);
        }
        Ok(all)
    }

    fn containers_of(&self, pool: &str) -> Result<Vec<String>> {
        let label = format!("label=troupe.pool={pool}");
        let names = self.say(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"])?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Names of the containers of a node's pool.
    pub(super) fn containers_at(&self, node: &str) -> Result<Vec<String>> {
        let pool = self.pools.iter().find(|pool| pool.ends_with(&format!("/{node}")));
        self.containers_of(pool.context("no such pool")?)
    }

    /// Waits until the pool has so many containers.
    pub(super) async fn until_count(&self, count: usize) -> Result<()> {
        let held =
            try_until(PATIENCE, async || self.containers().is_ok_and(|names| names.len() == count));
        ensure!(held.await, "there are {:?}, not {count}", self.containers());
        Ok(())
    }

    /// A command within a container: exit code and what it said.
    pub(super) fn within(&self, container: &str, command: &str) -> Result<(Option<i32>, String)> {
        let output = self.run(&["exec", container, "sh", "-c", command])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.code(), text + &String::from_utf8_lossy(&output.stderr)))
    }
}

impl Engine {
    /// How far a count is that runs in a container.
    pub(super) fn counted_to(&self, container: &str) -> u64 {
        let said = self.within(container, "cat $(find /state/workspaces -name n)");
        said.ok().and_then(|(_, n)| n.trim().parse().ok()).unwrap_or_default()
    }

    /// Waits until it counts, and lets it end.
    pub(super) async fn let_go(&self, container: &str) -> Result<()> {
        ensure!(try_until(PATIENCE, async || self.counted_to(container) > 0).await, "no count");
        let (code, said) =
            self.within(container, "touch $(dirname $(find /state/workspaces -name n))/go")?;
        ensure!(code == Some(0), "{said}");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for name in self.containers().unwrap_or_default() {
            let _ = self.run(&["rm", "-f", "-v", &name]);
        }
        for pool in &self.pools {
            let _ = self.run(&["network", "rm", &format!("troupe-{}", pool.replace('/', "-"))]);
        }
    }
}

/// A Team that runs in containers.
pub(super) fn contained(team: &str) -> String {
    team.replace("- {botRef", "- {on: container, botRef")
}

/// The only container of a person's devices.
pub(super) async fn only(node: &Node, who: &Person) -> Result<Value> {
    let mut found = Value::Null;
    let there = try_until(PATIENCE, async || {
        let page = node.get("/api/v1/devices", who).await.unwrap_or_default();
        found = page["items"][0].clone();
        found["status"] == "online"
    });
    ensure!(there.await, "no container is online: {found}");
    Ok(found)
}
