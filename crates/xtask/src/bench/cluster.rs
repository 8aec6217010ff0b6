//! Benchmarks against real servers: appends over CQL, and a cluster of one to three nodes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::{Ready, Row, START_MAX, Stage, empty, rows};
use crate::{
    daemon::{END_WAIT, POLL, Record, began, end, tail},
    run::{kill_tree, run, step},
    services::{self, Service, Which},
};

/// What is said of the server in the tables.
const SERVER: &str =
    "Apache Cassandra, one instance, replication 1, on the same cores, its commit log not synced";
const KEYSPACE: &str = "troupe_bench_cluster";
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// Real servers for the length of a benchmark. Those that did not run before end with it.
struct Servers<'a> {
    stage: &'a Stage<'a>,
    ours: Vec<Box<dyn Service>>,
    addresses: Vec<String>,
}

impl<'a> Servers<'a> {
    fn up(stage: &'a Stage<'a>, which: &[Which]) -> Result<Self> {
        let mut all = Self { stage, ours: Vec::new(), addresses: Vec::new() };
        for service in which.iter().flat_map(|which| which.services()) {
            let running = services::up(stage.ws, service.as_ref())?;
            all.addresses.push(running.address);
            if running.started {
                all.ours.push(service);
            }
        }
        Ok(all)
    }

    fn address(&self, n: usize) -> Result<&str> {
        self.addresses.get(n).map(String::as_str).context("a server")
    }
}

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        for service in &self.ours {
            if let Err(error) = services::down(self.stage.ws, service.as_ref()) {
                step(&format!("{} could not be ended: {error:#}", service.name()));
            }
        }
    }
}

pub(super) fn cql(stage: &Stage<'_>) -> Result<Vec<Row>> {
    let servers = Servers::up(stage, &[Which::Cassandra])?;
    let mut load = stage.ws.command(&stage.load);
    load.args(["cql", "--cql", servers.address(0)?, "--server", SERVER]);
    rows(load.args(stage.few(&["--seconds=1", "--rounds=1"])))
}

/// One node after the other comes to a cluster; what goes through it is measured each time.
pub(super) fn cluster(stage: &Stage<'_>) -> Result<Vec<Row>> {
    let dir = stage.ws.target.join("bench/cluster");
    empty(&dir)?;
    let servers = Servers::up(stage, &[Which::Cassandra, Which::Redis])?;
    let cluster = Cluster { stage, dir, cql: servers.address(0)?, redis: servers.address(1)? };
    cluster.forget()?;
    let measured = cluster.measure();
    cluster.forget()?;
    measured
}

struct Cluster<'a> {
    stage: &'a Stage<'a>,
    dir: PathBuf,
    cql: &'a str,
    redis: &'a str,
}

impl Cluster<'_> {
    /// The rows of an earlier run, or of this one.
    fn forget(&self) -> Result<()> {
        let mut load = self.stage.ws.command(&self.stage.load);
        run(load.args(["cluster-forget", "--cql", self.cql, "--keyspace", KEYSPACE]))
    }

    fn measure(&self) -> Result<Vec<Row>> {
        let mut init = self.stage.ws.command(&self.stage.troupe);
        init.args(["node", "init", "--cluster", "bench", "--nodes", &NODES.join(",")]);
        run(init.arg("--out").arg(self.dir.join("keys")).stdout(Stdio::null()))?;
        let ids = format!("--ids={}", self.dir.join("tasks").display());
        let few = self.stage.few(&["--tasks=100"]);
        let idle = [&[ids.as_str()], few].concat();
        let mut all = vec![Row { what: "server".to_owned(), figure: SERVER.to_owned() }];

        let mut first = self.start(NODES[0])?;
        all.extend(self.load("cluster-fill", &[&first], &idle)?);
        first.end()?;
        let mut nodes = vec![self.start(NODES[0])?];
        all.extend(self.load("cluster-idle", &[&nodes[0]], &idle)?);
        all.extend(self.chunks(&nodes)?);
        for name in &NODES[1..] {
            nodes.push(self.start(name)?);
            all.extend(self.load("cluster-moves", &[&nodes[0]], &[])?);
            all.extend(self.chunks(&nodes)?);
        }
        let drain = format!("--drain={}", NODES[2]);
        all.extend(self.load("cluster-moves", &[&nodes[0]], &[&drain])?);
        // All of them at once: the last one has nobody to hand anything to.
        drop(nodes);
        Ok(all)
    }

    fn chunks(&self, nodes: &[ClusterNode]) -> Result<Vec<Row>> {
        let args = ["--tasks=100", "--pace=100", "--seconds=10"];
        let few = self.stage.few(&["--tasks=4", "--pace=20", "--seconds=3"]);
        let nodes: Vec<&ClusterNode> = nodes.iter().collect();
        self.load("chunks", &nodes, if few.is_empty() { &args } else { few })
    }

    fn load(&self, verb: &str, nodes: &[&ClusterNode], args: &[&str]) -> Result<Vec<Row>> {
        let mut load = self.stage.ws.command(&self.stage.load);
        load.arg(verb);
        for node in nodes {
            load.args(["--url", &node.ready.http, "--pid", &node.child.id().to_string()]);
        }
        let token = nodes.first().and_then(|node| node.ready.setup_token.as_ref());
        load.args(token.map(|token| format!("--setup-token={token}")));
        rows(load.args(args))
    }

    fn start(&self, name: &str) -> Result<ClusterNode> {
        let file = |kind: &str| self.dir.join(format!("{name}.{kind}"));
        let (ready, log) = (file("ready"), file("log"));
        if ready.exists() {
            fs::remove_file(&ready).context("remove the old ready file")?;
        }
        let out = File::options().create(true).append(true).open(&log).context("make the log")?;
        let mut command = self.stage.ws.command(&self.stage.troupe);
        command.args(["node", "--no-launcher", "--name", name, "--replication", "1"]);
        command.args(["--cql", self.cql, "--redis", self.redis, "--keyspace", KEYSPACE]);
        for option in ["--http", "--link", "--edge"] {
            command.args([option, "127.0.0.1:0"]);
        }
        command.arg("--keys").arg(self.dir.join("keys").join(name));
        command.arg("--data-dir").arg(self.dir.join(name)).arg("--ready-file").arg(&ready);
        if name == NODES[0] {
            command.arg("--setup-link");
        }
        // Tasks that idle stay in memory while they are weighed.
        command.env("TROUPE__TASKS__IDLE_SECONDS", "3600");
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let mut node = ClusterNode { name: name.to_owned(), child, ready: Ready::default() };
        node.wait(&ready, &log)?;
        Ok(node)
    }
}

/// A node of the cluster; killed when dropped.
struct ClusterNode {
    name: String,
    child: Child,
    ready: Ready,
}

impl ClusterNode {
    fn wait(&mut self, ready: &Path, log: &Path) -> Result<()> {
        step(&format!("starting {} (log: {})", self.name, log.display()));
        let start = Instant::now();
        while !ready.exists() {
            if let Some(status) = self.child.try_wait().context("look at a node")? {
                bail!("{} ended before it served ({status}); {}", self.name, tail(log));
            }
            if start.elapsed() > START_MAX * 3 {
                bail!("{} did not serve in time; {}", self.name, tail(log));
            }
            thread::sleep(POLL);
        }
        let told = fs::read(ready).context("read the ready file")?;
        self.ready = serde_json::from_slice(&told).context("read the ready file")?;
        Ok(())
    }

    /// As an operator would.
    fn end(&mut self) -> Result<()> {
        let pid = self.child.id();
        let record = Record { pid, began: began(pid).unwrap_or_default(), ..Record::default() };
        end(&record, &self.name, END_WAIT)
    }
}

impl Drop for ClusterNode {
    fn drop(&mut self) {
        kill_tree(self.child.id());
        let _already_gone = self.child.wait();
    }
}
