//! `cargo xtask cluster`: a whole cluster on this machine, as an operator would run it: a CQL
//! server, Redis, and `troupe node` processes on loopback.
//!
//! Keys, records, ready files and logs lie below `target/cluster`; the rows lie in the CQL
//! server, in a keyspace whose name is kept there too. `down --forget` begins anew.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::Value;

use crate::{
    console,
    daemon::{POLL, Record, began, end, free_ports, is_alive, is_free, tail},
    run::{run, step, took},
    services::{self, Which},
    tools,
    workspace::{Workspace, hash_files},
};

/// How long a node may take until it serves.
const START_MAX: Duration = Duration::from_secs(90);
/// A node hands its shards over before it ends: two minutes, and some.
const END_MAX: Duration = Duration::from_secs(150);
/// More make no sense on one machine.
const NODES_MAX: usize = 9;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Builds what is missing and starts everything; ready when it returns
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
    /// Ends the nodes; the servers stay (`cargo xtask services down` ends them)
    Down {
        /// Forgets keys and rows too
        #[arg(long)]
        forget: bool,
    },
    /// Says what runs and where
    Status,
}

pub(crate) fn verb(ws: &Workspace, verb: &Verb) -> Result<()> {
    let home = ws.target.join("cluster");
    match verb {
        Verb::Up { nodes } => up(ws, &home, *nodes),
        Verb::Down { forget } => down(&home, *forget),
        Verb::Status => status(&home),
    }
}

/// One node, and where its files are.
struct Node {
    name: String,
    home: PathBuf,
}

impl Node {
    fn all(home: &Path) -> Vec<Self> {
        let name = |n: usize| format!("node-{n}");
        let made = |n: &usize| home.join("keys").join(name(*n)).is_dir();
        (1..=NODES_MAX)
            .filter(made)
            .map(|n| Self { name: name(n), home: home.to_owned() })
            .collect()
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.home.join(format!("{}.{kind}", self.name))
    }

    fn record(&self) -> Record {
        let text = fs::read_to_string(self.file("json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What the node told when it began to serve.
    fn told(&self) -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(self.file("ready")).ok()?).ok()
    }
}

fn up(ws: &Workspace, home: &Path, count: usize) -> Result<()> {
    if count == 0 || count > NODES_MAX {
        bail!("--nodes: from 1 to {NODES_MAX}");
    }
    tools::ensure_c_compiler()?;
    if console::is_here(ws)
        && let Err(error) = tools::node(ws).and_then(|node| console::build(ws, &node))
    {
        step(&format!("going on without the console: {error:#}"));
    }
    step("building troupe (the first time takes some minutes)");
    // With the features that tests are built with, so that nothing is built twice.
    run(ws.cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    let server = |which: Which| {
        let service = which.services().into_iter().next().context("a service")?;
        Ok::<_, anyhow::Error>(services::up(ws, service.as_ref())?.address)
    };
    let (cql, redis) = (server(Which::Cassandra)?, server(Which::Redis)?);
    fs::create_dir_all(home).with_context(|| format!("make {}", home.display()))?;
    let names: Vec<String> = (1..=count).map(|n| format!("node-{n}")).collect();
    let mut init = ws.command(ws.binary("debug"));
    init.args(["node", "init", "--cluster", "local", "--nodes", &names.join(",")]);
    init.arg("--out").arg(home.join("keys")).stdout(Stdio::null());
    run(&mut init)?;
    let keyspace = keyspace(home)?;
    let nodes: Vec<Node> = Node::all(home).into_iter().take(count).collect();
    let ports = nodes.iter().map(ports_of).collect::<Result<Vec<_>>>()?;
    let doors: Vec<String> = ports.iter().map(|ports| at(ports.get(2))).collect();
    let doors = doors.join(",");
    for (node, ports) in nodes.iter().zip(ports) {
        let servers = [("--cql", &*cql), ("--redis", &redis), ("--keyspace", &keyspace)];
        start(ws, node, ports, &[&servers[..], &[("--edge-addresses", &doors)]].concat())?;
    }
    for node in &nodes {
        wait(node)?;
    }
    // All of them print their links when they start; each link ends the ones before it.
    status(home)?;
    if let Some(token) = nodes.first().and_then(setup_link) {
        println!("Set the administrator's password (link works once):");
        println!("  {token}");
    }
    println!("`cargo xtask cluster down` ends the nodes. Logs: {}/*.log", home.display());
    Ok(())
}

fn setup_link(node: &Node) -> Option<String> {
    let told = node.told()?;
    let (http, token) = (told.get("http")?.as_str()?, told.get("setup_token")?.as_str()?);
    Some(format!("{http}/setup#{token}"))
}

/// The keyspace of this cluster; its name says that nobody else's rows are in it.
fn keyspace(home: &Path) -> Result<String> {
    let file = home.join("keyspace");
    if let Ok(name) = fs::read_to_string(&file) {
        return Ok(name.trim().to_owned());
    }
    // Keys and rows belong together, so new keys want new rows.
    let cert = home.join("keys/ca/node-ca.crt");
    let made = hash_files(home, &[cert.to_string_lossy().into_owned()], "keyspace")?;
    let name = format!("troupe_local_{made}");
    fs::write(&file, &name).context("write down the keyspace")?;
    Ok(name)
}

/// HTTP, link, edge.
const PORTS: usize = 3;

/// Those that it has, had, or gets.
fn ports_of(node: &Node) -> Result<Vec<u16>> {
    let known = node.record();
    let keeps = known.ports.len() == PORTS && (is_alive(&known) || is_free(&known.ports));
    if keeps { Ok(known.ports) } else { free_ports(PORTS) }
}

fn at(port: Option<&u16>) -> String {
    format!("127.0.0.1:{}", port.copied().unwrap_or_default())
}

fn start(ws: &Workspace, node: &Node, ports: Vec<u16>, more: &[(&str, &str)]) -> Result<()> {
    if is_alive(&node.record()) {
        return Ok(());
    }
    let _ = fs::remove_file(node.file("ready"));
    let log = File::create(node.file("log")).context("make the log")?;
    let http = at(ports.first());
    let mut command = ws.command(ws.binary("debug"));
    command.args(["node", "--name", &node.name, "--replication", "1", "--http", &http]);
    command.args(["--link", &at(ports.get(1)), "--edge", &at(ports.get(2))]);
    command.arg("--keys").arg(node.home.join("keys").join(&node.name));
    command.arg("--data-dir").arg(node.home.join(&node.name));
    command.arg("--ready-file").arg(node.file("ready"));
    for (option, value) in more {
        command.args([option, value]);
    }
    if node.name == "node-1" {
        command.arg("--setup-link");
    }
    // A group of its own: Ctrl-C here does not end it.
    command.process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().context("share the log")?).stderr(log);
    let mut child = command.spawn().with_context(|| format!("start {}", node.name))?;
    let pid = child.id();
    let record = Record { address: http, ports, pid, began: began(pid).unwrap_or_default() };
    let text = serde_json::to_string_pretty(&record).context("write a record")?;
    fs::write(node.file("json"), text).context("write down what runs")?;
    step(&format!("starting {} (log: {})", node.name, node.file("log").display()));
    // Reaps it should it end before us; it outlives us otherwise.
    thread::spawn(move || child.wait());
    Ok(())
}

fn wait(node: &Node) -> Result<()> {
    let (start, record) = (Instant::now(), node.record());
    while node.told().is_none() {
        if !is_alive(&record) {
            bail!("{} ended at its start; {}", node.name, tail(&node.file("log")));
        }
        if start.elapsed() > START_MAX {
            let log = tail(&node.file("log"));
            bail!("{} did not serve within {}; {log}", node.name, took(START_MAX));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn down(home: &Path, forget: bool) -> Result<()> {
    for node in Node::all(home) {
        let record = node.record();
        if is_alive(&record) {
            step(&format!("ending {} (it hands its shards over)", node.name));
            end(&record, &node.name, END_MAX)?;
        }
    }
    if forget && home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("remove {}", home.display()))?;
    }
    Ok(())
}

fn status(home: &Path) -> Result<()> {
    let nodes = Node::all(home);
    if nodes.is_empty() {
        println!("no cluster was started; `cargo xtask cluster up` does it");
    }
    for node in nodes {
        let (record, told) = (node.record(), node.told());
        let url = told.as_ref().and_then(|told| told.get("http")?.as_str());
        match (is_alive(&record), url) {
            (true, Some(url)) => println!("{}: {url} (process {})", node.name, record.pid),
            (true, None) => println!("{}: starts (process {})", node.name, record.pid),
            (false, _) => println!("{}: down", node.name),
        }
    }
    Ok(())
}
