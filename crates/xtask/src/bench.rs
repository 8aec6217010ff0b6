//! Benchmarks by name. Each prints rows; the table is meant for `docs/benchmarks.md`.
//!
//! A benchmark is a function here; load generators are programs of their own, so that
//! they do not share a process with what they measure.

mod cluster;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    run::{kill_tree, run, shown, step, text},
    workspace::Workspace,
};

/// One named benchmark.
#[derive(Debug)]
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Stage<'_>) -> Result<Vec<Row>>,
}

/// All of them; a new one is a line here and a function.
const BENCHES: &[Bench] = &[
    Bench { name: "start", about: "cold start to first answer, and memory when idle", run: start },
    Bench { name: "read", about: "REST reads at 2,000/s", run: |s| s.load("read", &[]) },
    Bench { name: "apply", about: "REST applies", run: |s| s.load("apply", &[]) },
    Bench {
        name: "first-chunk",
        about: "from chat:send to the first chunk, model without latency",
        run: |s| s.load("first-chunk", &[]),
    },
    Bench { name: "chunks", about: "chunks per second through the whole path", run: chunks },
    Bench {
        name: "tasks",
        about: "1,000 tasks at 20 pieces/s at once",
        run: |s| s.load("chunks", &["--tasks=1000", "--pace=20", "--seconds=20"]),
    },
    Bench {
        name: "sockets",
        about: "10,000 idle Socket.IO connections and emits beside bare socketioxide",
        run: |s| s.load("sockets", &[]),
    },
    Bench {
        name: "devices",
        about: "1,000 simulated devices on one node: enrolment, idle, 200 executions at once",
        run: devices,
    },
    Bench {
        name: "appends",
        about: "appends per second with fsync beside bare SQLite",
        run: |s| s.alone("appends", &[]),
    },
    Bench {
        name: "activation",
        about: "activation and passivation of tasks",
        run: |s| s.alone("activation", &["--tasks=100000"]),
    },
    Bench {
        name: "link",
        about: "links of nodes and devices beside bare quinn and ractor_cluster",
        run: |s| rows(s.ws.command(&s.load).arg("link").args(s.few(&["--count=2000"]))),
    },
    Bench {
        name: "cql",
        about: "appends on a real CQL server beside conditional inserts",
        run: cluster::cql,
    },
    Bench {
        name: "cluster",
        about: "1, 2 and 3 nodes: chunks per second, hand-offs, memory per idle task",
        run: cluster::cluster,
    },
];

/// What a benchmark works with.
#[derive(Debug)]
struct Stage<'a> {
    ws: &'a Workspace,
    /// The build of `troupe`.
    troupe: PathBuf,
    /// The build of the load generator.
    load: PathBuf,
    /// Not how fast it is, only whether it runs.
    smoke: bool,
}

impl Stage<'_> {
    /// Loads a node of its own from another process.
    fn load(&self, verb: &str, args: &[&str]) -> Result<Vec<Row>> {
        let dir = self.ws.target.join("bench").join(verb);
        empty(&dir)?;
        let node = RunningNode::start(self, &dir)?;
        let mut load = self.ws.command(&self.load);
        load.arg(verb).args(["--url", &node.url, "--pid", &node.child.id().to_string()]);
        if let Some(token) = &node.setup_token {
            load.arg(format!("--setup-token={token}"));
        }
        rows(load.args(args))
    }

    /// Arguments for when few will do.
    fn few<'b>(&self, args: &'b [&'b str]) -> &'b [&'b str] {
        if self.smoke { args } else { &[] }
    }

    /// Measures a part by itself, on the disk that the build directory lies on.
    fn alone(&self, verb: &str, args: &[&str]) -> Result<Vec<Row>> {
        let dir = self.ws.target.join("bench").join(verb);
        empty(&dir)?;
        rows(self.ws.command(&self.load).arg(verb).arg("--dir").arg(dir).args(args))
    }
}

fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).context("empty the data directory")?;
    }
    fs::create_dir_all(dir).context("make the data directory")
}

/// Runs the load generator; its rows are lines `what TAB figure`.
fn rows(load: &mut Command) -> Result<Vec<Row>> {
    let name = shown(load);
    let output = load.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("run `{name}`"))?;
    if !output.status.success() {
        bail!("`{name}` failed ({})", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    let row = |(what, figure): (&str, &str)| Row { what: what.into(), figure: figure.into() };
    Ok(pairs.map(row).collect())
}

/// With a look at the program that real devices run.
fn devices(stage: &Stage<'_>) -> Result<Vec<Row>> {
    let agent = stage.troupe.with_file_name("troupe-edge");
    let agent = agent.to_str().context("a path that is text")?;
    stage.load("devices", &["--agent", agent])
}

/// The same offered load, spread differently: few tasks with many viewers, many with one.
fn chunks(stage: &Stage<'_>) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for (tasks, viewers, pace) in [
        (1, 1, 1_000),
        (1, 100, 1_000),
        (1, 1_000, 100),
        (100, 1, 300),
        (100, 10, 30),
        (1_000, 1, 30),
    ] {
        let args = [("tasks", tasks), ("viewers", viewers), ("pace", pace)];
        let args = args.map(|(name, value)| format!("--{name}={value}"));
        all.extend(stage.load("chunks", &args.each_ref().map(String::as_str))?);
    }
    Ok(all)
}

/// One measured figure.
#[derive(Debug)]
struct Row {
    what: String,
    figure: String,
}

/// Names and what they measure.
pub(crate) fn list() -> String {
    let line = |Bench { name, about, .. }: &Bench| format!("{name:<12} {about}");
    BENCHES.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn bench(ws: &Workspace, name: Option<&str>, smoke: bool) -> Result<()> {
    let Some(name) = name else {
        println!("{}", list());
        return Ok(());
    };
    let chosen: Vec<&Bench> =
        BENCHES.iter().filter(|bench| name == "all" || name == bench.name).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("no such benchmark; there are: all, {}", names.join(", "));
    }
    let stage = stage(ws, smoke)?;
    for bench in chosen {
        step(&format!("{}: {}", bench.name, bench.about));
        let machine = machine();
        let rows = (bench.run)(&stage).with_context(|| bench.name)?;
        println!("\n`cargo xtask bench {}`, {machine}\n", bench.name);
        println!("| {} | |\n|---|---|", bench.about);
        for Row { what, figure } in rows {
            println!("| {what} | {figure} |");
        }
        println!();
    }
    Ok(())
}

/// Builds what is needed.
fn stage(ws: &Workspace, smoke: bool) -> Result<Stage<'_>> {
    let mode = if smoke { "debug" } else { "release" };
    step(&format!("building troupe and its load generator in {mode} mode"));
    // In one go: features are resolved over all, so that what they share is built once.
    let packages = ["troupe-cluster", "troupe-bench", "troupe-edge-agent"];
    let packages = packages.iter().flat_map(|package| ["-p", package]);
    let mut build = ws.cargo();
    build.args(["build", "--quiet"]);
    if smoke {
        // With the features that tests are built with, so that nothing is built twice.
        build.args(["--workspace", "--bins"]);
    } else {
        build.arg("--release").args(packages);
    }
    run(&mut build)?;
    let troupe = ws.binary(mode);
    Ok(Stage { ws, load: troupe.with_file_name("troupe-bench"), troupe, smoke })
}

/// Processor, cores, memory and what else runs, as one line for the table.
fn machine() -> String {
    let field = |file: &str, key: &str| {
        let content = fs::read_to_string(file).unwrap_or_default();
        let line = content.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal");
    let rust = text(Command::new("rustc").arg("--version")).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!("{cpu}, {cores} cores, {memory}, {rust}, load average before {load}")
}

/// A node on a free port with an empty data directory; killed when dropped.
#[derive(Debug)]
struct RunningNode {
    child: Child,
    dir: PathBuf,
    url: String,
    setup_token: Option<String>,
}

/// What a node writes once it serves.
#[derive(Debug, Default, Deserialize)]
struct Ready {
    http: String,
    setup_token: Option<String>,
}

/// Longest time that a node may take to start.
const START_MAX: Duration = Duration::from_secs(30);

impl RunningNode {
    fn start(stage: &Stage<'_>, dir: &Path) -> Result<Self> {
        let ready = dir.join("ready.json");
        if ready.exists() {
            fs::remove_file(&ready).context("remove the old ready file")?;
        }
        fs::create_dir_all(dir).context("make the data directory")?;
        let child = Command::new(&stage.troupe)
            .args(["up", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            // All simulated devices come from one address.
            .env("TROUPE__EDGE__ENROLMENTS_PER_MINUTE", "100000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("node.log")).context("make the node's log")?)
            .spawn()
            .context("start the node")?;
        let (url, setup_token) = (String::new(), None);
        let mut node = Self { child, dir: dir.to_owned(), url, setup_token };
        let start = Instant::now();
        while !ready.exists() {
            if let Some(status) = node.child.try_wait().context("look at the node")? {
                bail!("the node ended before it was ready ({status})");
            }
            if start.elapsed() > START_MAX {
                bail!("the node was not ready after {START_MAX:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let told = fs::read(&ready).context("read the ready file")?;
        let told: Ready = serde_json::from_slice(&told).context("read the ready file")?;
        node.url = told.http;
        node.setup_token = told.setup_token;
        Ok(node)
    }

    /// Resident memory in MiB.
    fn memory_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("read the memory of the node")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: f64 = kib.context("the node has a resident size")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        kill_tree(self.child.id());
        let _already_gone = self.child.wait();
        step(&format!("log and data of the node: {}", self.dir.display()));
    }
}

const COLD_STARTS: usize = 10;

fn start(stage: &Stage<'_>) -> Result<Vec<Row>> {
    let dir = stage.ws.target.join("bench/start");
    let mut first = None;
    let mut times = Vec::new();
    let mut memory = 0.0;
    empty(&dir)?;
    for _ in 0..COLD_STARTS {
        let begin = Instant::now();
        let node = RunningNode::start(stage, &dir)?;
        let time = begin.elapsed();
        if first.is_none() {
            first = Some(time);
        } else {
            times.push(time);
        }
        memory = node.memory_mib()?;
    }
    times.sort();
    let middle = times.get(times.len() / 2).context("there were several starts")?;
    let first = first.context("there was a first start")?;
    Ok(vec![
        Row {
            what: "first start, empty data directory".to_owned(),
            figure: format!("{first:.0?}"),
        },
        Row { what: "start, median".to_owned(), figure: format!("{middle:.0?}") },
        Row { what: "resident memory when idle".to_owned(), figure: format!("{memory:.1} MiB") },
    ])
}
