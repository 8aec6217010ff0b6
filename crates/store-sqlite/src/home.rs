//! The data directory: where things lie, and the lock on it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use troupe_store::cause;

use crate::error::{SqliteOpenError, is_full};

/// The database in a data directory.
pub(crate) const DATABASE: &str = "troupe.db";

/// A data directory that this process holds. The lock goes with it.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    lock: File,
}

impl Home {
    /// Makes the directory if it is missing and takes the lock.
    pub(crate) fn take(dir: &Path) -> Result<Self, SqliteOpenError> {
        let failed = |e| sort(dir, e);
        let missing = dir.ancestors().take_while(|above| !above.exists()).count();
        fs::create_dir_all(dir.join("blobs").join("tmp")).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = lock.read_to_string(&mut holder);
                let pid = read.ok().and_then(|_| holder.trim().parse().ok());
                return Err(SqliteOpenError::Locked { dir: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        let home = Self { dir: dir.to_owned(), lock };
        home.sweep_tmp().map_err(failed)?;
        for above in dir.ancestors().skip(1).take(missing.max(1)) {
            // Best effort: it may be a directory that we may not open.
            let _ = sync_dir(if above == Path::new("") { Path::new(".") } else { above });
        }
        sync_dir(dir).map_err(failed)?;
        Ok(home)
    }

    /// Gives the directory back; nothing of this process may write to it any more.
    pub(crate) fn release(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock could not be given back; it goes with the process");
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// Removes what a crash left between writing and renaming.
    fn sweep_tmp(&self) -> io::Result<()> {
        for file in fs::read_dir(self.blobs().join("tmp"))? {
            fs::remove_file(file?.path())?;
        }
        Ok(())
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What an IO error means to somebody who wants to open the directory.
pub(crate) fn sort(dir: &Path, error: io::Error) -> SqliteOpenError {
    let dir = dir.to_owned();
    if is_full(&error) {
        return SqliteOpenError::Full { dir };
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            SqliteOpenError::NotWritable { dir, source: cause(error) }
        }
        _ => SqliteOpenError::Failed { dir, source: cause(error) },
    }
}
