//! What the door for devices asks.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use troupe_domain::device::Registration;
use troupe_entities::{DeviceAddress, device::DeviceRow};
use troupe_link::device::{Admission, DeviceAuthority, Enrolled, Invitation, Redemption};
use troupe_sharding::Router;
use troupe_store::Directory;
use troupe_types::{Clock, DeviceId, UserId};
use troupe_wire::device::{DeviceRefusal, DeviceRefusalReason, EnrolRefusal, EnrolRefusalReason};

use super::invites::{InviteRow, RowError, Rows, Used, free_name};

const USED: &str = "the invitation was used already: ask for a new one with `troupe device invite`";
const REVOKED: &str = "the device was revoked by its owner";
/// Revocations that are remembered; the rows know all of them.
const REVOKED_MAX: usize = 100_000;

/// Who becomes a device, and who is let in.
#[derive(Debug)]
pub struct Authority {
    pub(super) rows: Rows,
    pub(super) router: Router,
    pub(super) clock: Arc<dyn Clock>,
    addresses: Vec<String>,
    revoked: RwLock<HashMap<DeviceId, ()>>,
}

fn enrol(reason: EnrolRefusalReason, message: &str) -> EnrolRefusal {
    let later = matches!(reason, EnrolRefusalReason::Unavailable);
    let retry_after_ms = if later { 2_000 } else { 0 };
    EnrolRefusal { reason, message: message.to_owned(), retry_after_ms }
}

fn busy(error: &dyn std::error::Error) -> EnrolRefusal {
    tracing::warn!(error = %error, "an enrolment failed");
    enrol(EnrolRefusalReason::Unavailable, "the cluster cannot answer now: try again in a moment")
}

impl Authority {
    /// `addresses`: where devices dial besides where they enrolled, `host:port`.
    #[must_use]
    pub fn new(
        directory: Arc<dyn Directory>,
        router: Router,
        clock: Arc<dyn Clock>,
        addresses: Vec<String>,
    ) -> Self {
        Self { rows: Rows(directory), router, clock, addresses, revoked: RwLock::default() }
    }

    /// Its links end at once.
    pub fn note_revoked(&self, device: DeviceId) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.len() >= REVOKED_MAX {
            revoked.clear();
        }
        revoked.insert(device, ());
    }

    /// Enrols a device of this process: no invitation, no certificate.
    ///
    /// # Errors
    /// A sentence for the log.
    pub async fn enrol_built_in(
        &self,
        device: DeviceId,
        owner: UserId,
        name: &str,
    ) -> Result<(), String> {
        let row = DeviceRow {
            v: DeviceRow::VERSION,
            device,
            owner,
            name: name.to_owned(),
            is_default: false,
            revoked: false,
            task: None,
        };
        self.register(&row).await.map_err(|refusal| refusal.message)
    }

    /// Row first, then the entity: a crash between them is repeated by the machine.
    async fn register(&self, row: &DeviceRow) -> Result<(), EnrolRefusal> {
        self.rows.insert_device(row).await.map_err(|error| busy(&error))?;
        let registration = Registration {
            id: row.device,
            owner: row.owner,
            name: row.name.clone(),
            at: self.clock.now(),
            task: row.task,
        };
        let address = DeviceAddress::new(self.router.clone(), row.device);
        address.register(registration).await.map_err(|error| busy(&error))
    }

    async fn try_redeem(
        &self,
        redemption: &Redemption,
    ) -> Result<Result<Enrolled, EnrolRefusal>, RowError> {
        let hash = Invitation::secret_hash(&redemption.secret);
        let request = data_encoding::HEXLOWER.encode(&redemption.request_hash);
        let Some((row, invite)) = self.rows.invite(&hash).await? else {
            let message = "no such invitation: ask for a new one with `troupe device invite`";
            return Ok(Err(enrol(EnrolRefusalReason::UnknownToken, message)));
        };
        if self.clock.now() >= invite.expires_at {
            let message = "the invitation has ended: ask for a new one with `troupe device invite`";
            return Ok(Err(enrol(EnrolRefusalReason::Expired, message)));
        }
        let used = match invite.used.clone() {
            Some(used) if used.request == request => used,
            Some(_) => {
                return Ok(Err(enrol(EnrolRefusalReason::UnknownToken, USED)));
            }
            None => {
                let taken = self.rows.devices(invite.owner).await?;
                if taken.iter().filter(|row| !row.revoked).count()
                    >= troupe_entities::device::DEVICES_MAX
                {
                    let message = "there are 100 devices already: revoke one first";
                    return Ok(Err(enrol(EnrolRefusalReason::Unavailable, message)));
                }
                let name = free_name(invite.name.as_deref().unwrap_or(&redemption.host), &taken);
                let used = Used { request, device: DeviceId::new(self.clock.now()), name };
                let new = InviteRow { used: Some(used.clone()), ..invite.clone() };
                if !self.rows.use_invite(&row, &new).await? {
                    return Ok(Err(enrol(EnrolRefusalReason::UnknownToken, USED)));
                }
                used
            }
        };
        let row = DeviceRow {
            v: DeviceRow::VERSION,
            device: used.device,
            owner: invite.owner,
            name: used.name.clone(),
            is_default: false,
            revoked: false,
            task: invite.task,
        };
        if let Err(refusal) = self.register(&row).await {
            return Ok(Err(refusal));
        }
        let addresses = self.addresses.clone();
        Ok(Ok(Enrolled { device: used.device, name: used.name, addresses }))
    }
}

#[async_trait]
impl DeviceAuthority for Authority {
    async fn redeem(&self, redemption: Redemption) -> Result<Enrolled, EnrolRefusal> {
        let answer = match self.try_redeem(&redemption).await {
            Ok(answer) => answer,
            Err(error) => Err(busy(&error)),
        };
        let from = redemption.from;
        match &answer {
            Ok(enrolled) => {
                let of = enrolled.device;
                tracing::info!(target: "audit", action = "enrol_device", %of, %from, outcome = "done");
            }
            Err(refusal) => {
                let reason = &refusal.reason;
                tracing::info!(target: "audit", action = "enrol_device", ?reason, %from, outcome = "denied");
            }
        }
        answer
    }

    async fn admit(&self, admission: Admission) -> Result<(), DeviceRefusal> {
        let of = admission.device;
        let refuse = |reason: DeviceRefusalReason, message: &str| {
            tracing::info!(target: "audit", action = "admit_device", %of, ?reason, outcome = "denied");
            Err(DeviceRefusal { reason, message: message.to_owned() })
        };
        match self.rows.device(of).await {
            Ok(Some((_, row))) if row.revoked => {
                self.note_revoked(of);
                refuse(DeviceRefusalReason::Revoked, REVOKED)
            }
            Ok(Some(_)) => Ok(()),
            Ok(None) => refuse(DeviceRefusalReason::Unknown, "there is no such device"),
            Err(error) => {
                tracing::warn!(%error, "a device's row");
                refuse(DeviceRefusalReason::Busy, "the cluster cannot answer now: dial again")
            }
        }
    }

    async fn renew(&self, device: DeviceId) -> Result<(), String> {
        match self.rows.device(device).await {
            Ok(Some((_, row))) if !row.revoked => Ok(()),
            Ok(_) => Err(REVOKED.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn is_revoked(&self, device: DeviceId) -> Option<String> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        revoked.contains_key(&device).then(|| REVOKED.to_owned())
    }
}
