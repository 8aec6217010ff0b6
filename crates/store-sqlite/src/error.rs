//! Why the store does not open, and what SQLite's errors mean for callers.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;
use troupe_store::{AppendError, CasError, Cause, CorruptPart, ReadError, WriteError, cause};
use troupe_types::EntityId;

/// Why a data directory could not be opened.
#[derive(Debug, Error)]
pub enum SqliteOpenError {
    /// Another process uses it.
    #[error(
        "the data directory {} is in use by process {}; stop that one, or use another directory",
        dir.display(),
        pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// Which directory.
        dir: PathBuf,
        /// Who holds it, if the lock file says.
        pid: Option<u32>,
    },
    /// It, or a file in it, cannot be written.
    #[error("the data directory {} cannot be written", dir.display())]
    NotWritable {
        /// Which directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: Cause,
    },
    /// No room, not even for the start.
    #[error("there is no room left in the data directory {}", dir.display())]
    Full {
        /// Which directory.
        dir: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "the database {} has format {found}, this program knows up to {known}; use a newer program",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// It is a database of something else.
    #[error("the database {} does not belong to this program", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// It is damaged; restore a backup.
    #[error("the database {} is damaged: {report}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// The first thing that SQLite's check found.
        report: String,
    },
    /// Any other failure.
    #[error("the store in {} could not be opened", dir.display())]
    Failed {
        /// Which directory.
        dir: PathBuf,
        /// What failed.
        #[source]
        source: Cause,
    },
}

/// What an error of SQLite is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Full,
    Corrupt,
    NotWritable,
    /// Somebody else holds a lock, from outside.
    Busy,
    /// The statement's own fault: trying the others of a batch without it makes sense.
    Statement,
    /// The file, the system, or the unexpected: the connection is not to be trusted.
    Connection,
}

pub(crate) fn nature(error: &rusqlite::Error) -> Nature {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Nature::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Nature::Corrupt,
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Nature::NotWritable
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Nature::Busy,
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            Nature::Statement
        }
        Some(_) => Nature::Connection,
        None => Nature::Statement,
    }
}

/// The fate of a write that was not committed, or not for certain.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Full,
    /// Refused, unwritten.
    Refused(Cause),
    /// The commit itself failed.
    Unknown(Cause),
    /// Another process has raised the boot epoch.
    Usurped,
}

impl Failure {
    pub(crate) fn closed() -> Self {
        Self::Refused(cause("the store is closed"))
    }
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Refused(source) => Self::Unavailable { source },
            Failure::Unknown(source) => Self::OutcomeUnknown { source },
            Failure::Usurped => Self::Unavailable { source: usurped() },
        }
    }
}

impl From<Failure> for CasError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Refused(source) => Self::Unavailable { source },
            Failure::Unknown(source) => Self::OutcomeUnknown { source },
            Failure::Usurped => Self::Unavailable { source: usurped() },
        }
    }
}

fn usurped() -> Cause {
    cause("another process has taken over the data directory")
}

pub(crate) fn append_error(failure: Failure, at: &troupe_store::Activation) -> AppendError {
    match failure {
        Failure::Full => AppendError::Full,
        Failure::Refused(source) => AppendError::Unavailable { source },
        Failure::Unknown(source) => AppendError::OutcomeUnknown { source },
        Failure::Usurped => AppendError::Fenced { entity: at.entity(), fence: at.fence() },
    }
}

/// Why a read failed.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    Sqlite(rusqlite::Error),
    /// A checksum or an order does not hold.
    Corrupt(CorruptPart),
    /// The readers are gone or busy beyond patience.
    Refused(Cause),
}

impl From<rusqlite::Error> for ReadFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What it is as a part that is corrupt, or the cause if it is something else.
pub(crate) fn sort_read(failure: ReadFailure) -> Result<CorruptPart, Cause> {
    match failure {
        ReadFailure::Corrupt(part) => Ok(part),
        // A value of another type than its column is a damaged row.
        ReadFailure::Sqlite(
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..),
        ) => Ok(CorruptPart::Row),
        ReadFailure::Sqlite(e) if nature(&e) == Nature::Corrupt => Ok(CorruptPart::Database),
        ReadFailure::Sqlite(e) => Err(cause(e)),
        ReadFailure::Refused(source) => Err(source),
    }
}

pub(crate) fn read_error(what: &'static str) -> impl FnOnce(ReadFailure) -> ReadError {
    move |failure| match sort_read(failure) {
        Ok(part) => ReadError::CorruptRow { what, part },
        Err(source) => ReadError::Unavailable { source },
    }
}

pub(crate) fn entity_read_error(entity: EntityId) -> impl FnOnce(ReadFailure) -> ReadError {
    move |failure| match sort_read(failure) {
        Ok(part) => ReadError::Corrupt { entity, part },
        Err(source) => ReadError::Unavailable { source },
    }
}

/// Sorts an IO error of a file beside the database.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
