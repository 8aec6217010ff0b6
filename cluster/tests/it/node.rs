//! A real node: the built binary on a free port with its own data directory.

use std::{
    ffi::OsStr,
    fs, iter,
    ops::Deref,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use troupe_store_sqlite::{SqliteOptions, Synchronous, forgetful};
pub(crate) use troupe_testkit::client::rest::{Answer, PASSWORD, PATIENCE, Person, Rest};
use troupe_testkit::try_until;

const FORGETFUL: &str = "forgetful";
const NEVER_SYNCED: &str = "never-synced";
/// Lines of a node's log that a failing test shows.
const LOG_LINES_SHOWN: usize = 200;

/// The place of one node and what it needs besides: `data`, `node.log`, `ready.json`.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::Builder::new().prefix("troupe-it-").tempdir()? })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// What all nodes of this place wrote so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("node.log")).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Seen only if the test fails.
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        println!("---- end of the node's log ----\n{}", lines[from..].join("\n"));
    }
}

/// What a kill takes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disk {
    /// The process alone: what it wrote is the kernel's.
    #[default]
    Kernel,
    /// Also what SQLite did not sync, like a loss of power.
    Forgetful,
    /// The same, and the store never syncs.
    NeverSynced,
}

impl Disk {
    /// The program on such a disk: the built one, or this one again as [`troupe_on_disk`].
    fn program(self) -> Result<Command> {
        if self == Self::Kernel {
            return Ok(troupe());
        }
        let mut command = bare(std::env::current_exe()?);
        command.args(["--exact", "node::troupe_on_disk", "--ignored", "--nocapture", "--"]);
        command.arg(if self == Self::Forgetful { FORGETFUL } else { NEVER_SYNCED });
        Ok(command)
    }
}

/// `troupe`, but SQLite stands on files that forget what was not synced. Its words follow the
/// ones of the test runner: the kind of disk, then those of the program.
#[test]
#[ignore = "started by tests that kill it"]
fn troupe_on_disk() {
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let Some(disk) = words.next() else {
        return; // Run by hand: there is nothing to do.
    };
    let synchronous = match disk.to_str() {
        Some(FORGETFUL) => Synchronous::Full,
        Some(NEVER_SYNCED) => Synchronous::Off,
        _ => panic!("there is no disk {disk:?}"),
    };
    forgetful::register();
    let file_layer = Some(forgetful::NAME.to_owned());
    let options = SqliteOptions { file_layer, synchronous, ..SqliteOptions::default() };
    let ended = troupe_cluster::run(iter::once("troupe".into()).chain(words), options);
    assert_eq!(ended, ExitCode::SUCCESS);
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeOptions {
    pub(crate) disk: Disk,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Instead of the home's own.
    pub(crate) data: Option<PathBuf>,
}

impl NodeOptions {
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }
}

/// The built program with nothing of this process's environment but what it needs to run.
///
/// `TROUPE_BIN` names another build of it.
pub(crate) fn troupe() -> Command {
    let built = || env!("CARGO_BIN_EXE_troupe").into();
    bare(std::env::var_os("TROUPE_BIN").unwrap_or_else(built))
}

fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    for name in ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) setup_token: Option<String>,
    child: Child,
    rest: Rest,
}

impl Deref for Node {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

/// How a node ended that was not to come up.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Node {
    pub(crate) async fn start(home: &Home) -> Result<Self> {
        Self::start_with(home, &NodeOptions::default()).await
    }

    pub(crate) async fn start_with(home: &Home, options: &NodeOptions) -> Result<Self> {
        match Self::attempt(home, options).await? {
            Ok(node) => Ok(node),
            Err(refused) => bail!("the node did not come up: {refused:?}"),
        }
    }

    /// Starts it, or tells how it ended instead.
    pub(crate) async fn attempt(
        home: &Home,
        options: &NodeOptions,
    ) -> Result<Result<Self, Refused>> {
        let ready = home.path().join("ready.json");
        let log = home.path().join("node.log");
        let _ = fs::remove_file(&ready);
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let before = usize::try_from(file.metadata()?.len())?;
        let mut child = options
            .disk
            .program()?
            .args(["up", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(options.data.clone().unwrap_or_else(|| home.data()))
            .arg("--ready-file")
            .arg(&ready)
            .args(&options.args)
            .env("HOME", home.path())
            .envs(options.env.iter().cloned())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("the node could not be started")?;
        let mut told: Option<Value> = None;
        let mut ended = None;
        try_until(PATIENCE, async || {
            told = fs::read(&ready).ok().and_then(|b| serde_json::from_slice(&b).ok());
            ended = child.try_wait().ok().flatten();
            told.is_some() || ended.is_some()
        })
        .await;
        if let Some(status) = ended {
            let text = home.log().get(before..).unwrap_or_default().to_owned();
            return Ok(Err(Refused { code: status.code(), text }));
        }
        let told = told.with_context(|| format!("not ready in time:\n{}", home.log()))?;
        assert_eq!(told["pid"].as_u64(), child.id().map(u64::from), "the ready file names it");
        let url = told["http"].as_str().context("no url")?.to_owned();
        let rest = Rest::new(&url)?;
        let setup_token = told["setup_token"].as_str().map(str::to_owned);
        Ok(Ok(Self { setup_token, child, rest }))
    }

    pub(crate) fn rest(&self) -> Rest {
        self.rest.clone()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM.
    pub(crate) async fn ask_to_stop(&self) -> Result<()> {
        let pid = self.child.id().context("already gone")?;
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
        Ok(())
    }

    /// Waits for its end; the exit code.
    pub(crate) async fn ended(mut self) -> Result<Option<i32>> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        Ok(status.context("it does not end")??.code())
    }

    /// SIGTERM; returns the exit code.
    pub(crate) async fn terminate(self) -> Result<Option<i32>> {
        self.ask_to_stop().await?;
        self.ended().await
    }

    /// Makes the administrator.
    pub(crate) async fn setup(&self) -> Result<Person> {
        let token = self.setup_token.as_deref().context("this node is set up already")?;
        let body = json!({"token": token, "password": PASSWORD});
        Person::of(&self.post("/api/v1/setup", None, &body).await?)
    }

    /// Healthy, ready, and an ordinary chat works.
    pub(crate) async fn assert_well(&self, who: &Person) -> Result<()> {
        for path in ["/health", "/ready"] {
            let answer = self.call("GET", path, None, None).await?;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        }
        let body = json!({"team_id": "assistant", "message": "Are you well?",
            "force_override_bot_model": "demo"});
        let ack = self.post("/api/v1/tasks", Some(who), &body).await?;
        let task = ack["task_id"].as_str().context("no task")?;
        self.settled(who, task, "COMPLETED").await
    }
}
