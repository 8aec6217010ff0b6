//! A `troupe node` process (and its launcher) in its place.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};
use troupe_testkit::{client::rest::Rest, faketime, try_until};

use crate::place;

/// A debug build on a machine that is busy with everything else.
const START: Duration = Duration::from_secs(180);
const END: Duration = Duration::from_secs(150);

/// How to start a node.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    /// Where it lives.
    pub(crate) namespace: String,
    /// Program and arguments in front of the node's own: `ip netns exec ...`.
    pub(crate) prefix: Vec<String>,
    pub(crate) troupe: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: PathBuf,
}

/// Which of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Worker,
    Launcher,
    Both,
}

/// What a node writes when it is ready.
#[derive(Clone, Debug, Default)]
struct Ready {
    http: String,
    pid: u32,
    launcher: Option<u32>,
    setup_token: Option<String>,
}

/// A node that was started, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) plan: NodePlan,
    child: Option<Child>,
    ready: Ready,
    /// The wall clock that it is shown, if it is shown another one than the machine's.
    pub(crate) clock: Option<PathBuf>,
}

impl Node {
    pub(crate) fn new(plan: NodePlan) -> Self {
        Self { plan, child: None, ready: Ready::default(), clock: None }
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(crate) fn rest(&self, patience: Duration) -> Result<Rest> {
        Ok(Rest::new(&self.ready.http)?.patient(patience))
    }

    pub(crate) fn setup_token(&self) -> Option<&str> {
        self.ready.setup_token.as_deref()
    }

    fn ready_file(&self) -> PathBuf {
        self.plan.dir.join("ready.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.plan.dir.join("node.log")
    }

    /// Starts it; it need not be ready when this returns.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        fs::create_dir_all(&self.plan.dir)?;
        let _none_yet = fs::remove_file(self.ready_file());
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut words = self.plan.prefix.clone();
        words.push(self.plan.troupe.display().to_string());
        words.extend(self.plan.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--ready-file").arg(self.ready_file());
        command.env_clear().envs(self.plan.env.iter().cloned()).env("HOME", &self.plan.dir);
        for name in ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(clock) = &self.clock {
            command.env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_NO_CACHE", "1");
            command
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("LD_PRELOAD", faketime().context("faketime is not installed")?);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.name()))?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn wait_ready(&mut self) -> Result<()> {
        let file = self.ready_file();
        let name = self.plan.name.clone();
        let child = self.child.as_mut().context("not started")?;
        let (mut told, mut ended) = (None, None);
        try_until(START, async || {
            told = read_ready(&file);
            ended = child.try_wait().ok().flatten();
            told.is_some() || ended.is_some()
        })
        .await;
        if let Some(status) = ended {
            bail!("{name} ended at its start ({status}):\n{}", tail(&self.log()));
        }
        self.ready =
            told.with_context(|| format!("{name} is not ready:\n{}", tail(&self.log())))?;
        Ok(())
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready().await
    }

    /// What it told last: a launcher may have started another process meanwhile.
    pub(crate) fn look_again(&mut self) {
        if let Some(ready) = read_ready(&self.ready_file()) {
            self.ready = Ready { setup_token: self.ready.setup_token.take(), ..ready };
        }
    }

    /// The process that works.
    pub(crate) const fn worker(&self) -> u32 {
        self.ready.pid
    }

    pub(crate) fn launcher(&self) -> Option<u32> {
        self.ready.launcher.filter(|pid| *pid != self.ready.pid)
    }

    /// Whether the working process is there.
    pub(crate) fn is_up(&mut self) -> bool {
        self.look_again();
        self.child.is_some() && is_there(self.ready.pid)
    }

    /// Waits for the launcher to bring it back, if there is one and it does.
    pub(crate) async fn comes_back(&mut self) -> bool {
        if self.is_up() {
            return true;
        }
        let launched = self.launcher().is_some_and(is_there);
        launched && try_until(START, async || self.is_up()).await
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, which: Which, signal: Signal) -> Result<()> {
        self.look_again();
        let (worker, launcher) = (self.ready.pid, self.launcher());
        // The launcher first: it must not see its child die.
        let pids = match which {
            Which::Worker => vec![Some(worker)],
            Which::Launcher => vec![launcher],
            Which::Both => vec![launcher, Some(worker)],
        };
        for pid in pids.into_iter().flatten() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process")?;
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// kill -9 of all that lives in its place; waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.signal(Which::Both, Signal::KILL)?;
        let empty = place::empty(&self.plan.namespace, END).await;
        ensure!(empty, "processes in the place of {} do not end", self.plan.name);
        self.gone().await
    }

    /// Waits for the end of everything of it.
    pub(crate) async fn gone(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let status = tokio::time::timeout(END, child.wait()).await;
            status.with_context(|| format!("{} does not end", self.plan.name))??;
        }
        let worker = self.ready.pid;
        let gone = try_until(END, async || !is_there(worker)).await;
        ensure!(gone, "process {worker} of {} does not end", self.plan.name);
        Ok(())
    }

    /// SIGTERM, then its end.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        let which = if self.launcher().is_some() { Which::Launcher } else { Which::Worker };
        self.signal(which, Signal::TERM)?;
        self.gone().await
    }

    /// Resident memory of the working process, in KiB.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.ready.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

fn read_ready(file: &Path) -> Option<Ready> {
    let told: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let pid = |field: &str| told[field].as_u64().and_then(|pid| u32::try_from(pid).ok());
    Some(Ready {
        http: told["http"].as_str()?.trim_end_matches('/').to_owned(),
        pid: pid("pid")?,
        launcher: pid("launcher"),
        setup_token: told["setup_token"].as_str().map(str::to_owned),
    })
}

/// Whether a process is there and is not just waiting to be taken note of.
pub(crate) fn is_there(pid: u32) -> bool {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    if test_kill_process(raw).is_err() {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
