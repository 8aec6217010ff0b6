//! The use cases of devices over their entities.

use std::sync::Arc;

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use troupe_api::{
    Problem,
    device::{DeviceInvitation, DevicePatch, DeviceView, InvitationView, InviteDevice},
    task::Page,
};
use troupe_domain::device::{DeviceRefusal, Settings};
use troupe_entities::{
    DeviceAddress,
    device::{DeviceError, DeviceReply, DeviceRow},
};
use troupe_link::device::{INVITE_VALID, Invitation};
use troupe_sharding::Router;
use troupe_store::Directory;
use troupe_types::{Clock, DeviceId, Timestamp};
use troupe_wire::device::limits::ENROL_SECRET_BYTES;

use super::{
    Authority, Devices,
    invites::{CONTAINER, InviteRow, Rows},
};
use crate::{caller::Caller, tasks::ask_problem};

/// Where devices come in.
#[derive(Clone, Debug)]
pub struct EdgePoint {
    /// A name or an address that machines can reach.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// SHA-256 of the device CA's certificate.
    pub fingerprint: [u8; 32],
}

/// The use cases of devices.
#[derive(Debug)]
pub struct LiveDevices {
    rows: Rows,
    router: Router,
    clock: Arc<dyn Clock>,
    authority: Arc<Authority>,
    /// `None`: this node does not know where devices come in.
    edge: Option<EdgePoint>,
}

fn unknown() -> Problem {
    Problem::not_found("device")
}

fn device_problem(error: &DeviceError) -> Problem {
    match error {
        DeviceError::Refused(DeviceRefusal::NotFound) => unknown(),
        DeviceError::Refused(DeviceRefusal::Invalid { field, message }) => {
            Problem::invalid(field, message.clone())
        }
        DeviceError::Refused(refusal) => Problem::new(409, "wrong_state", refusal.to_string()),
        DeviceError::Ask(fate) => ask_problem(fate),
        DeviceError::Stale | DeviceError::Protocol => {
            Problem::new(500, "internal", "the device's answer made no sense")
        }
    }
}

impl LiveDevices {
    /// Over the entities behind `router`.
    #[must_use]
    pub fn new(
        directory: Arc<dyn Directory>,
        router: Router,
        clock: Arc<dyn Clock>,
        authority: Arc<Authority>,
        edge: Option<EdgePoint>,
    ) -> Self {
        Self { rows: Rows(directory), router, clock, authority, edge }
    }

    async fn probe(&self, row: &DeviceRow) -> Result<(DeviceView, Settings), Problem> {
        let address = DeviceAddress::new(self.router.clone(), row.device);
        match address.probe(None).await.map_err(|error| device_problem(&error))? {
            DeviceReply::Probed { view: Some(mut view), settings, .. } => {
                view.is_default = row.is_default;
                Ok((*view, settings))
            }
            // Enrolment was cut off between the row and the entity.
            DeviceReply::Probed { view: None, .. } => Err(unknown()),
            _ => Err(device_problem(&DeviceError::Protocol)),
        }
    }

    /// The one access check: devices of the caller, by id, name or alias.
    async fn find(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<(DeviceRow, DeviceView, Settings), Problem> {
        let rows = self.rows.devices(caller.user).await?;
        let live = || rows.iter().filter(|row| !row.revoked);
        let named = live().find(|row| row.name == text || row.device.to_string() == text);
        if let Some(row) = named {
            let (view, settings) = self.probe(row).await?;
            return Ok((row.clone(), view, settings));
        }
        for row in live() {
            if let Ok((view, settings)) = self.probe(row).await
                && !view.alias.is_empty()
                && view.alias == text
            {
                return Ok((row.clone(), view, settings));
            }
        }
        Err(unknown())
    }

    /// For revoking: what has a row is there, whatever became of its entity. By its id also a
    /// device that was revoked, so that what failed half way can be repeated.
    async fn find_row(&self, caller: &Caller, text: &str) -> Result<DeviceRow, Problem> {
        let rows = self.rows.devices(caller.user).await?;
        let named = rows.iter().find(|row| !row.revoked && row.name == text);
        let found = named.or_else(|| rows.iter().find(|row| row.device.to_string() == text));
        match found {
            Some(row) => Ok(row.clone()),
            None => self.find(caller, text).await.map(|(row, ..)| row),
        }
    }

    /// A word names one device of a person: what is meant for it would run on either of two.
    async fn check_alias(
        &self,
        caller: &Caller,
        device: DeviceId,
        alias: &str,
    ) -> Result<(), Problem> {
        if alias == CONTAINER {
            return Err(Problem::invalid("alias", "`container` stands for any container."));
        }
        match self.find(caller, alias).await {
            Ok((row, ..)) if row.device != device => {
                Err(Problem::invalid("alias", format!("`{alias}` is another of your devices.")))
            }
            Err(problem) if problem.status != 404 => Err(problem),
            _ => Ok(()),
        }
    }

    fn point(&self, address: Option<&str>) -> Result<(String, u16, [u8; 32]), Problem> {
        let Some(edge) = &self.edge else {
            let detail = "this node takes no devices and knows no door: ask one with the role \
                          `edge`, or name the doors of the others in `edge.addresses`";
            return Err(Problem::new(503, "no_edge", detail));
        };
        let Some(address) = address else {
            return Ok((edge.host.clone(), edge.port, edge.fingerprint));
        };
        let bad = || Problem::invalid("address", "Write host:port, as the machine reaches it.");
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => (host, port.parse().map_err(|_| bad())?),
            _ => (address, edge.port),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.len() > 255 || host.contains(odd) {
            return Err(bad());
        }
        Ok((host.to_owned(), port, edge.fingerprint))
    }
}

fn invitation_hash(id: &str) -> Option<[u8; 32]> {
    BASE64URL_NOPAD.decode(id.as_bytes()).ok()?.try_into().ok()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Problem::new(500, "internal", "the system gives no random numbers"))?;
    Ok(bytes)
}

#[async_trait]
impl Devices for LiveDevices {
    async fn invite(
        &self,
        caller: &Caller,
        invite: InviteDevice,
    ) -> Result<DeviceInvitation, Problem> {
        let (host, port, fingerprint) = self.point(invite.address.as_deref())?;
        if invite.name.as_deref().is_some_and(|name| !(1..=48).contains(&name.chars().count())) {
            return Err(Problem::invalid("name", "A name has 1 to 48 characters."));
        }
        let secret = random::<ENROL_SECRET_BYTES>()?;
        let hash = Invitation::secret_hash(&secret);
        let expires_at: Timestamp = self.clock.now().plus(INVITE_VALID);
        let (owner, name) = (caller.user, invite.name);
        let row = InviteRow { v: 1, owner, name, task: None, expires_at, used: None };
        self.rows.insert_invite(&hash, &row).await?;
        let by = caller.user;
        tracing::info!(target: "audit", action = "invite_device", %by, outcome = "done");
        let url = Invitation { host, port, secret, fingerprint }.to_line();
        Ok(DeviceInvitation { id: BASE64URL_NOPAD.encode(&hash), url, expires_at })
    }

    async fn invitation(&self, caller: &Caller, id: &str) -> Result<InvitationView, Problem> {
        let none = || Problem::not_found("invitation");
        let hash = invitation_hash(id).ok_or_else(none)?;
        let (_, invite) = self.rows.invite(&hash).await?.ok_or_else(none)?;
        if invite.owner != caller.user {
            return Err(none());
        }
        let device = match invite.used {
            Some(used) => {
                self.find(caller, &used.device.to_string()).await.ok().map(|(_, view, _)| view)
            }
            None => None,
        };
        Ok(InvitationView { expires_at: invite.expires_at, device })
    }

    async fn list(&self, caller: &Caller) -> Result<Page<DeviceView>, Problem> {
        let mut items = Vec::new();
        for row in self.rows.devices(caller.user).await?.iter().filter(|row| !row.revoked) {
            match self.probe(row).await {
                Ok((view, _)) => items.push(view),
                Err(problem) if problem.status == 404 => {}
                Err(problem) => return Err(problem),
            }
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        let total = u64::try_from(items.len()).unwrap_or(u64::MAX);
        Ok(Page { total, items, next: None })
    }

    async fn view(&self, caller: &Caller, device: &str) -> Result<DeviceView, Problem> {
        self.find(caller, device).await.map(|(_, view, _)| view)
    }

    async fn change(
        &self,
        caller: &Caller,
        device: &str,
        patch: DevicePatch,
    ) -> Result<DeviceView, Problem> {
        let (row, _, settings) = self.find(caller, device).await?;
        let changed = Settings {
            alias: patch.alias.unwrap_or_else(|| settings.alias.clone()),
            labels: patch.labels.unwrap_or_else(|| settings.labels.clone()),
            slots: patch.slots.or(settings.slots),
            draining: patch.draining.unwrap_or(settings.draining),
        };
        if changed.alias != settings.alias {
            self.check_alias(caller, row.device, &changed.alias).await?;
        }
        if changed != settings {
            let address = DeviceAddress::new(self.router.clone(), row.device);
            address.change(changed).await.map_err(|error| device_problem(&error))?;
        }
        if let Some(default) = patch.is_default {
            // The new one first: with two for a moment either is as good.
            self.rows.change_device(row.device, |row| row.is_default = default).await?;
            if default {
                for other in self.rows.devices(caller.user).await? {
                    if other.is_default && other.device != row.device {
                        self.rows.change_device(other.device, |row| row.is_default = false).await?;
                    }
                }
            }
        }
        self.find(caller, &row.device.to_string()).await.map(|(_, view, _)| view)
    }

    async fn revoke(&self, caller: &Caller, device: &str) -> Result<(), Problem> {
        let row = self.find_row(caller, device).await?;
        // From here on no link comes up; then the one that is up ends.
        self.rows.change_device(row.device, |row| row.revoked = true).await?;
        self.authority.note_revoked(row.device);
        let address = DeviceAddress::new(self.router.clone(), row.device);
        match address.revoke(None).await {
            // Enrolment was cut off between the row and the entity: the row alone was there.
            Ok(()) | Err(DeviceError::Refused(DeviceRefusal::NotFound)) => {}
            Err(error) => return Err(device_problem(&error)),
        }
        let (by, of) = (caller.user, row.device);
        tracing::info!(target: "audit", action = "revoke_device", %by, %of, outcome = "done");
        Ok(())
    }
}
