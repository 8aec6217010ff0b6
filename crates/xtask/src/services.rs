//! `cargo xtask services`: the servers that tests and benchmarks run against, real ones, on
//! loopback.
//!
//! One instance of each for everybody: a second `up` finds it running. What runs is written
//! to `target/services/<name>.json`; data, logs and installed programs lie beside it. Ports
//! are free ones, taken at the first start and kept as long as the data directory is.

mod cassandra;
mod docker;
mod redis;
mod ring;
mod secure;

use std::{
    fmt,
    fs::{self, File},
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::{
    daemon::{END_WAIT, POLL, Record, began, end, free_ports, is_alive, is_free, tail},
    run::{step, took},
    workspace::{Workspace, in_ci},
};

/// Which service a verb is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Apache Cassandra 5
    Cassandra,
    /// Redis 7
    Redis,
    /// Apache Cassandra 5 that wants TLS and a password
    SecureCassandra,
    /// Three servers of Apache Cassandra 5 in one ring, on demand: real quorums
    Ring,
    /// A Docker engine
    Docker,
    /// All of them, one Cassandra of each kind
    All,
}

impl Which {
    /// Every service there is, in the order in which they start.
    pub(crate) fn services(self) -> Vec<Box<dyn Service>> {
        match self {
            Self::Cassandra => {
                vec![Box::new(cassandra::Cassandra { keeps_schema: false, announced: None })]
            }
            Self::Ring => ring::members(),
            Self::SecureCassandra => vec![Box::new(secure::SecureCassandra)],
            Self::Redis => vec![Box::new(redis::Redis)],
            Self::Docker => vec![Box::new(docker::Docker)],
            Self::All => [Self::Cassandra, Self::Redis, Self::SecureCassandra, Self::Docker]
                .into_iter()
                .flat_map(Self::services)
                .collect(),
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Installs what is missing, starts what does not run, waits until it answers
    Up {
        #[arg(value_enum, default_value_t = Which::All)]
        which: Which,
    },
    /// Ends it; data and programs stay
    Down {
        #[arg(value_enum, default_value_t = Which::All)]
        which: Which,
    },
    /// Says what runs and where
    Status {
        #[arg(value_enum, default_value_t = Which::All)]
        which: Which,
    },
}

/// A server that this program can install and run.
pub(crate) trait Service: fmt::Debug {
    /// Also the name of its files.
    fn name(&self) -> &'static str;

    /// The environment variable that tells tests its address.
    fn variable(&self) -> &'static str;

    /// How many ports it listens on; the first is what clients use.
    fn ports(&self) -> usize;

    /// How long it may take from its start to its first answer.
    fn start_limit(&self) -> Duration;

    /// Where one answers that this program did not start and that will do.
    fn found(&self) -> Option<String> {
        None
    }

    /// Installs what is missing. Says what it does, in one line each.
    fn install(&self, ws: &Workspace) -> Result<()>;

    /// The program in the foreground, with its files below `place.dir`. Output goes to the log.
    fn command(&self, ws: &Workspace, place: &Place) -> Result<Command>;

    /// Whether it answers a client.
    fn is_ready(&self, place: &Place) -> bool;

    /// What a client sends to see whether it answers, and how the answer begins.
    fn probe(&self) -> (&'static [u8], &'static [u8]);

    /// What tests are given.
    fn address(&self, place: &Place) -> String {
        format!("127.0.0.1:{}", place.ports.first().copied().unwrap_or_default())
    }
}

/// Where an instance of a service lives.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its own directory, below `target/services`.
    pub(crate) dir: PathBuf,
    pub(crate) ports: Vec<u16>,
}

/// The address of a service, and whether this call started it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) variable: &'static str,
    pub(crate) address: String,
    pub(crate) started: bool,
}

/// Services for the length of a test run. Those that did not run before end with it.
#[derive(Debug)]
pub(crate) struct ForTests<'a> {
    ws: &'a Workspace,
    ours: Vec<Box<dyn Service>>,
    /// What tests are told: variables and addresses.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl<'a> ForTests<'a> {
    /// Starts all of them. One that cannot be had is said, and its tests skip themselves; in CI
    /// it is an error.
    pub(crate) fn start(ws: &'a Workspace) -> Result<Self> {
        let mut all = Self { ws, ours: Vec::new(), env: Vec::new() };
        for service in Which::All.services() {
            match up(ws, service.as_ref()) {
                Ok(running) => {
                    all.env.push((running.variable, running.address));
                    if running.started {
                        all.ours.push(service);
                    }
                }
                Err(error) if in_ci() => {
                    return Err(error.context(format!("{} is needed in CI", service.name())));
                }
                Err(error) => step(&format!("{} is left out: {error:#}", service.name())),
            }
        }
        Ok(all)
    }

    /// Where a Docker engine is, if there is one.
    pub(crate) fn docker(&self) -> Option<String> {
        let docker = docker::Docker.variable();
        self.env.iter().find(|(variable, _)| *variable == docker).map(|(_, at)| at.clone())
    }
}

impl Drop for ForTests<'_> {
    fn drop(&mut self) {
        for service in &self.ours {
            if let Err(error) = down(self.ws, service.as_ref()) {
                step(&format!("{} could not be ended: {error:#}", service.name()));
            }
        }
    }
}

pub(crate) fn verb(ws: &Workspace, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Up { which } => {
            for service in which.services() {
                match up(ws, service.as_ref()) {
                    Ok(running) => println!("{}={}", running.variable, running.address),
                    // Not every machine lets us start it.
                    Err(error) if service.name() == "docker" && *which == Which::All => {
                        step(&format!("docker is left out: {error:#}"));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Verb::Down { which } => {
            for service in which.services() {
                down(ws, service.as_ref())?;
            }
        }
        Verb::Status { which } => {
            for service in which.services() {
                status(ws, service.as_ref())?;
            }
        }
    }
    Ok(())
}

/// How somebody else starts an instance of their own, to kill it and start it again.
#[derive(Debug, Serialize)]
pub(crate) struct Recipe {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    dir: PathBuf,
    address: String,
    probe: Vec<u8>,
    answer: Vec<u8>,
}

/// Recipes for an instance of each service, with data below `dir`; drivers are told that the
/// store is at `announced`.
pub(crate) fn recipes(ws: &Workspace, dir: &Path, announced: Ipv4Addr) -> Result<Vec<Recipe>> {
    let store = cassandra::Cassandra { keeps_schema: true, announced: Some(announced) };
    let all: [Box<dyn Service>; 2] = [Box::new(store), Box::new(redis::Redis)];
    all.iter().map(|service| recipe(ws, service.as_ref(), dir)).collect()
}

fn recipe(ws: &Workspace, service: &dyn Service, dir: &Path) -> Result<Recipe> {
    // Two programs that install one service at once: the second waits.
    let _lock = lock(&home(ws)?, service.name())?;
    service.install(ws)?;
    let place = Place { dir: dir.join(service.name()), ports: free_ports(service.ports())? };
    fs::create_dir_all(&place.dir).with_context(|| format!("make {}", place.dir.display()))?;
    let command = service.command(ws, &place)?;
    let (probe, answer) = service.probe();
    let port = place.ports.first().context("a service listens")?;
    Ok(Recipe {
        name: service.name().to_owned(),
        program: command.get_program().into(),
        args: command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        address: format!("127.0.0.1:{port}"),
        dir: place.dir,
        probe: probe.to_vec(),
        answer: answer.to_vec(),
    })
}

/// Starts a service unless it runs; ready when this returns.
pub(crate) fn up(ws: &Workspace, service: &dyn Service) -> Result<Running> {
    let home = home(ws)?;
    let name = service.name();
    let _lock = lock(&home, name)?;
    let variable = service.variable();
    let (record, place) = known(&home, service);
    if is_alive(&record) && wait_ready(service, &place, &record).is_ok() {
        return Ok(Running { variable, address: record.address, started: false });
    }
    end(&record, name, END_WAIT)?;
    if let Some(address) = service.found() {
        return Ok(Running { variable, address, started: false });
    }
    service.install(ws)?;
    // Again free ports if the old ones were taken meanwhile.
    let ports = if is_free(&place.ports) { place.ports } else { free_ports(service.ports())? };
    let place = Place { ports, ..place };
    fs::create_dir_all(&place.dir).with_context(|| format!("make {}", place.dir.display()))?;
    step(&format!("starting {name} (log: {})", log_file(&home, name).display()));
    let start = Instant::now();
    let log = File::create(log_file(&home, name)).context("make the log")?;
    let mut command = service.command(ws, &place)?;
    // A group of its own: Ctrl-C here does not end what others use.
    command.process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().context("share the log")?).stderr(log);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let pid = child.id();
    let address = service.address(&place);
    let began = began(pid).unwrap_or_default();
    let record = Record { address, ports: place.ports.clone(), pid, began };
    let text = serde_json::to_string_pretty(&record).context("write a record")?;
    fs::write(record_file(&home, name), text).context("write down what runs")?;
    // Reaps it should it end before us; it outlives us otherwise.
    thread::spawn(move || child.wait());
    if let Err(error) = wait_ready(service, &place, &record) {
        end(&record, name, END_WAIT)?;
        return Err(error.context(tail(&log_file(&home, name))));
    }
    step(&format!("{name} answers at {} after {}", record.address, took(start.elapsed())));
    Ok(Running { variable, address: record.address, started: true })
}

/// Ends a service; one that does not run is no error.
pub(crate) fn down(ws: &Workspace, service: &dyn Service) -> Result<()> {
    let home = home(ws)?;
    let name = service.name();
    let _lock = lock(&home, name)?;
    let (record, _) = known(&home, service);
    if is_alive(&record) {
        step(&format!("ending {name} (process {})", record.pid));
        end(&record, name, END_WAIT)?;
    } else {
        step(&format!("{name} does not run"));
    }
    Ok(())
}

fn status(ws: &Workspace, service: &dyn Service) -> Result<()> {
    let (record, place) = known(&home(ws)?, service);
    let name = service.name();
    match (is_alive(&record), service.is_ready(&place)) {
        (true, true) => println!("{name}: {} (process {})", record.address, record.pid),
        (true, false) => println!("{name}: process {} does not answer", record.pid),
        (false, _) => println!("{name}: down"),
    }
    Ok(())
}

fn home(ws: &Workspace) -> Result<PathBuf> {
    let home = ws.target.join("services");
    fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    Ok(home)
}

/// Two programs that start one service at once: the second waits and finds it running.
fn lock(home: &Path, name: &str) -> Result<File> {
    let file = File::create(home.join(format!("{name}.lock"))).context("make a lock file")?;
    file.lock().context("lock a service")?;
    Ok(file)
}

fn record_file(home: &Path, name: &str) -> PathBuf {
    home.join(format!("{name}.json"))
}

fn log_file(home: &Path, name: &str) -> PathBuf {
    home.join(format!("{name}.log"))
}

/// What was written down, if anything was, and where it lives.
fn known(home: &Path, service: &dyn Service) -> (Record, Place) {
    let name = service.name();
    let text = fs::read_to_string(record_file(home, name)).unwrap_or_default();
    let record: Record = serde_json::from_str(&text).unwrap_or_default();
    let ports = record.ports.clone();
    (record, Place { dir: home.join(name), ports })
}

fn wait_ready(service: &dyn Service, place: &Place, record: &Record) -> Result<()> {
    let (start, limit) = (Instant::now(), service.start_limit());
    loop {
        if service.is_ready(place) {
            return Ok(());
        }
        if !is_alive(record) {
            bail!("{} ended at its start", service.name());
        }
        if start.elapsed() > limit {
            bail!("{} did not answer within {}", service.name(), took(limit));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_files_and_a_variable_of_its_own() {
        let services = Which::All.services();
        let mut names: Vec<_> = services.iter().map(|s| (s.name(), s.variable())).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), services.len());
        assert!(services.iter().all(|s| s.variable().starts_with("TROUPE_TEST_")));
    }
}
