//! Rows that are not entities: users, keys, sessions, one-use tokens, settings.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_types::Uuid;

use crate::error::{CasError, InvalidWrite, ReadError};

/// Largest body of a directory row, in bytes.
pub const ROW_BYTES_MAX: usize = 64 * 1024;
/// Largest key of a directory row, in bytes.
pub const ROW_KEY_BYTES_MAX: usize = 512;

/// The tables; the numbers lie on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DirectoryTable {
    /// Users by id.
    User = 1,
    /// Lower-cased user names; the body is the user's id. What makes a name unique.
    UserName = 2,
    /// API keys by the hash of their secret; owned by their user.
    ApiKey = 3,
    /// Logins (families of refresh tokens) by id; owned by their user.
    Session = 4,
    /// One-use tokens (setup, join) by the hash of their secret.
    OneUse = 5,
    /// Named settings of the cluster.
    Setting = 6,
    /// Memberships of users in groups; owned by their user.
    Membership = 7,
    /// What administrators did, newest first; kept for a year.
    Audit = 8,
    /// Devices by id; owned by their user.
    Device = 9,
    /// Containers of Tasks, and the pools that make them.
    Container = 10,
    /// Git tokens of users by user and host; owned by their user.
    GitToken = 11,
}

impl DirectoryTable {
    /// The number on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The table with this number on disk.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::User),
            2 => Some(Self::UserName),
            3 => Some(Self::ApiKey),
            4 => Some(Self::Session),
            5 => Some(Self::OneUse),
            6 => Some(Self::Setting),
            7 => Some(Self::Membership),
            8 => Some(Self::Audit),
            9 => Some(Self::Device),
            10 => Some(Self::Container),
            11 => Some(Self::GitToken),
            _ => None,
        }
    }
}

/// A row. `Debug` shows neither key nor body: they may be hashes of secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct DirectoryRow {
    /// Where it is.
    pub table: DirectoryTable,
    /// Its key, unique in the table.
    pub key: Bytes,
    /// Whose it is; fixed when the row is made.
    pub owner: Option<Uuid>,
    /// 1 when made, one more with each change.
    pub version: u64,
    /// What it says; the store never looks inside.
    pub body: Bytes,
}

impl fmt::Debug for DirectoryRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectoryRow({:?}, version {})", self.table, self.version)
    }
}

/// A row to be written if its version is the expected one.
#[derive(Clone)]
pub struct RowWrite {
    /// Where.
    pub table: DirectoryTable,
    /// Which, at most [`ROW_KEY_BYTES_MAX`].
    pub key: Bytes,
    /// Whose; looked at only when the row is made.
    pub owner: Option<Uuid>,
    /// The version that must be there; 0 means that there must be no row.
    pub expected: u64,
    /// The new body, at most [`ROW_BYTES_MAX`].
    pub body: Bytes,
    /// Whether readers of [`Directory::revocations_since`] are told.
    pub announce: bool,
}

impl RowWrite {
    /// A row that must not exist yet.
    pub fn insert(table: DirectoryTable, key: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        let (key, body) = (key.into(), body.into());
        Self { table, key, owner: None, expected: 0, body, announce: false }
    }

    /// The successor of a row that was read.
    #[must_use]
    pub fn update(row: &DirectoryRow, body: impl Into<Bytes>) -> Self {
        Self {
            table: row.table,
            key: row.key.clone(),
            owner: row.owner,
            expected: row.version,
            body: body.into(),
            announce: false,
        }
    }

    /// The same, owned by this user, so that it is listed with the user's rows.
    #[must_use]
    pub fn owned_by(mut self, owner: Uuid) -> Self {
        self.owner = Some(owner);
        self
    }

    /// The same, told to all gateways: a revocation or a changed membership.
    #[must_use]
    pub fn announced(mut self) -> Self {
        self.announce = true;
        self
    }
}

impl fmt::Debug for RowWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowWrite({:?}, expects version {})", self.table, self.expected)
    }
}

/// How far a reader of announced changes has come. Opaque; [`Self::START`] is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeCursor(pub u64);

impl ChangeCursor {
    /// Before the first change.
    pub const START: Self = Self(0);
}

/// An announced change: read the row again.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: DirectoryTable,
    /// Which row; it may be gone.
    pub key: Bytes,
    /// Whose.
    pub owner: Option<Uuid>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({:?}, owner {:?})", self.table, self.owner)
    }
}

/// Announced changes and where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In the order in which they happened, at most as many as asked for.
    pub changes: Vec<Change>,
    /// For the next call; unchanged if there was nothing.
    pub next: ChangeCursor,
}

/// Rows with compare-and-set.
///
/// - **Linearizable per row.** Of two writes that expect one version at most one succeeds.
/// - **Durable** after `Ok`, like a journal entry.
/// - Nothing spans rows: a unique name is a row of its own, written first, and a crash between
///   two rows leaves a state that the next attempt must be able to go on from.
///
/// Versions of a removed row start at 1 again when its key is used again.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// The row, or `None`.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn get(
        &self,
        table: DirectoryTable,
        key: &[u8],
    ) -> Result<Option<DirectoryRow>, ReadError>;

    /// Writes a row if it is at the expected version; returns the new version.
    ///
    /// # Errors
    /// [`CasError::Conflict`] if it is not; after `OutcomeUnknown` read the row.
    async fn compare_and_set(&self, write: RowWrite) -> Result<u64, CasError>;

    /// Removes a row that is at this version.
    ///
    /// # Errors
    /// As [`compare_and_set`](Self::compare_and_set); a row that is gone is `Conflict` with 0.
    async fn remove(
        &self,
        table: DirectoryTable,
        key: &[u8],
        expected: u64,
        announce: bool,
    ) -> Result<(), CasError>;

    /// The first `limit` rows of a table with keys above `after`, in order of the key; of one
    /// owner if one is given.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn list(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DirectoryRow>, ReadError>;

    /// Changes that were announced after `cursor`, oldest first. Every announced change that
    /// was acked is told to every reader at least once; some may be told twice.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn revocations_since(
        &self,
        cursor: ChangeCursor,
        limit: usize,
    ) -> Result<Changes, ReadError>;

    /// The cursor behind everything announced so far: where a new reader starts.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn revocations_now(&self) -> Result<ChangeCursor, ReadError>;

    /// Takes a row away for good; of any number of callers one gets it. What consumes one-use
    /// tokens.
    ///
    /// # Errors
    /// After `OutcomeUnknown` the row may be gone without anyone having got it.
    async fn take(
        &self,
        table: DirectoryTable,
        key: &[u8],
    ) -> Result<Option<DirectoryRow>, CasError> {
        let row = self.get(table, key).await;
        let Some(row) = row.map_err(|e| CasError::Unavailable { source: crate::cause(e) })? else {
            return Ok(None);
        };
        match self.remove(table, key, row.version, false).await {
            Ok(()) => Ok(Some(row)),
            Err(CasError::Conflict { current: 0 }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Sizes that every implementation checks before it writes.
///
/// # Errors
/// The first size that is too large.
pub fn check_row(key: &[u8], body: &[u8]) -> Result<(), InvalidWrite> {
    let check = |bytes: usize, max: usize| {
        if bytes > max { Err(InvalidWrite::TooLarge { bytes, max }) } else { Ok(()) }
    };
    check(key.len(), ROW_KEY_BYTES_MAX)?;
    check(body.len(), ROW_BYTES_MAX)
}
