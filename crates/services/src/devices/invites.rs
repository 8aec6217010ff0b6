//! Rows of invitations and of devices.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use troupe_api::Problem;
use troupe_entities::device::{DeviceRow, devices_of};
use troupe_store::{CasError, Directory, DirectoryRow, DirectoryTable, ReadError, RowWrite};
use troupe_types::{DeviceId, TaskId, Timestamp, UserId};

/// What selectors call any container.
pub(super) const CONTAINER: &str = "container";

/// Tries of a change that others overtook.
const TRIES_MAX: usize = 8;

/// Body of an invitation; its key is `device-invite/` and the hash of its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InviteRow {
    pub(super) v: u8,
    pub(super) owner: UserId,
    #[serde(default)]
    pub(super) name: Option<String>,
    /// It is for a container of this Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<TaskId>,
    pub(super) expires_at: Timestamp,
    /// Who used it: hash of the request, hex; device; its name.
    #[serde(default)]
    pub(super) used: Option<Used>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Used {
    pub(super) request: String,
    pub(super) device: DeviceId,
    pub(super) name: String,
}

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("the store could not be read")]
    Read(#[from] ReadError),
    #[error("the store could not be written")]
    Write(#[source] CasError),
    #[error("a row cannot be read")]
    Damaged,
    #[error("others changed it all the time")]
    Contended,
}

impl From<RowError> for Problem {
    fn from(error: RowError) -> Self {
        tracing::warn!(%error, "a row of a device");
        let mut problem = Self::new(503, "store", "the store is not available; repeat later");
        problem.retry_after = Some(5);
        problem
    }
}

/// The rows, with compare-and-set.
#[derive(Clone, Debug)]
pub(super) struct Rows(pub(super) Arc<dyn Directory>);

impl Rows {
    pub(super) fn invite_key(hash: &[u8; 32]) -> Vec<u8> {
        [b"device-invite/", hash.as_slice()].concat()
    }

    fn read<T: for<'a> Deserialize<'a>>(row: &DirectoryRow) -> Result<T, RowError> {
        serde_json::from_slice(&row.body).map_err(|_| RowError::Damaged)
    }

    fn body<T: Serialize>(value: &T) -> Vec<u8> {
        serde_json::to_vec(value).unwrap_or_default()
    }

    /// `false`: something else is there.
    async fn write(&self, write: RowWrite) -> Result<bool, RowError> {
        match self.0.compare_and_set(write).await {
            Ok(_) => Ok(true),
            Err(CasError::Conflict { .. }) => Ok(false),
            Err(error) => Err(RowError::Write(error)),
        }
    }

    pub(super) async fn insert_invite(
        &self,
        hash: &[u8; 32],
        row: &InviteRow,
    ) -> Result<bool, RowError> {
        let write =
            RowWrite::insert(DirectoryTable::OneUse, Self::invite_key(hash), Self::body(row));
        self.write(write.owned_by(row.owner.uuid())).await
    }

    pub(super) async fn invite(
        &self,
        hash: &[u8; 32],
    ) -> Result<Option<(DirectoryRow, InviteRow)>, RowError> {
        let row = self.0.get(DirectoryTable::OneUse, &Self::invite_key(hash)).await?;
        row.map(|row| Ok((row.clone(), Self::read(&row)?))).transpose()
    }

    /// `false`: somebody else used it meanwhile.
    pub(super) async fn use_invite(
        &self,
        row: &DirectoryRow,
        invite: &InviteRow,
    ) -> Result<bool, RowError> {
        self.write(RowWrite::update(row, Self::body(invite))).await
    }

    pub(super) async fn device(
        &self,
        device: DeviceId,
    ) -> Result<Option<(DirectoryRow, DeviceRow)>, RowError> {
        let row = self.0.get(DirectoryTable::Device, device.uuid().as_bytes()).await?;
        row.map(|row| Ok((row.clone(), Self::read(&row)?))).transpose()
    }

    /// The row is there when it returns, whoever wrote it.
    pub(super) async fn insert_device(&self, row: &DeviceRow) -> Result<(), RowError> {
        let key = row.device.uuid().as_bytes().to_vec();
        let write = RowWrite::insert(DirectoryTable::Device, key, Self::body(row));
        self.write(write.owned_by(row.owner.uuid())).await.map(|_| ())
    }

    /// Devices of a person, those that were revoked too.
    pub(super) async fn devices(&self, owner: UserId) -> Result<Vec<DeviceRow>, RowError> {
        Ok(devices_of(self.0.as_ref(), owner).await?)
    }

    /// Takes the row of a container's device away.
    pub(super) async fn remove_device(&self, device: DeviceId) -> Result<(), RowError> {
        let Some((row, _)) = self.device(device).await? else { return Ok(()) };
        let removed = self.0.remove(DirectoryTable::Device, &row.key, row.version, true).await;
        match removed {
            Ok(()) | Err(CasError::Conflict { current: 0 }) => Ok(()),
            Err(error) => Err(RowError::Write(error)),
        }
    }

    /// Changes a device's row.
    pub(super) async fn change_device(
        &self,
        device: DeviceId,
        change: impl Fn(&mut DeviceRow),
    ) -> Result<(), RowError> {
        for _ in 0..TRIES_MAX {
            let Some((row, mut body)) = self.device(device).await? else { return Ok(()) };
            let before = body.clone();
            change(&mut body);
            if body == before {
                return Ok(());
            }
            let write = RowWrite::update(&row, Self::body(&body)).announced();
            if self.write(write).await? {
                return Ok(());
            }
        }
        Err(RowError::Contended)
    }
}

/// A name that is free among these, from what the machine calls itself.
pub(super) fn free_name(wanted: &str, taken: &[DeviceRow]) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut base: String = wanted.chars().map(|c| if fits(c) { c } else { '-' }).take(48).collect();
    base = base.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    if base.is_empty() {
        "device".clone_into(&mut base);
    }
    let is_reserved = |name: &str| name == CONTAINER;
    let is_taken =
        |name: &str| is_reserved(name) || taken.iter().any(|row| !row.revoked && row.name == name);
    let numbered = |n: u32| if n == 1 { base.clone() } else { format!("{base}-{n}") };
    (1..).map(numbered).find(|name| !is_taken(name)).unwrap_or(base.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_free_and_readable() {
        let row = |name: &str| DeviceRow {
            v: DeviceRow::VERSION,
            device: DeviceId::derived(&[name]),
            owner: UserId::derived(&["ada"]),
            name: name.to_owned(),
            is_default: false,
            revoked: false,
            task: None,
        };
        assert_eq!(free_name("Ada's laptop", &[]), "Ada-s-laptop");
        assert_eq!(free_name("box", &[row("box"), row("box-2")]), "box-3");
        assert_eq!(free_name("???", &[]), "device");
        assert_eq!(free_name("container", &[]), "container-2");
        let gone = DeviceRow { revoked: true, ..row("box") };
        assert_eq!(free_name("box", &[gone]), "box");
    }
}
