//! What the tests share.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use troupe_executor::{
    CommandError, CommandSpec, Containment, Decision, Events, Job, Launch, Limits, Machine,
    ModelAccess, Permissions, Prompt, RunCommand, RunHandle, Runtime, RuntimeEvent, RuntimeKind,
    Secrets, SessionId, Started, ToolOutcome, TurnEnd, WorkspaceSpec,
};
use troupe_types::{Attempt, ExecutionId, SystemClock, TaskId, TurnId, Uuid};

/// Everything that a test waits for must happen within this.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
/// The key that the fake model wants; must never be seen.
pub(crate) const KEY: &str = "sk-fake-0123456789abcdef";

/// Where the agent programs are installed; `None`: the test is skipped.
pub(crate) fn runtimes() -> Option<PathBuf> {
    let dir = std::env::var_os("TROUPE_TEST_RUNTIMES").map(PathBuf::from);
    if dir.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "TROUPE_TEST_RUNTIMES is not set, and this is CI"
        );
        println!("skipped: `cargo xtask test` installs the runtimes and sets TROUPE_TEST_RUNTIMES");
    }
    dir
}

/// A device of its own, in a directory of its own.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) machine: Machine,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Containment::detect(&owner()))
    }

    pub(crate) fn without_cgroups() -> Self {
        Self::with(Containment::without_cgroups(&owner()))
    }

    fn with(containment: Containment) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        let clock = Arc::new(SystemClock::new());
        Self { dir, machine: Machine { containment, path, login_home: None, fenced: false, clock } }
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// No file of the device has one of these.
    pub(crate) fn holds_none_of(&self, secrets: &[&str]) {
        let mut grep = std::process::Command::new("grep");
        grep.args(["-r", "-l", "-F"]).args(secrets.iter().flat_map(|secret| ["-e", secret]));
        let output = grep.arg(self.dir.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }

    pub(crate) fn launch(&self, job: Job) -> Launch {
        Launch {
            job,
            secrets: Secrets::new().with("model", KEY),
            cwd: self.work(),
            state_dir: self.dir.path().join("state"),
        }
    }

    /// Starts a shell script as the command of a job.
    pub(crate) async fn script(&self, script: &str) -> Run {
        self.script_within(script, Limits::default()).await
    }

    pub(crate) async fn script_within(&self, script: &str, limits: Limits) -> Run {
        let mut job = job(RuntimeKind::Command, "");
        job.limits = limits;
        job.command = Some(CommandSpec {
            program: "sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            stdin: String::new(),
        });
        Run::start(&self.commands(), self.launch(job)).await
    }

    pub(crate) fn commands(&self) -> troupe_executor::Commands {
        let allowed = BTreeMap::from([("sh".to_owned(), PathBuf::from("/bin/sh"))]);
        troupe_executor::Commands::new(self.machine.clone(), allowed)
    }
}

fn owner() -> String {
    format!("test-{}", Uuid::new_v4().simple())
}

pub(crate) fn job(runtime: RuntimeKind, prompt: &str) -> Job {
    Job {
        task: TaskId::from_uuid(Uuid::new_v4()),
        turn: TurnId::from_uuid(Uuid::new_v4()),
        execution: ExecutionId::from_uuid(Uuid::new_v4()),
        attempt: Attempt::FIRST,
        bot: "bot".to_owned(),
        runtime,
        instructions: String::new(),
        prompt: Prompt::text(prompt),
        history: String::new(),
        previous: None,
        session: None,
        model: None,
        permissions: Permissions::Ask,
        grants: Vec::new(),
        mcp_servers: BTreeMap::new(),
        skills: Vec::new(),
        skill_texts: Vec::new(),
        workspace: WorkspaceSpec::default(),
        command: None,
        members: Vec::new(),
        env: BTreeMap::new(),
        limits: Limits::default(),
    }
}

pub(crate) fn model(base_url: String) -> ModelAccess {
    ModelAccess {
        model: "fake-model".to_owned(),
        small_model: None,
        base_url: Some(base_url),
        key: Some("model".to_owned()),
        bearer: false,
        retries: 1,
    }
}

/// A run, and all that it said so far.
pub(crate) struct Run {
    pub(crate) handle: RunHandle,
    pub(crate) events: Events,
    pub(crate) seen: Vec<RuntimeEvent>,
}

impl Run {
    pub(crate) async fn start(runtime: &dyn Runtime, launch: Launch) -> Self {
        let Started { handle, events } = runtime.start(launch).await.unwrap();
        Self { handle, events, seen: Vec::new() }
    }

    /// Reads until an event fits; a granted tool that does not is let run.
    pub(crate) async fn until(&mut self, fits: impl Fn(&RuntimeEvent) -> bool) -> RuntimeEvent {
        let wait = tokio::time::timeout(WAIT, async {
            loop {
                let event = self.events.next().await;
                let Some(event) = event else { panic!("the run ended: {:#?}", self.seen) };
                self.seen.push(event.clone());
                if fits(&event) {
                    return event;
                }
                if let RuntimeEvent::Granted { id } = event {
                    kept(&self.handle, id, None).await.unwrap();
                }
            }
        });
        match wait.await {
            Ok(event) => event,
            Err(_) => panic!("nothing fits in time: {:#?}", self.seen),
        }
    }

    pub(crate) async fn turn_end(&mut self) -> TurnEnd {
        let event = self.until(|event| matches!(event, RuntimeEvent::TurnEnded(_))).await;
        let RuntimeEvent::TurnEnded(end) = event else { unreachable!() };
        end
    }

    /// Reads to the end; the last event is `Exited`.
    pub(crate) async fn exit(&mut self) -> troupe_executor::Exit {
        let event = self.until(|event| matches!(event, RuntimeEvent::Exited(_))).await;
        let RuntimeEvent::Exited(exit) = event else { unreachable!() };
        assert!(self.events.next().await.is_none(), "nothing follows the exit");
        exit
    }

    /// The text of the Bot itself so far.
    pub(crate) fn text(&self) -> String {
        let text = |event: &RuntimeEvent| match event {
            RuntimeEvent::Text { text, parent: None } => Some(text.clone()),
            _ => None,
        };
        self.seen.iter().filter_map(text).collect()
    }
}

/// Whether a process lives (a zombie does not).
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').is_some_and(|at| !stat[at + 1..].trim_start().starts_with('Z'))
}

/// Pids that a script wrote into files of this directory.
pub(crate) fn pids(dir: &Path) -> Vec<i32> {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    let named = files.filter(|file| file.file_name().to_string_lossy().ends_with(".pid"));
    let texts = named.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}

pub(crate) async fn approval(run: &mut Run) -> troupe_executor::ApprovalRequest {
    let event = run.until(|event| matches!(event, RuntimeEvent::Approval(_))).await;
    let RuntimeEvent::Approval(request) = event else { unreachable!() };
    request
}

pub(crate) async fn approve(run: &Run, id: &str, decision: Decision) -> Result<(), CommandError> {
    run.handle.tell(RunCommand::Approve { id: id.to_owned(), decision }).await
}

/// The next tool that runs because it was allowed before: its name.
pub(crate) async fn granted(run: &mut Run) -> String {
    let event = run.until(|event| matches!(event, RuntimeEvent::Granted { .. })).await;
    let RuntimeEvent::Granted { id } = event else { unreachable!() };
    id
}

/// Says that it is kept, or not, that a granted tool was called.
pub(crate) async fn kept(
    handle: &RunHandle,
    id: String,
    error: Option<&str>,
) -> Result<(), CommandError> {
    handle.tell(RunCommand::Kept { id, error: error.map(str::to_owned) }).await
}

pub(crate) fn session(run: &Run) -> SessionId {
    let session = |event: &RuntimeEvent| match event {
        RuntimeEvent::Session(info) => Some(info.session.clone()),
        _ => None,
    };
    run.seen.iter().find_map(session).unwrap()
}

pub(crate) fn outcomes(run: &Run) -> Vec<(ToolOutcome, String)> {
    let ended = |event: &RuntimeEvent| match event {
        RuntimeEvent::ToolEnded { outcome, output, .. } => Some((*outcome, output.clone())),
        _ => None,
    };
    run.seen.iter().filter_map(ended).collect()
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat[stat.rfind(')').unwrap() + 1..].split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// kill -9 of the runtime that a process runs below.
pub(crate) fn kill_runtime_of(process: i32) {
    let me = i32::try_from(std::process::id()).unwrap();
    let mut runtime = process;
    while parent(runtime) != me {
        runtime = parent(runtime);
    }
    let killed = std::process::Command::new("kill").args(["-9", &runtime.to_string()]).status();
    assert!(killed.unwrap().success());
}
