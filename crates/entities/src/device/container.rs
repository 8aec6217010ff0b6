//! Containers of Tasks, as rows of the directory: what Tasks want, what pools made of it.
//!
//! ```text
//! wanted -> starting -> running -> (gone)        a Task's container
//!              |  ^        `-> failed            the Task takes it away and says why
//!              `--'  its pool started anew
//! ```
//! A Task writes that it wants one, and says so again now and then; a pool of any node takes the
//! oldest one first and starts a container; the device that comes up in it takes offers of this
//! Task alone. A row is changed with compare-and-set, so that one pool has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use troupe_store::{CasError, Directory, DirectoryRow, DirectoryTable, ReadError, RowWrite};
use troupe_types::{DeviceId, TaskId, Timestamp, UserId};

/// Rows that are looked at.
const ROWS_MAX: usize = 1_000;
/// A pool that has said nothing for so long is not there.
pub const POOL_SILENT: Duration = Duration::from_secs(90);
/// So often a Task says that it still wants one.
pub const WANT_AGAIN: Duration = Duration::from_secs(10);
/// A want that was not said again for so long does not count any more.
pub const WANT_STALE: Duration = Duration::from_secs(30);

const TASK: &[u8] = b"task/";
const POOL: &[u8] = b"pool/";

/// A Task's container, or its wish for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// Version of this form.
    pub v: u8,
    /// Whose it is, alone.
    pub task: TaskId,
    /// The Task's owner: the device's, too.
    pub owner: UserId,
    /// The image; `None`: the pool's own.
    #[serde(default)]
    pub image: Option<String>,
    /// It is not taken away while it idles (`preserveExecutor`).
    #[serde(default)]
    pub keep: bool,
    /// Since when: the oldest is served first.
    pub since: Timestamp,
    /// When the Task said so last.
    pub asked_at: Timestamp,
    /// How far it is.
    pub state: ContainerState,
}

/// How far a container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ContainerState {
    /// No pool has it yet.
    Wanted,
    /// A pool starts it.
    Starting {
        /// The pool's node.
        node: String,
    },
    /// It is there.
    Running {
        /// The pool's node.
        node: String,
        /// The container's name in its engine, and the device's.
        name: String,
        /// The device in it.
        device: DeviceId,
    },
    /// It could not be started.
    Failed {
        /// A sentence for people.
        text: String,
    },
}

impl ContainerState {
    /// The node whose pool has it.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Starting { node } | Self::Running { node, .. } => Some(node),
            Self::Wanted | Self::Failed { .. } => None,
        }
    }
}

/// What a node's pool says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// Version of this form.
    pub v: u8,
    /// The node.
    pub node: String,
    /// Containers at once.
    pub max: u32,
    /// When it said so.
    pub at: Timestamp,
}

/// All rows at one moment. Each with its version, to change it.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    /// Of Tasks.
    pub tasks: Vec<(DirectoryRow, ContainerRow)>,
    /// Of pools.
    pub pools: Vec<(DirectoryRow, PoolRow)>,
}

impl Containers {
    /// Reads them.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(directory: &dyn Directory) -> Result<Self, ReadError> {
        let rows = directory.list(DirectoryTable::Container, None, None, ROWS_MAX).await?;
        let mut all = Self::default();
        for row in rows {
            if row.key.starts_with(TASK) {
                if let Ok(read) = serde_json::from_slice(&row.body) {
                    all.tasks.push((row, read));
                }
            } else if row.key.starts_with(POOL)
                && let Ok(read) = serde_json::from_slice(&row.body)
            {
                all.pools.push((row, read));
            }
        }
        Ok(all)
    }

    /// Pools that are there.
    pub fn live_pools(&self, now: Timestamp) -> impl Iterator<Item = &PoolRow> {
        self.pools.iter().map(|(_, pool)| pool).filter(move |pool| now.since(pool.at) < POOL_SILENT)
    }
}

fn body<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Writes a changed row; `false`: somebody else changed it before.
///
/// # Errors
/// The store's.
pub async fn change(
    directory: &dyn Directory,
    old: &DirectoryRow,
    new: &ContainerRow,
) -> Result<bool, CasError> {
    settled(directory.compare_and_set(RowWrite::update(old, body(new))).await.map(drop))
}

/// Writes a row that is not there yet; `false`: there is one.
///
/// # Errors
/// The store's.
pub async fn insert(directory: &dyn Directory, new: &ContainerRow) -> Result<bool, CasError> {
    let key = [TASK, new.task.uuid().as_bytes()].concat();
    let write = RowWrite::insert(DirectoryTable::Container, key, body(new));
    settled(directory.compare_and_set(write.owned_by(new.owner.uuid())).await.map(drop))
}

/// Takes a row away; `false`: somebody else changed it before.
///
/// # Errors
/// The store's.
pub async fn remove(directory: &dyn Directory, old: &DirectoryRow) -> Result<bool, CasError> {
    let removed = directory.remove(DirectoryTable::Container, &old.key, old.version, false);
    settled(removed.await)
}

/// A pool says that it is there.
///
/// # Errors
/// The store's.
pub async fn announce(
    directory: &dyn Directory,
    old: Option<&DirectoryRow>,
    pool: &PoolRow,
) -> Result<bool, CasError> {
    let write = match old {
        Some(old) => RowWrite::update(old, body(pool)),
        None => {
            let key = [POOL, pool.node.as_bytes()].concat();
            RowWrite::insert(DirectoryTable::Container, key, body(pool))
        }
    };
    settled(directory.compare_and_set(write).await.map(drop))
}

fn settled(done: Result<(), CasError>) -> Result<bool, CasError> {
    match done {
        Ok(()) => Ok(true),
        Err(CasError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The row of a Task.
///
/// # Errors
/// The store's.
pub async fn of(
    directory: &dyn Directory,
    task: TaskId,
) -> Result<Option<(DirectoryRow, ContainerRow)>, ReadError> {
    let key = [TASK, task.uuid().as_bytes()].concat();
    let row = directory.get(DirectoryTable::Container, &key).await?;
    Ok(row.and_then(|row| serde_json::from_slice(&row.body).ok().map(|read| (row, read))))
}
