//! Workspaces: where a Task works, how its files are kept per turn, what changed.
//!
//! | Source | Where | Kept per turn in |
//! |---|---|---|
//! | empty | a directory of the Task | a repository beside it that is ours alone |
//! | clone | a directory of the Task | the clone, below `refs/troupe/` |
//! | existing directory, no worktree | that directory | its repository, below `refs/troupe/`; nothing if it is none |
//! | existing directory, worktree | a worktree of the Task on a branch of its own | the same |
//!
//! A token travels in the environment of one git process and is offered to the one host of the
//! URL; it stands in no URL, no file, no argument. Hooks of a repository do not run by us.

mod git;
mod locks;
mod paths;
mod remote;
mod stale;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use troupe_types::{ExecutionId, TaskId, TurnId};

use self::{
    git::{Auth, Git},
    paths::check_url,
};
pub use self::{paths::Roots, remote::clone_host, stale::StaleWorkspace};
use crate::{
    event::{DIFF_BYTES_MAX, Diff, DiffFile},
    job::{WorkspaceSource, WorkspaceSpec},
    machine::Machine,
    secret::Secrets,
    text,
};

/// How long a clone may take.
const CLONE_WAIT: Duration = Duration::from_secs(30 * 60);
/// How long any other git command may take.
const GIT_WAIT: Duration = Duration::from_secs(120);
/// Files that a diff names.
const FILES_MAX: usize = 500;
/// A name in front of every one of our refs.
const REFS: &str = "refs/troupe";

/// Makes and removes workspaces.
#[derive(Clone, Debug)]
pub struct Workspaces {
    dir: PathBuf,
    roots: Roots,
    git: Git,
}

/// A workspace that is ready.
#[derive(Clone, Debug)]
pub struct Workspace {
    task: TaskId,
    /// The Task's own directory.
    dir: PathBuf,
    path: PathBuf,
    git: Git,
    repository: Repository,
}

/// Where the files of turns are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Repository {
    /// The one that the workspace belongs to.
    Own,
    /// Ours alone, beside the workspace.
    Beside(PathBuf),
    None,
}

/// Why a workspace cannot be had.
#[derive(Debug, Error)]
pub enum WorkspaceError {
    /// The job asks for something that this device does not allow, or that makes no sense.
    #[error("{field}: {message}")]
    Refused {
        /// The field of the job's workspace.
        field: &'static str,
        /// What is wrong, and the way out.
        message: String,
    },
    /// git failed; its last words, secrets hidden.
    #[error("git {action} failed: {text}")]
    Git {
        /// Which command.
        action: String,
        /// What it said.
        text: String,
    },
    /// Another run of the Task makes the workspace, for longer than any clone may take.
    #[error("another run of this Task still makes the workspace: retry when it is done")]
    Busy,
    /// git is not here.
    #[error("git is not installed here: install it (apt-get install git)")]
    NoGit,
    /// The machine refused.
    #[error("cannot {action}")]
    Machine {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl WorkspaceError {
    fn refused(field: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { field, message: message.into() }
    }

    fn machine(action: impl Into<String>, source: io::Error) -> Self {
        Self::Machine { action: action.into(), source }
    }
}

impl Workspaces {
    /// `dir`: for everything that is ours; `roots`: below which existing directories may be
    /// used.
    #[must_use]
    pub fn new(machine: &Machine, dir: PathBuf, roots: Roots) -> Self {
        Self { git: Git::new(machine.clone(), dir.join("git-home")), dir, roots }
    }

    /// The Task's own directory: its workspace, its runtimes' private directories.
    #[must_use]
    pub fn task_dir(&self, task: TaskId) -> PathBuf {
        self.dir.join(task.to_string())
    }

    /// Makes the workspace, or finds it again. Of runs that come at the same time one makes it,
    /// the others wait: at most 34 minutes, a clone may take 30.
    ///
    /// # Errors
    /// See [`WorkspaceError`]; a clone that failed leaves nothing behind.
    pub async fn open(
        &self,
        task: TaskId,
        spec: &WorkspaceSpec,
        secrets: &Secrets,
    ) -> Result<Workspace, WorkspaceError> {
        let dir = self.task_dir(task);
        let made = crate::machine::make_private(&dir);
        made.map_err(|error| WorkspaceError::refused("source", error.to_string()))?;
        if let Some(branch) = &spec.branch {
            paths::check_branch(branch)?;
        }
        let _alone = locks::alone(&dir).await?;
        let (path, repository) = match &spec.source {
            WorkspaceSource::Empty => self.empty(&dir).await?,
            WorkspaceSource::Clone { url, token, user } => {
                let auth = self.auth(url, token.as_deref(), user.as_deref(), secrets)?;
                (self.cloned(&dir, url, spec, auth.as_ref()).await?, Repository::Own)
            }
            WorkspaceSource::Existing { path } => self.existing(task, &dir, path, spec).await?,
        };
        if repository == Repository::Own {
            self.free_index(&path, !path.starts_with(&dir)).await;
        }
        if let Err(error) = self.note_use(task, spec) {
            // The disk may be full: this turn may be the one that makes room.
            tracing::warn!(%task, %error, "the use of a workspace was not noted");
        }
        Ok(Workspace { task, dir, path, git: self.git.clone(), repository })
    }

    fn auth(
        &self,
        url: &str,
        token: Option<&str>,
        user: Option<&str>,
        secrets: &Secrets,
    ) -> Result<Option<Auth>, WorkspaceError> {
        let origin = check_url(url, self.roots.allows_local_urls())?;
        let Some(name) = token else { return Ok(None) };
        let missing = format!("the secret {name} did not come with the job");
        let token = secrets.get(name).ok_or_else(|| WorkspaceError::refused("token", missing))?;
        let Some(origin) = origin else {
            let message = "a token goes with an https:// URL only; ssh uses the device's keys";
            return Err(WorkspaceError::refused("token", message));
        };
        let user = user.unwrap_or("x-access-token").to_owned();
        Ok(Some(Auth { origin, user, token: token.clone() }))
    }

    async fn empty(&self, dir: &Path) -> Result<(PathBuf, Repository), WorkspaceError> {
        let (path, beside) = (dir.join("work"), dir.join("turns.git"));
        fs::create_dir_all(&path)
            .map_err(|e| WorkspaceError::machine(format!("make {}", path.display()), e))?;
        if !beside.join("HEAD").is_file() {
            let target = beside.to_string_lossy().into_owned();
            let made = self.git.run(dir, None, &["init", "-q", "--bare", &target], GIT_WAIT).await;
            match made {
                // Without git there is a workspace, but no diff.
                Err(WorkspaceError::NoGit) => return Ok((path, Repository::None)),
                made => made?,
            };
        }
        Ok((path, Repository::Beside(beside)))
    }

    async fn cloned(
        &self,
        dir: &Path,
        url: &str,
        spec: &WorkspaceSpec,
        auth: Option<&Auth>,
    ) -> Result<PathBuf, WorkspaceError> {
        let path = dir.join(paths::name_of(url));
        if path.join(".git").exists() {
            return Ok(path);
        }
        // A clone that was cut off by a crash is begun anew.
        let part = dir.join("clone.part");
        remove_dir(&part)?;
        let target = part.to_string_lossy().into_owned();
        let mut args = vec!["clone", "-q"];
        if let Some(branch) = &spec.branch {
            args.extend(["--branch", branch]);
        }
        args.extend(["--", url, &target]);
        let cloned = self.git.run(dir, auth, &args, CLONE_WAIT).await;
        if let Err(error) = cloned {
            remove_dir(&part)?;
            return Err(error);
        }
        fs::rename(&part, &path).map_err(|e| {
            WorkspaceError::machine(format!("move the clone to {}", path.display()), e)
        })?;
        Ok(path)
    }

    async fn existing(
        &self,
        task: TaskId,
        dir: &Path,
        path: &Path,
        spec: &WorkspaceSpec,
    ) -> Result<(PathBuf, Repository), WorkspaceError> {
        let path = self.roots.check(path)?;
        let top = self.git.run(&path, None, &["rev-parse", "--show-toplevel"], GIT_WAIT).await;
        let is_repository = top.is_ok();
        if spec.worktree {
            if !is_repository {
                let message =
                    format!("{} is no git repository: it can have no worktree", path.display());
                return Err(WorkspaceError::refused("worktree", message));
            }
            return Ok((self.worktree(task, dir, &path, spec).await?, Repository::Own));
        }
        if let Some(wanted) = &spec.branch {
            let head = ["symbolic-ref", "-q", "--short", "HEAD"];
            let now = self.git.run(&path, None, &head, GIT_WAIT).await.unwrap_or_default();
            if now.trim() != wanted {
                let message = format!(
                    "{} is on {}, not on {wanted}; it is not switched under its user: ask for a worktree",
                    path.display(),
                    if now.trim().is_empty() { "no branch" } else { now.trim() },
                );
                return Err(WorkspaceError::refused("branch", message));
            }
        }
        Ok((path, if is_repository { Repository::Own } else { Repository::None }))
    }

    async fn worktree(
        &self,
        task: TaskId,
        dir: &Path,
        repository: &Path,
        spec: &WorkspaceSpec,
    ) -> Result<PathBuf, WorkspaceError> {
        let path = dir.join("tree");
        if path.join(".git").exists() {
            return Ok(path);
        }
        let git = |args: Vec<String>| async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            self.git.run(repository, None, &args, GIT_WAIT).await
        };
        git(vec!["worktree".into(), "prune".into()]).await?;
        let branch = branch_of(task);
        let from = spec.branch.clone().unwrap_or_else(|| "HEAD".to_owned());
        let target = path.to_string_lossy().into_owned();
        let name = format!("refs/heads/{branch}");
        let known =
            git(vec!["rev-parse".into(), "-q".into(), "--verify".into(), name]).await.is_ok();
        let mut args: Vec<String> = ["worktree", "add", "-q"].map(str::to_owned).into();
        match known {
            true => args.extend([target, branch]),
            false => args.extend(["-b".to_owned(), branch, target, from]),
        }
        git(args).await?;
        Ok(path)
    }

    /// Removes all that is ours of a Task: directories, worktree, hidden refs, and its branch if
    /// nothing was committed there. An existing directory stays as it is. Safe to repeat.
    ///
    /// # Errors
    /// If files cannot be removed.
    pub async fn remove(&self, task: TaskId, spec: &WorkspaceSpec) -> Result<(), WorkspaceError> {
        self.forget(task, spec).await;
        remove_dir(&self.task_dir(task))
    }
}

impl Workspace {
    /// Where the runtime works.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps all files as they are now (ignored ones left out) under the hidden ref
    /// `refs/troupe/TASK/EXECUTION/begin` or `refs/troupe/TASK/EXECUTION/TURN`: Bots of one Task
    /// work at the same time, and each has states and an index of its own, so that none waits for
    /// another. The user's index and the checkout are not touched. `false`: there is nowhere to
    /// keep them.
    ///
    /// # Errors
    /// If git fails.
    pub async fn keep(
        &self,
        execution: ExecutionId,
        turn: Option<TurnId>,
    ) -> Result<bool, WorkspaceError> {
        if self.repository == Repository::None {
            return Ok(false);
        }
        let index = self.dir.join(format!("index-{execution}.part"));
        // One that a crash left would hold old files.
        let _ = fs::remove_file(&index);
        let _ = fs::remove_file(index.with_extension("part.lock"));
        let kept = self.keep_with(&index, &self.name_of(execution, turn), turn).await;
        // It may not have been made.
        let _ = fs::remove_file(&index);
        kept.map(|()| true)
    }

    async fn keep_with(
        &self,
        index: &Path,
        name: &str,
        turn: Option<TurnId>,
    ) -> Result<(), WorkspaceError> {
        let head = self.run(&["rev-parse", "-q", "--verify", "HEAD^{commit}"], None).await.ok();
        let parent = head.as_deref().map(str::trim).filter(|head| !head.is_empty());
        if let Some(parent) = parent {
            self.run(&["read-tree", parent], Some(index)).await?;
        }
        self.run(&["add", "--all", "--ignore-errors", "."], Some(index)).await?;
        let tree = self.run(&["write-tree"], Some(index)).await?;
        let message = turn.map_or_else(|| "begin".to_owned(), |turn| turn.to_string());
        let mut args = vec!["commit-tree", tree.trim(), "-m", &message];
        if let Some(parent) = parent {
            args.extend(["-p", parent]);
        }
        let commit = self.run(&args, None).await?;
        self.run(&["update-ref", name, commit.trim()], None).await?;
        Ok(())
    }

    /// What changed between two kept states of an execution, bounded; `None` if one is not kept or
    /// nothing did.
    ///
    /// # Errors
    /// If git fails.
    pub async fn diff(
        &self,
        execution: ExecutionId,
        from: Option<TurnId>,
        to: TurnId,
    ) -> Result<Option<Diff>, WorkspaceError> {
        if self.repository == Repository::None {
            return Ok(None);
        }
        let Some(from) = self.kept(execution, from).await else { return Ok(None) };
        let Some(name) = self.kept(execution, Some(to)).await else { return Ok(None) };
        let plain = ["diff", "--no-ext-diff", "--no-textconv", "--no-color"];
        let with = |more: &[&'static str]| -> Vec<String> {
            let args = plain.iter().chain(more).map(|arg| (*arg).to_owned());
            args.chain([from.clone(), name.clone()]).collect()
        };
        let ask = |args: Vec<String>| async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            self.run(&args, None).await
        };
        let counts = ask(with(&["--numstat", "-z", "--no-renames"])).await?;
        let words = ask(with(&["--name-status", "-z", "--no-renames"])).await?;
        let mut files = files(&counts, &words);
        if files.is_empty() {
            return Ok(None);
        }
        let patch = ask(with(&["--no-renames"])).await?;
        let truncated = patch.len() > DIFF_BYTES_MAX || files.len() > FILES_MAX;
        files.truncate(FILES_MAX);
        let patch = text::head(&patch, DIFF_BYTES_MAX).to_owned();
        Ok(Some(Diff { id: format!("diff-{to}"), tool: None, files, patch, truncated }))
    }

    /// The ref of a kept state. An attempt that began under an earlier version has its beginning
    /// where the whole Task had one.
    async fn kept(&self, execution: ExecutionId, turn: Option<TurnId>) -> Option<String> {
        let own = self.name_of(execution, turn);
        let old = turn.is_none().then(|| format!("{REFS}/{}/begin", self.task));
        for name in std::iter::once(own).chain(old) {
            if self.run(&["rev-parse", "-q", "--verify", &name], None).await.is_ok() {
                return Some(name);
            }
        }
        None
    }

    fn name_of(&self, execution: ExecutionId, turn: Option<TurnId>) -> String {
        let state = turn.map_or_else(|| "begin".to_owned(), |turn| turn.to_string());
        format!("{REFS}/{}/{execution}/{state}", self.task)
    }

    async fn run(&self, args: &[&str], index: Option<&Path>) -> Result<String, WorkspaceError> {
        let mut env = Vec::new();
        if let Repository::Beside(dir) = &self.repository {
            env.push(("GIT_DIR", dir.as_os_str()));
            env.push(("GIT_WORK_TREE", self.path.as_os_str()));
        }
        if let Some(index) = index {
            env.push(("GIT_INDEX_FILE", index.as_os_str()));
        }
        self.git.run_with(&self.path, None, args, &env, GIT_WAIT).await
    }
}

fn branch_of(task: TaskId) -> String {
    format!("troupe/{task}")
}

fn remove_dir(dir: &Path) -> Result<(), WorkspaceError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(WorkspaceError::machine(format!("remove {}", dir.display()), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// From `--numstat -z` and `--name-status -z`, both without renames.
fn files(counts: &str, words: &str) -> Vec<DiffFile> {
    let mut changes = std::collections::BTreeMap::new();
    let mut words = words.split('\0');
    while let (Some(word), Some(path)) = (words.next(), words.next()) {
        let word = match word {
            "A" => "added",
            "D" => "deleted",
            _ => "modified",
        };
        changes.insert(path, word);
    }
    let file = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        // Of a binary file there are no lines: `-`.
        let (added, removed) = (fields.next()?.parse().ok(), fields.next()?.parse().ok());
        let path = fields.next()?.to_owned();
        let change = changes.get(path.as_str()).copied().unwrap_or("modified").to_owned();
        Some(DiffFile { path, change, added, removed })
    };
    counts.split('\0').filter_map(file).collect()
}
