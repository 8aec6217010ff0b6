//! Who may change a workspace: one run makes it at a time, and a git that is gone holds no index.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    task::spawn_blocking,
    time::timeout,
};
use troupe_types::Timestamp;

use super::{CLONE_WAIT, GIT_WAIT, WorkspaceError, Workspaces};
use crate::process::proc;

/// How long a run waits for another one that makes the workspace: a clone and some more.
const MAKING_WAIT: Duration = CLONE_WAIT.saturating_add(GIT_WAIT).saturating_add(GIT_WAIT);
/// In a checkout that is a person's, a lock is left alone while it is younger: whoever works there
/// from another machine or beside our process namespace cannot be seen.
const FOREIGN_AGE: Duration = Duration::from_secs(10 * 60);
/// Directories above one another that are looked at.
const DEPTH_MAX: usize = 64;

/// A file or directory by itself, whatever a process calls it.
type Id = (u64, u64);

/// Waits until no other run of this process makes the workspace of this directory, at most
/// [`MAKING_WAIT`]. A directory belongs to one process alone.
pub(super) async fn alone(dir: &Path) -> Result<OwnedMutexGuard<()>, WorkspaceError> {
    static MAKERS: Mutex<BTreeMap<PathBuf, Arc<Turn<()>>>> = Mutex::new(BTreeMap::new());
    let turn = {
        let mut makers = MAKERS.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody makes them or waits for it.
        makers.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(makers.entry(dir.to_owned()).or_default())
    };
    timeout(MAKING_WAIT, turn.lock_owned()).await.map_err(|_| WorkspaceError::Busy)
}

impl Workspaces {
    /// Removes the `index.lock` that a killed git left in a checkout: with it no git there would
    /// change anything ever again. One that may be in use stays. `foreign`: the checkout is a
    /// person's. Best effort: the run's own git says what it cannot do.
    pub(super) async fn free_index(&self, checkout: &Path, foreign: bool) {
        let args = ["rev-parse", "--absolute-git-dir", "--show-toplevel"];
        let dirs = self.git.run(checkout, None, &args, GIT_WAIT).await.unwrap_or_default();
        let dirs: Vec<PathBuf> = dirs.lines().map(PathBuf::from).collect();
        let Some(lock) = dirs.first().map(|dir| dir.join("index.lock")) else { return };
        let young = if foreign { FOREIGN_AGE } else { Duration::ZERO };
        let (path, now) = (lock.clone(), self.git.now());
        let freed = spawn_blocking(move || remove_stale(&path, &dirs, now, young)).await;
        let lock = lock.display();
        match freed.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            Ok(true) => tracing::info!(%lock, "a killed git had left a lock, which was removed"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%lock, %error, "a lock may be stale, and stays"),
        }
    }
}

/// Answers whether there was a stale one.
fn remove_stale(
    lock: &Path,
    dirs: &[PathBuf],
    now: Timestamp,
    young: Duration,
) -> io::Result<bool> {
    let Some(found) = look_at(lock)? else { return Ok(false) };
    let made = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let made = Timestamp::from_millis(i64::try_from(made.as_millis()).unwrap_or(i64::MAX));
    if now.since(made) < young || in_use(id_of(&found), dirs) {
        return Ok(false);
    }
    // Whoever held it may have ended meanwhile, and the next one begun.
    match look_at(lock)? {
        Some(still) if id_of(&still) == id_of(&found) && changed(&still) == changed(&found) => {
            fs::remove_file(lock).map(|()| true)
        }
        _ => Ok(false),
    }
}

fn look_at(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// When a file was written, and changed in any way: the next lock may have the same number.
fn changed(found: &fs::Metadata) -> [i64; 4] {
    [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()]
}

fn id_of(found: &fs::Metadata) -> Id {
    (found.dev(), found.ino())
}

/// Whether a process has the lock open, or is a git that works in one of the directories: while an
/// editor or a hook runs, git holds a lock that it has closed. Where no process can be seen, everything may be in use.
fn in_use(lock: Id, dirs: &[PathBuf]) -> bool {
    let dirs = dirs.iter().filter_map(|dir| fs::metadata(dir).ok());
    let dirs: Vec<Id> = dirs.map(|dir| id_of(&dir)).collect();
    let processes = proc::all();
    processes.is_empty()
        || processes.iter().filter(|process| process.alive).any(|process| {
            let own = PathBuf::from(format!("/proc/{}", process.pid));
            has_open(&own, lock) || (is_git(&own) && works_in(process.pid, &own, &dirs))
        })
}

/// `own`: the process below `/proc`. What cannot be read belongs to somebody else.
fn has_open(own: &Path, lock: Id) -> bool {
    let open = fs::read_dir(own.join("fd")).into_iter().flatten().flatten();
    open.filter_map(|file| fs::metadata(file.path()).ok()).any(|file| id_of(&file) == lock)
}

fn is_git(own: &Path) -> bool {
    let name = fs::read_to_string(own.join("comm")).unwrap_or_default();
    name.trim_end() == "git" || name.starts_with("git-")
}

/// Somebody else's process may work anywhere.
fn works_in(pid: i32, own: &Path, dirs: &[Id]) -> bool {
    let cwd = own.join("cwd");
    let told = proc::marker(pid, "GIT_DIR").map(|dir| cwd.join(dir));
    let words = fs::read(own.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let one = words.iter().filter_map(|word| word.strip_prefix("--git-dir="));
    let two = words.windows(2).filter(|two| two[0] == "--git-dir").map(|two| &*two[1]);
    let named = one.chain(two).map(|dir| cwd.join(dir)).chain(told);
    // Of one that has just ended nothing is found.
    let looked = fs::metadata(&cwd).err().map(|error| error.kind());
    looked == Some(io::ErrorKind::PermissionDenied)
        || named.chain([cwd.clone()]).any(|dir| lies_in(dir, dirs))
}

fn lies_in(mut path: PathBuf, dirs: &[Id]) -> bool {
    for _ in 0..DEPTH_MAX {
        match fs::metadata(&path) {
            Ok(found) if dirs.contains(&id_of(&found)) => return true,
            Ok(_) => path.push(".."),
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_waits_for_another_but_not_for_ever() {
        let dir = Path::new("one-task");
        let first = alone(dir).await.unwrap();
        let other = alone(Path::new("other-task")).await;
        assert!(other.is_ok(), "{other:?}");
        let second = alone(dir).await;
        assert!(matches!(second, Err(WorkspaceError::Busy)), "{second:?}");
        let (third, ()) = tokio::join!(alone(dir), async { drop(first) });
        assert!(third.is_ok(), "{third:?}");
    }
}
