//! What the door for devices asks.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use futures::future::join_all;
use troupe_actor::spawn_task;
use troupe_api::admin::AuditEntry;
use troupe_domain::device::Registration;
use troupe_entities::{
    DeviceAddress,
    device::{DEVICES_MAX, DeviceError, DeviceReply, DeviceRow},
};
use troupe_link::device::{
    Admission, DeviceAuthority, Enrolled, Invitation, JoinFault, Redemption, RefusedJoin,
};
use troupe_sharding::Router;
use troupe_store::Directory;
use troupe_types::{Clock, DeviceId, UserId, Uuid};
use troupe_wire::device::{DeviceRefusal, DeviceRefusalReason, EnrolRefusal, EnrolRefusalReason};

use super::{
    invites::{InviteRow, RowError, Rows, Used, free_name},
    refusals::{Record, Refusals},
};
use crate::admin::audit::keep;

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
    refusals: Refusals,
    /// Audit rows that it wrote.
    audit_rows: AtomicU32,
}

/// `Unavailable` passes, and a machine that hears when to come again does so by itself.
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
        Self {
            rows: Rows(directory),
            router,
            clock,
            addresses,
            revoked: RwLock::default(),
            refusals: Refusals::default(),
            audit_rows: AtomicU32::new(0),
        }
    }

    /// Whether a person has as many devices as there may be. What was enrolled by half and never
    /// became a device does not count, but is asked for only where it matters.
    pub(super) async fn is_full(&self, taken: &[DeviceRow]) -> bool {
        let live: Vec<_> = taken.iter().filter(|row| !row.revoked).collect();
        if live.len() < DEVICES_MAX {
            return false;
        }
        let probes = live.iter().map(|row| async {
            let address = DeviceAddress::new(self.router.clone(), row.device);
            matches!(address.probe(None).await, Ok(DeviceReply::Probed { view: None, .. }))
        });
        let halves = join_all(probes).await.into_iter().filter(|is_half| *is_half).count();
        live.len() - halves >= DEVICES_MAX
    }

    /// Somebody was not let in: into the log and into the audit log, as far as that is bounded.
    fn record(&self, fault: &'static str, device: Option<DeviceId>, from: Option<IpAddr>) {
        for record in self.refusals.note(self.clock.mono(), fault, device, from) {
            let Record { fault, device, from, count } = record;
            let of = device.map(|device| device.to_string()).unwrap_or_default();
            let by = from.map_or_else(|| "many".to_owned(), |from| from.to_string());
            tracing::info!(target: "audit", action = "join_device", by, of, fault, count, outcome = "denied");
            let entry = AuditEntry {
                at: self.clock.now(),
                user_id: UserId::from_uuid(Uuid::nil()),
                user_name: by,
                action: "join_device".to_owned(),
                target: of,
                detail: if count == 1 { String::new() } else { format!("{count} times") },
                outcome: fault.to_owned(),
            };
            let directory = Arc::clone(&self.rows.0);
            let nth = self.audit_rows.fetch_add(1, Ordering::Relaxed);
            // The door waits for no store.
            drop(spawn_task("audit-join", async move { keep(&*directory, nth, entry).await }));
        }
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

    /// Row first, then the entity: what fails between them is repeated by the machine, and its
    /// owner may revoke it meanwhile.
    async fn register(&self, row: &DeviceRow) -> Result<(), EnrolRefusal> {
        self.rows.insert_device(row).await.map_err(|error| busy(&error))?;
        let there = self.rows.device(row.device).await.map_err(|error| busy(&error))?;
        if there.is_none_or(|(_, there)| there.revoked) {
            return Err(enrol(EnrolRefusalReason::UnknownToken, REVOKED));
        }
        let registration = Registration {
            id: row.device,
            owner: row.owner,
            name: row.name.clone(),
            at: self.clock.now(),
            task: row.task,
        };
        let address = DeviceAddress::new(self.router.clone(), row.device);
        address.register(registration).await.map_err(|error| match error {
            DeviceError::Refused(_) => enrol(EnrolRefusalReason::UnknownToken, REVOKED),
            error => busy(&error),
        })
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
                if self.is_full(&taken).await {
                    let message = "there are 100 devices already: revoke one first";
                    let refusal = enrol(EnrolRefusalReason::Unavailable, message);
                    // Nothing that passes by itself.
                    return Ok(Err(EnrolRefusal { retry_after_ms: 0, ..refusal }));
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
                let fault = match reason {
                    EnrolRefusalReason::Unavailable => None,
                    EnrolRefusalReason::Expired => Some("invitation_expired"),
                    _ if refusal.message == USED => Some("invitation_used"),
                    _ if refusal.message == REVOKED => Some(JoinFault::Revoked.as_str()),
                    _ => Some("invitation_unknown"),
                };
                if let Some(fault) = fault {
                    self.record(fault, None, Some(from));
                }
            }
        }
        answer
    }

    async fn admit(&self, admission: Admission) -> Result<(), DeviceRefusal> {
        let of = admission.device;
        let refuse = |reason: DeviceRefusalReason, message: &str| {
            let fault = match reason {
                DeviceRefusalReason::Revoked => Some(JoinFault::Revoked.as_str()),
                DeviceRefusalReason::Unknown => Some("unknown"),
                _ => None,
            };
            if let Some(fault) = fault {
                self.record(fault, Some(of), admission.from);
            }
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

    fn refused(&self, RefusedJoin { fault, device, from }: RefusedJoin) {
        self.record(fault.as_str(), device, from);
    }
}
