//! The row that says that a restore is under way, or was done.
//!
//! It is written before anything else and replaced at the very end. A node looks at it before it
//! works, so nobody ever works on half a store.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;
use troupe_types::{Timestamp, Uuid};

use crate::{CasError, Directory, DirectoryRow, DirectoryTable, ReadError, RowWrite};

/// The key of the row, in the table of settings.
pub(super) const KEY: &[u8] = b"restore";

/// Where a store came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub backup: Uuid,
    /// This restore of it. What a client saw before may differ from what is here, so Tasks
    /// show themselves as other logs: theirs and this.
    pub restore: Uuid,
    /// When the backup was made.
    pub at: Timestamp,
}

/// Why a node must not work on a store.
#[derive(Debug, Error)]
pub enum StartError {
    /// A restore was begun and did not come to its end.
    #[error(
        "the store is half restored from the backup {backup}: run the restore again with the \
         same file, it goes on where it stopped"
    )]
    Half {
        /// From which backup.
        backup: Uuid,
    },
    /// A newer program wrote the row.
    #[error("the store says of its restore what this program does not understand")]
    Unknown,
    /// The row could not be read.
    #[error("the store did not tell whether it is whole")]
    Store(#[source] ReadError),
}

/// What the row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Half { backup: Uuid },
    Done(Restored),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Half { backup } => write!(f, "half {backup}"),
            Self::Done(Restored { backup, restore, at }) => {
                write!(f, "done {backup} {restore} {}", at.as_millis())
            }
        }
    }
}

impl Mark {
    fn parse(body: &[u8]) -> Option<Self> {
        let words: Vec<&str> = std::str::from_utf8(body).ok()?.split(' ').collect();
        match words.as_slice() {
            ["half", backup] => Some(Self::Half { backup: backup.parse().ok()? }),
            ["done", backup, restore, at] => Some(Self::Done(Restored {
                backup: backup.parse().ok()?,
                restore: restore.parse().ok()?,
                at: Timestamp::from_millis(at.parse().ok()?),
            })),
            _ => None,
        }
    }

    /// The row and what it says; `None` if there is no row.
    pub(super) async fn read(
        directory: &dyn Directory,
    ) -> Result<Option<(DirectoryRow, Self)>, StartError> {
        let row = directory.get(DirectoryTable::Setting, KEY).await.map_err(StartError::Store)?;
        let Some(row) = row else { return Ok(None) };
        let mark = Self::parse(&row.body).ok_or(StartError::Unknown)?;
        Ok(Some((row, mark)))
    }

    /// Writes it over `old`.
    pub(super) async fn write(
        self,
        directory: &dyn Directory,
        old: Option<&DirectoryRow>,
    ) -> Result<(), CasError> {
        let body = Bytes::from(self.to_string());
        let write = match old {
            Some(row) => RowWrite::update(row, body),
            None => RowWrite::insert(DirectoryTable::Setting, KEY, body),
        };
        directory.compare_and_set(write).await.map(drop)
    }
}

/// Whether a node may work on this store, and whether it was restored.
///
/// # Errors
/// See [`StartError`]: the node must not start.
pub async fn check_start(directory: &dyn Directory) -> Result<Option<Restored>, StartError> {
    match Mark::read(directory).await? {
        None => Ok(None),
        Some((_, Mark::Done(restored))) => Ok(Some(restored)),
        Some((_, Mark::Half { backup })) => Err(StartError::Half { backup }),
    }
}
