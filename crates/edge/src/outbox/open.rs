//! What an outbox finds on the disk when it is opened.
//!
//! Besides its log, the directory of an attempt may hold an empty file, which mostly finds a place
//! on a disk that is full: `ended-HOW`, for an end that is not in the log, and `removed`, for what
//! the disk refused to delete.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use troupe_types::Attempt;
use troupe_wire::device::AttemptKey;

use super::{Ended, ExecutionLog, LogError, Logs};
use crate::identity::sync_dir;

const REMOVED: &str = "removed";

/// The directory of an attempt.
pub(super) fn attempt_dir(root: &Path, key: AttemptKey) -> PathBuf {
    root.join(format!("{}.{}", key.execution, key.attempt))
}

fn attempt_of(name: &str) -> Option<AttemptKey> {
    let (execution, attempt) = name.rsplit_once('.')?;
    let attempt = Attempt(attempt.parse().ok()?);
    Some(AttemptKey { execution: execution.parse().ok()?, attempt })
}

/// The mark of an end, and the text of an end that only it tells.
const fn mark_of(how: Ended) -> (&'static str, &'static str) {
    match how {
        Ended::Finished => ("ended-finished", ""),
        Ended::Cancelled => ("ended-cancelled", ""),
        Ended::Lost => ("ended-lost", "the device gave it up, and its disk did not take why"),
    }
}

fn mark(dir: &Path, name: &str) -> io::Result<()> {
    fs::File::create(dir.join(name))?;
    sync_dir(dir)
}

/// Leaves word of how an attempt ended.
pub(super) fn mark_ended(dir: &Path, how: Ended) -> io::Result<()> {
    mark(dir, mark_of(how).0)
}

/// Deletes what is kept of an attempt, or leaves word that it is to go.
pub(super) fn remove_all(dir: &Path) -> io::Result<()> {
    let removed = fs::remove_dir_all(dir).and_then(|()| sync_dir(dir.parent().unwrap_or(dir)));
    if removed.is_err() {
        // Nothing can be done if the disk refuses this as well.
        let _ = mark(dir, REMOVED);
    }
    removed
}

/// Every log below a directory; the damaged ones with the reason, put aside.
pub(super) fn open_logs(dir: &Path) -> io::Result<(Logs, Vec<(String, String)>)> {
    let (mut logs, mut damaged) = (Logs::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Some(key) = attempt_of(&name) else { continue };
        if path.join(REMOVED).exists() {
            if let Err(error) = remove_all(&path) {
                tracing::warn!(attempt = %name, %error, "what is to go stays for now");
            }
            continue;
        }
        match ExecutionLog::open(&path) {
            Ok(Some(mut log)) => {
                let marks = [Ended::Cancelled, Ended::Lost, Ended::Finished];
                if let Some(how) = marks.into_iter().find(|how| path.join(mark_of(*how).0).exists())
                {
                    log.end(how, mark_of(how).1);
                }
                logs.insert(key, log);
            }
            // Never accepted: nobody was told of it.
            Ok(None) => fs::remove_dir_all(&path)?,
            Err(LogError::Io(error)) => return Err(error),
            Err(error @ LogError::Damaged { .. }) => {
                tracing::error!(attempt = %name, %error, "a log is damaged and put aside");
                fs::rename(&path, dir.join(format!("{name}.damaged")))?;
                damaged.push((name, error.to_string()));
            }
        }
    }
    Ok((logs, damaged))
}
