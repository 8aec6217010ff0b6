//! Containers as devices: how a pool gets one in, and how it goes.

use troupe_domain::device::Gone;
use troupe_entities::{
    DeviceAddress,
    device::{DEVICES_MAX, DeviceError, DeviceReply},
};
use troupe_link::device::{INVITE_VALID, Invitation};
use troupe_types::{DeviceId, TaskId, UserId};
use troupe_wire::device::limits::ENROL_SECRET_BYTES;

use super::{Authority, EdgePoint, invites::InviteRow, live::random};

/// What a pool hears of a container's device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idleness {
    /// Its link is up.
    pub online: bool,
    /// What it was given and has not ended.
    pub work: usize,
    /// It was given something once.
    pub worked: bool,
}

/// An invitation that a container joins with. `Debug` shows no secret.
#[derive(Debug)]
pub struct ContainerInvitation {
    hash: [u8; 32],
    invitation: Invitation,
}

impl ContainerInvitation {
    /// The line that is told to the agent: a secret until it was used.
    #[must_use]
    pub fn line(&self) -> String {
        self.invitation.to_line()
    }
}

impl Authority {
    /// A one-time invitation for a container of this Task; `at`: where it dials.
    ///
    /// # Errors
    /// A sentence for people.
    pub async fn invite_container(
        &self,
        (task, owner): (TaskId, UserId),
        name: &str,
        at: EdgePoint,
    ) -> Result<ContainerInvitation, String> {
        let store = |_| "the store is not available".to_owned();
        let devices = self.rows.devices(owner).await.map_err(store)?;
        if self.is_full(&devices).await {
            return Err(format!("its owner has {DEVICES_MAX} devices already: revoke one first"));
        }
        let secret = random::<ENROL_SECRET_BYTES>().map_err(|problem| problem.detail)?;
        let hash = Invitation::secret_hash(&secret);
        let row = InviteRow {
            v: 1,
            owner,
            name: Some(name.to_owned()),
            task: Some(task),
            expires_at: self.clock.now().plus(INVITE_VALID),
            used: None,
        };
        self.rows.insert_invite(&hash, &row).await.map_err(store)?;
        let EdgePoint { host, port, fingerprint } = at;
        let invitation = Invitation { host, port, secret, fingerprint };
        Ok(ContainerInvitation { hash, invitation })
    }

    /// The device that joined with an invitation, once one did.
    ///
    /// # Errors
    /// A sentence for the log.
    pub async fn joined(&self, invited: &ContainerInvitation) -> Result<Option<DeviceId>, String> {
        let row = self.rows.invite(&invited.hash).await.map_err(|error| error.to_string())?;
        Ok(row.and_then(|(_, invite)| invite.used).map(|used| used.device))
    }

    /// How busy a container's device is; `None`: there is no such device.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn idleness(&self, device: DeviceId) -> Result<Option<Idleness>, DeviceError> {
        let address = DeviceAddress::new(self.router.clone(), device);
        let DeviceReply::Probed { view, worked, .. } = address.probe(None).await? else {
            return Err(DeviceError::Protocol);
        };
        let online = troupe_api::device::DevicePresence::Online;
        Ok(view.map(|view| Idleness {
            online: view.status == online,
            work: view.work.len(),
            worked,
        }))
    }

    /// No new work for a container that idles: from here on it can be taken away.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn drain_container(&self, device: DeviceId, on: bool) -> Result<(), DeviceError> {
        let address = DeviceAddress::new(self.router.clone(), device);
        let DeviceReply::Probed { settings, .. } = address.probe(None).await? else {
            return Err(DeviceError::Protocol);
        };
        let draining = on;
        address.change(troupe_domain::device::Settings { draining, ..settings }).await
    }

    /// Takes a container's device out: what runs on it ends with `gone`, and nothing of it is left
    /// in lists.
    ///
    /// # Errors
    /// A sentence for the log; repeat it.
    pub async fn retire_container(&self, device: DeviceId, gone: Gone) -> Result<(), String> {
        let store = |error: super::invites::RowError| error.to_string();
        self.rows.change_device(device, |row| row.revoked = true).await.map_err(store)?;
        self.note_revoked(device);
        let address = DeviceAddress::new(self.router.clone(), device);
        address.revoke(Some(gone)).await.map_err(|error| error.to_string())?;
        self.rows.remove_device(device).await.map_err(store)
    }
}
