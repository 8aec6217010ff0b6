//! Workspaces that nobody used for long: found by a file in each of them, set aside, removed; and
//! what is left of one in a repository that stays.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use troupe_types::{TaskId, Timestamp};

use super::{GIT_WAIT, REFS, WorkspaceError, Workspaces, branch_of, remove_dir};
use crate::job::{WorkspaceSource, WorkspaceSpec};

/// Beside the files: how the workspace was made. Its time is that of the last turn's begin.
const FILE: &str = "workspace.json";
/// Behind the name of one that is on its way out.
const ASIDE: &str = ".gone";

/// A workspace that nobody used for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleWorkspace {
    /// Whose it was.
    pub task: TaskId,
    /// How it was made.
    spec: WorkspaceSpec,
    /// An earlier process set it aside.
    aside: bool,
}

impl Workspaces {
    /// Notes that a turn begins here.
    pub(super) fn note_use(&self, task: TaskId, spec: &WorkspaceSpec) -> io::Result<()> {
        let dir = self.task_dir(task);
        let (file, text) = (dir.join(FILE), serde_json::to_vec(spec)?);
        if fs::read(&file).is_ok_and(|old| old == text) {
            // Its time alone: that takes no room.
            let now = self.git.now().as_millis().try_into().unwrap_or_default();
            let now = UNIX_EPOCH + Duration::from_millis(now);
            return fs::File::options().write(true).open(file)?.set_modified(now);
        }
        let part = dir.join("workspace.part");
        fs::write(&part, text)?;
        fs::rename(part, file)
    }

    /// Workspaces in which no turn began for so long, those that are to be kept left out; and those
    /// that an earlier process had set aside. Reads the disk.
    #[must_use]
    pub fn stale(&self, unused: Duration) -> Vec<StaleWorkspace> {
        let now = self.git.now();
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let stale = entries.filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (name, aside) = match name.strip_suffix(ASIDE) {
                Some(name) => (name, true),
                None => (name.as_str(), false),
            };
            let task: TaskId = name.parse().ok()?;
            let file = entry.path().join(FILE);
            let used = fs::metadata(&file).or_else(|_| entry.metadata()).ok()?.modified().ok()?;
            let used = used.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let used = Timestamp::from_millis(i64::try_from(used).unwrap_or(i64::MAX));
            let age = now.since(used);
            // One of an earlier version: it is not known how it was made.
            let read = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let spec: WorkspaceSpec = read.unwrap_or_default();
            let due = aside || (age >= unused && !spec.keep);
            due.then_some(StaleWorkspace { task, spec, aside })
        });
        stale.collect()
    }

    fn aside(&self, task: TaskId) -> PathBuf {
        self.dir.join(format!("{task}{ASIDE}"))
    }

    /// Takes it out of the way at once: the Task's next turn makes a new one.
    ///
    /// # Errors
    /// The file system's.
    pub fn set_aside(&self, stale: &StaleWorkspace) -> io::Result<()> {
        if stale.aside {
            return Ok(());
        }
        match fs::rename(self.task_dir(stale.task), self.aside(stale.task)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes one that was set aside, and what the repository knows of it. Safe to repeat.
    ///
    /// # Errors
    /// If files cannot be removed.
    pub async fn discard(&self, stale: &StaleWorkspace) -> Result<(), WorkspaceError> {
        // One that a turn has made again since has its refs in the same place.
        if !self.task_dir(stale.task).exists() {
            self.forget(stale.task, &stale.spec).await;
        }
        remove_dir(&self.aside(stale.task))
    }

    /// Removes what the repository of an existing directory knows of a Task.
    pub(super) async fn forget(&self, task: TaskId, spec: &WorkspaceSpec) {
        let dir = self.task_dir(task);
        if let WorkspaceSource::Existing { path } = &spec.source
            && let Ok(path) = self.roots.check(path)
        {
            let run = |args: Vec<String>| {
                let path = path.clone();
                async move {
                    let args: Vec<&str> = args.iter().map(String::as_str).collect();
                    self.git.run(&path, None, &args, GIT_WAIT).await
                }
            };
            let tree = dir.join("tree").to_string_lossy().into_owned();
            // Each of them may be gone already.
            let _ = run(vec!["worktree".into(), "remove".into(), "--force".into(), tree]).await;
            let _ = run(vec!["worktree".into(), "prune".into()]).await;
            if spec.worktree {
                // Refused by git itself while it holds commits of its own.
                let _ = run(vec!["branch".into(), "-q".into(), "-d".into(), branch_of(task)]).await;
            }
            // Those of earlier versions, too: they had no execution in them.
            let prefix = format!("{REFS}/{task}/");
            let list = vec!["for-each-ref".into(), "--format=%(refname)".into(), prefix];
            for name in run(list).await.unwrap_or_default().lines() {
                let _ = run(vec!["update-ref".into(), "-d".into(), name.to_owned()]).await;
            }
        }
    }
}
