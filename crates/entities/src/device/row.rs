//! A device's row in the directory: what lists read, and what is looked at before a link.

use serde::{Deserialize, Serialize};
use troupe_store::{Directory, DirectoryTable, ReadError};
use troupe_types::{DeviceId, TaskId, UserId};

/// Devices of one person that are not revoked.
pub const DEVICES_MAX: usize = 100;

/// Body of a row of `DirectoryTable::Device`; its key is the device's id, its owner the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Version of this form.
    pub v: u8,
    /// The device.
    pub device: DeviceId,
    /// Whose it is.
    pub owner: UserId,
    /// Its name, unique among its owner's.
    pub name: String,
    /// Preferred where several fit.
    #[serde(default)]
    pub is_default: bool,
    /// Out for good.
    #[serde(default)]
    pub revoked: bool,
    /// It is a container of this Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
}

/// Rows of one person that are read at most: those of revoked devices stay.
const ROWS_MAX: usize = 5_000;
/// Rows that are read at once.
const PAGE: usize = 200;

/// Devices of a person, revoked ones too, the oldest first. A row that cannot be read is left out.
///
/// # Errors
/// The store's.
pub async fn devices_of(
    directory: &dyn Directory,
    owner: UserId,
) -> Result<Vec<DeviceRow>, ReadError> {
    let (mut found, mut after) = (Vec::new(), None);
    while found.len() < ROWS_MAX {
        let owned = Some(owner.uuid());
        let rows = directory.list(DirectoryTable::Device, owned, after.as_deref(), PAGE).await?;
        let more = rows.len() == PAGE;
        after = rows.last().map(|row| row.key.clone());
        found.extend(rows.iter().filter_map(|row| serde_json::from_slice(&row.body).ok()));
        if !more {
            break;
        }
    }
    Ok(found)
}

impl DeviceRow {
    /// The version that is written.
    pub const VERSION: u8 = 1;
}
