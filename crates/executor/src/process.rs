//! Process trees: every program of a run lives and dies in one [`Tree`].
//!
//! | Where | How the tree is known | How it ends |
//! |---|---|---|
//! | cgroup v2 | its cgroup | `cgroup.kill` |
//! | cgroup v1 | its cgroups | freezer, SIGKILL, thaw |
//! | without the right to make one | process group, descendants, session, a variable that children inherit | SIGSTOP, SIGKILL, until none is left |
//!
//! The last way also runs after the first two, so a process that was moved out of its cgroup is
//! found, too. What can escape it: a process that, within one look ([`LOOK`]), clears its
//! environment, starts a session of its own and loses its parent, on a machine without cgroups.
//!
//! Holds I8.

mod cgroup;
pub(crate) mod proc;

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::{
    io::AsyncRead,
    process::{Child, ChildStderr, ChildStdin, Command},
};

use self::{
    cgroup::{Cgroups, Wants},
    proc::Process,
};

/// The variable that every process of a tree inherits: `OWNER/NUMBER`.
const MARKER: &str = "TROUPE_RUN";
/// How often a tree without a cgroup is looked at, so that escapees are known before they run.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How long killing may take. SIGKILL acts at once unless a process hangs in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Between two looks while killing.
const KILL_STEP: Duration = Duration::from_millis(5);
/// Joins the cgroups that it is given, then becomes the program: no moment outside of them.
const JOIN: &str = r#"n=$1; shift
while [ "$n" -gt 0 ]; do echo 0 > "$1/cgroup.procs" || exit 125; shift; n=$((n-1)); done
exec "$@""#;

/// How processes of this program's runs are held together. One per process; cheap to clone.
#[derive(Clone)]
pub struct Containment {
    owner: Arc<str>,
    cgroups: Option<Arc<Cgroups>>,
    count: Arc<AtomicU64>,
}

impl fmt::Debug for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Containment").field("owner", &self.owner).field("how", &self.how()).finish()
    }
}

impl Containment {
    /// Finds out what this process may do. `owner` names the data directory that runs belong
    /// to: letters, digits and `-` (others become `-`); [`Containment::sweep`] ends what an
    /// earlier process of the same owner left behind.
    ///
    /// Without cgroups this process becomes the reaper of its orphaned descendants.
    #[must_use]
    pub fn detect(owner: &str) -> Self {
        let owner = tidy(owner);
        let cgroups = Cgroups::detect(&owner).map(Arc::new);
        if cgroups.is_none() {
            become_reaper();
        }
        Self { owner: owner.into(), cgroups, count: Arc::default() }
    }

    /// The same without cgroups, whatever the machine offers.
    #[must_use]
    pub fn without_cgroups(owner: &str) -> Self {
        become_reaper();
        Self { owner: tidy(owner).into(), cgroups: None, count: Arc::default() }
    }

    /// In words, for `doctor`: `cgroup v2`, `cgroup v1 (freezer, pids, memory)`..
    #[must_use]
    pub fn how(&self) -> String {
        self.cgroups.as_ref().map_or_else(
            || "process groups and a reaper (no right to make cgroups)".to_owned(),
            |cgroups| cgroups.how(),
        )
    }

    /// Whether bounds on processes and memory can be set.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.limits().is_ok()
    }

    /// The same, with the reason why not.
    ///
    /// # Errors
    /// In words, for `doctor`.
    pub fn limits(&self) -> Result<(), String> {
        let none = || "there is no right to make cgroups".to_owned();
        self.cgroups.as_ref().ok_or_else(none)?.limits().map_err(str::to_owned)
    }

    /// Ends what earlier processes of the same owner left; blocks up to 5 s. Call it at start,
    /// before the first run. Returns how many processes it found.
    pub fn sweep(&self) -> usize {
        let prefix = format!("{}/", self.owner);
        let own = format!("{prefix}{}-", std::process::id());
        let mut found = 0;
        if let Some(cgroups) = &self.cgroups {
            found += cgroups.sweep(std::process::id());
        }
        let left = |p: &Process| {
            proc::marker(p.pid, MARKER)
                .is_some_and(|m| m.starts_with(&prefix) && !m.starts_with(&own))
        };
        let deadline = Instant::now() + KILL_WAIT;
        let mut seen = HashSet::new();
        loop {
            let all: Vec<Process> =
                proc::all().into_iter().filter(|p| p.alive && left(p)).collect();
            if all.is_empty() || Instant::now() > deadline {
                return found + seen.len();
            }
            for process in all {
                signal(process.pid, Signal::KILL);
                seen.insert((process.pid, process.started));
            }
            std::thread::sleep(KILL_STEP);
        }
    }

    /// Starts a program in a tree of its own.
    ///
    /// # Errors
    /// It does not start, or its cgroup cannot be made.
    pub(crate) fn spawn(&self, program: &Program) -> io::Result<Spawned> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let group = match &self.cgroups {
            Some(cgroups) => {
                Some(cgroups.make(&name, program.pids_max, program.memory_bytes_max)?)
            }
            None => None,
        };
        // A group of its own counts from nothing.
        let wants_before = if group.is_none() { Wants::now() } else { Wants::default() };
        let mut command = match &group {
            Some(group) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", JOIN, "sh"]).arg(group.dirs().len().to_string());
                command.args(group.dirs()).arg(&program.program);
                command
            }
            None => Command::new(&program.program),
        };
        command.args(&program.args).current_dir(&program.cwd);
        command.env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
        let marker = format!("{}/{name}", self.owner);
        command.env(MARKER, &marker);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut joined = None;
        if program.one_output {
            let (reader, writer) = io::pipe()?;
            command.stdout(writer.try_clone()?).stderr(writer);
            let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
            joined = Some(reader);
        }
        let mut child = command.spawn()?;
        // Our copies of the pipe's other end would keep it open.
        drop(command);
        let root = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        let root_started = proc::started(root);
        let tree = Tree(Arc::new(Inner {
            root,
            root_started,
            marker,
            group,
            wants_before,
            wanted: OnceLock::new(),
            seen: Mutex::default(),
            over: Mutex::new(false),
        }));
        let stdin = child.stdin.take();
        let stdout = match (joined, child.stdout.take()) {
            (Some(joined), _) => Some(boxed(joined)),
            (None, Some(stdout)) => Some(boxed(stdout)),
            (None, None) => None,
        };
        let stderr = child.stderr.take();
        Ok(Spawned { tree, child, stdin, stdout, stderr })
    }
}

/// What to start. The environment is exactly `env` and the tree's marker.
#[derive(Clone)]
pub(crate) struct Program {
    /// An absolute path.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// 0: no bound.
    pub(crate) pids_max: u32,
    /// 0: no bound.
    pub(crate) memory_bytes_max: u64,
    /// Standard error goes where standard output goes, in order.
    pub(crate) one_output: bool,
}

/// A started program and the ends of its pipes.
pub(crate) struct Spawned {
    pub(crate) tree: Tree,
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) stderr: Option<ChildStderr>,
}

/// Values of variables may be secrets: only their names are shown.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsStr> = self.env.iter().map(|(name, _)| name.as_os_str()).collect();
        f.debug_struct("Program")
            .field("program", &self.program)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

/// All processes of one run. Cheap to clone; the last clone's drop kills what is left.
#[derive(Clone, Debug)]
pub(crate) struct Tree(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: i32,
    /// A process of that pid that started at another time is a stranger.
    root_started: Option<u64>,
    marker: String,
    group: Option<cgroup::Group>,
    /// What the machine's own group had to do without before this run.
    wants_before: Wants,
    /// What it had to do without in the end: its group tells no more once it is removed.
    wanted: OnceLock<(bool, bool)>,
    /// Members by pid and start time (a pid alone may be somebody else's later).
    seen: Mutex<HashSet<(i32, u64)>>,
    /// Nothing is left: pids may be other people's by now.
    over: Mutex<bool>,
}

impl Tree {
    /// Looks at the tree, so that members that leave it are known; reaps its dead orphans.
    /// Only trees without a cgroup need it.
    pub(crate) fn look(&self) {
        if self.0.group.is_none() {
            self.0.members();
        }
    }

    /// SIGTERM to the process group of the first process.
    pub(crate) fn terminate(&self) {
        let over = self.0.over.lock().unwrap_or_else(PoisonError::into_inner);
        if let (false, Some(pid)) = (*over, Pid::from_raw(self.0.root)) {
            // It may be gone.
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }

    /// Kills everything and waits until nothing is left, up to 5 s. Returns how many
    /// processes besides the first were alive.
    pub(crate) async fn kill(&self) -> u32 {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.kill_all()).await.unwrap_or_default()
    }

    /// Whether the kernel killed for want of memory, and whether it refused processes, as far as
    /// a cgroup tells: the tree's own, or the one that all of this machine's runs share.
    pub(crate) fn wants(&self) -> (bool, bool) {
        self.0.wanted.get().copied().unwrap_or_else(|| self.0.wants())
    }
}

impl Inner {
    fn wants(&self) -> (bool, bool) {
        let before = self.wants_before;
        let now = self.group.as_ref().map_or_else(Wants::now, cgroup::Group::wants);
        (now.oom_kills > before.oom_kills, now.forks_refused > before.forks_refused)
    }

    /// Living members; remembers them, and reaps dead ones that are our children.
    fn members(&self) -> Vec<Process> {
        let all = proc::all();
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside: HashSet<i32> = HashSet::new();
        let mut sessions: HashSet<i32> = HashSet::new();
        let own_session = all.iter().find(|p| p.pid == me).map_or(0, |p| p.session);
        let grouped: HashSet<i32> =
            self.group.as_ref().map(cgroup::Group::pids).unwrap_or_default();
        let marked = |p: &Process| {
            p.alive && proc::marker(p.pid, MARKER).is_some_and(|marker| marker == self.marker)
        };
        let is_root = |p: &Process| p.pid == self.root && Some(p.started) == self.root_started;
        let stranger = all.iter().any(|p| p.pid == self.root && !is_root(p));
        for p in &all {
            let known = is_root(p)
                || (p.group == self.root && !stranger)
                || seen.contains(&(p.pid, p.started))
                || grouped.contains(&p.pid)
                || marked(p);
            if known && p.pid != me {
                inside.insert(p.pid);
            }
        }
        // Children of members, and those who share a session that a member started.
        loop {
            let before = inside.len();
            for p in all.iter().filter(|p| inside.contains(&p.pid)) {
                if p.session != own_session && p.session != 0 {
                    sessions.insert(p.session);
                }
            }
            for p in all.iter().filter(|p| p.pid != me) {
                if inside.contains(&p.parent) || sessions.contains(&p.session) {
                    inside.insert(p.pid);
                }
            }
            if inside.len() == before {
                break;
            }
        }
        let members: Vec<Process> = all.into_iter().filter(|p| inside.contains(&p.pid)).collect();
        seen.clear();
        seen.extend(members.iter().map(|p| (p.pid, p.started)));
        for p in members.iter().filter(|p| !p.alive && p.parent == me && p.pid != self.root) {
            reap(p.pid);
        }
        members.into_iter().filter(|p| p.alive).collect()
    }

    fn kill_all(&self) -> u32 {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if *over {
            return 0;
        }
        let mut others: HashSet<(i32, u64)> = HashSet::new();
        let deadline = Instant::now() + KILL_WAIT;
        loop {
            let members = self.members();
            others
                .extend(members.iter().filter(|p| p.pid != self.root).map(|p| (p.pid, p.started)));
            if members.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                tracing::error!(left = members.len(), "processes of a run do not die");
                break;
            }
            if let Some(group) = &self.group {
                group.kill();
            }
            // Stopped first, so that none has a child while the others die.
            members.iter().for_each(|p| signal(p.pid, Signal::STOP));
            members.iter().for_each(|p| signal(p.pid, Signal::KILL));
            std::thread::sleep(KILL_STEP);
        }
        self.wanted.get_or_init(|| self.wants());
        if let Some(group) = &self.group {
            group.remove();
        }
        *over = true;
        u32::try_from(others.len()).unwrap_or(u32::MAX)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn boxed(from: impl AsyncRead + Send + Unpin + 'static) -> Box<dyn AsyncRead + Send + Unpin> {
    Box::new(from)
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may be gone.
        let _ = kill_process(pid, signal);
    }
}

/// Takes a dead child off the process table; only called for adopted ones, whom nobody waits for.
fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Somebody else may have been faster.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

fn become_reaper() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "cannot become the reaper of orphans");
    }
}

fn tidy(owner: &str) -> String {
    owner.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect()
}

/// Finds a program by name in the directories of a search path.
pub(crate) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

/// A file that may be run.
pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
