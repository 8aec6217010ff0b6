//! Enrolment: a machine with an invitation becomes a device.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};
use troupe_types::Clock;
use troupe_wire::device::{
    EnrolAnswer, EnrolGrant, EnrolRefusal, EnrolRefusalReason, EnrolRequest,
};

use super::{
    authority::{DeviceAuthority, JoinFault, Redemption},
    ca::DeviceCa,
    dialler::Ways,
    error::{DeviceLinkError, EnrolError},
    frames::read_payload,
    identity::{DeviceIdentity, DeviceKey, cert_fingerprint},
    invite::Invitation,
    tls,
};
use crate::{
    error::LinkError,
    options::LinkOptions,
    stream::{Connection, LinkStream, Purpose},
};

/// How long a machine waits for all of it, with what it repeats.
const ENROL_MAX: Duration = Duration::from_secs(40);
/// Before what brought no answer is repeated, if nobody says how long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest pause that a cluster may ask for.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// How long one address is tried.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an authority may take.
const REDEEM_MAX: Duration = Duration::from_secs(10);
/// Time for an answer to be read before the connection is closed.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a machine says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolFacts {
    /// What it calls itself.
    pub host: String,
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The agent's version.
    pub build: String,
}

/// Makes this machine a device: makes a key pair, pins the server by the invitation, and gets a
/// certificate. The key never leaves the machine.
///
/// An invitation is good for one key. So what brought no answer, or the answer that the cluster
/// cannot do it now, is repeated here with the same key and request, within the time that all of
/// it has: a new call makes a new key, and would hear that the invitation was used.
///
/// # Errors
/// See [`EnrolError`].
pub async fn enrol(
    invitation: &Invitation,
    facts: &EnrolFacts,
) -> Result<(DeviceIdentity, EnrolGrant), EnrolError> {
    let key = DeviceKey::generate().map_err(EnrolError::Cert)?;
    let request = EnrolRequest {
        secret: invitation.secret,
        csr: key.request().map_err(EnrolError::Cert)?,
        host: facts.host.clone(),
        os: facts.os.clone(),
        arch: facts.arch.clone(),
        build: facts.build.clone(),
    };
    let mut last = EnrolError::Deadline { address: invitation.address() };
    let work = async {
        loop {
            match try_enrol(invitation, &request).await {
                Ok(grant) => return Ok(grant),
                Err(error) => match again_after(&error, &last) {
                    Some(pause) => {
                        tracing::info!(%error, "the enrolment is repeated");
                        last = error;
                        sleep(pause).await;
                    }
                    None => return Err(error),
                },
            }
        }
    };
    let done = timeout(ENROL_MAX, work).await;
    let grant = done.unwrap_or(Err(last))?;
    if cert_fingerprint(&grant.ca) != invitation.fingerprint {
        return Err(EnrolError::WrongServer { address: invitation.address() });
    }
    let identity = DeviceIdentity {
        device: grant.device,
        chain: grant.chain.clone(),
        key_pem: key.pem(),
        ca: grant.ca.clone(),
    };
    Ok((identity, grant))
}

async fn try_enrol(
    invitation: &Invitation,
    request: &EnrolRequest,
) -> Result<EnrolGrant, EnrolError> {
    let connection = connect(invitation).await?;
    let answer = ask(&*connection, request).await.map_err(EnrolError::Talk);
    connection.close("done");
    match answer? {
        EnrolAnswer::Refused(refusal) => Err(EnrolError::Refused(refusal)),
        EnrolAnswer::Granted(grant) => Ok(grant),
    }
}

/// Whether the same request may do later; after which pause. `last`: what became of the try
/// before.
fn again_after(error: &EnrolError, last: &EnrolError) -> Option<Duration> {
    match error {
        EnrolError::Refused(refusal) => {
            let passes = refusal.reason == EnrolRefusalReason::Unavailable;
            let pause = Duration::from_millis(u64::from(refusal.retry_after_ms));
            (passes && !pause.is_zero()).then(|| pause.min(AGAIN_MAX))
        }
        // The request may have been heard, and the answer lost.
        EnrolError::Talk(DeviceLinkError::Stream(_) | DeviceLinkError::Link(_)) => {
            Some(AGAIN_AFTER)
        }
        // An invitation that was shown may be used up for this key: it is kept for a node that
        // comes back.
        EnrolError::Connect { .. } if !matches!(last, EnrolError::Deadline { .. }) => {
            Some(AGAIN_AFTER)
        }
        _ => None,
    }
}

async fn connect(invitation: &Invitation) -> Result<Arc<dyn Connection>, EnrolError> {
    let address = invitation.address();
    let found = tokio::net::lookup_host((invitation.host.as_str(), invitation.port)).await;
    let found =
        found.map_err(|source| EnrolError::Resolve { host: invitation.host.clone(), source })?;
    let tls = tls::machine(invitation.fingerprint).map_err(EnrolError::Cert)?;
    let ways = Ways::new(tls, LinkOptions::default()).map_err(EnrolError::Cert)?;
    let mut last = LinkError::Deadline;
    for to in found {
        match timeout(CONNECT_MAX, ways.race(to)).await.unwrap_or(Err(LinkError::Deadline)) {
            Ok(connection) => return Ok(connection),
            Err(LinkError::Connection { reason }) if reason.contains(tls::WRONG_SERVER) => {
                return Err(EnrolError::WrongServer { address });
            }
            Err(error) => last = error,
        }
    }
    Err(EnrolError::Connect { address, source: last })
}

async fn ask(
    connection: &dyn Connection,
    request: &EnrolRequest,
) -> Result<EnrolAnswer, DeviceLinkError> {
    let mut control = connection.open(Purpose::Control).await.map_err(DeviceLinkError::Link)?;
    let bytes = request.encode().map_err(DeviceLinkError::OwnFrame)?;
    control.write.write_all(&bytes).await.map_err(DeviceLinkError::Stream)?;
    control.write.flush().await.map_err(DeviceLinkError::Stream)?;
    match read_payload(&mut control.read).await? {
        Some((code, payload)) => EnrolAnswer::decode(code, payload).map_err(DeviceLinkError::Frame),
        None => Err(DeviceLinkError::Unexpected { what: "the end of the stream" }),
    }
}

/// What the node's side of enrolment needs.
pub(super) struct Registrar<'a> {
    pub(super) ca: &'a DeviceCa,
    pub(super) authority: &'a dyn DeviceAuthority,
    pub(super) clock: &'a dyn Clock,
    pub(super) cluster: &'a str,
}

fn refusal(reason: EnrolRefusalReason, message: &str, retry_after: Duration) -> EnrolRefusal {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    EnrolRefusal { reason, message: message.to_owned(), retry_after_ms }
}

impl Registrar<'_> {
    /// Serves one machine. `limited`: how long it has to wait, if it comes too often. Answers why
    /// it was refused, if the authority was not asked.
    pub(super) async fn serve(
        &self,
        connection: &dyn Connection,
        from: IpAddr,
        limited: Option<Duration>,
        read_max: Duration,
    ) -> Result<Option<JoinFault>, DeviceLinkError> {
        let hear = async {
            let mut control = connection.accept().await.map_err(DeviceLinkError::Link)?;
            let heard = read_payload(&mut control.read).await?;
            Ok::<_, DeviceLinkError>((control, heard))
        };
        let (mut control, heard) =
            timeout(read_max, hear).await.unwrap_or(Err(DeviceLinkError::Deadline))?;
        let (code, payload) =
            heard.ok_or(DeviceLinkError::Unexpected { what: "the end of the stream" })?;
        let answer = match limited {
            Some(wait) => {
                tracing::warn!(%from, "too many enrolments");
                let message = "too many tries from this address or in all";
                Err(refusal(EnrolRefusalReason::RateLimited, message, wait))
            }
            None => match EnrolRequest::decode(code, payload) {
                Ok(request) => self.decide(request, from).await,
                Err(error) => {
                    let message = format!("the request does not read: {error}");
                    Err(refusal(EnrolRefusalReason::BadRequest, &message, Duration::ZERO))
                }
            },
        };
        if let Err(refused) = &answer {
            tracing::info!(%from, reason = ?refused.reason, "a machine was not enrolled");
        }
        let fault = answer.as_ref().err().and_then(|refused| match refused.reason {
            EnrolRefusalReason::RateLimited => Some(JoinFault::RateLimited),
            EnrolRefusalReason::BadRequest => Some(JoinFault::Malformed),
            _ => None,
        });
        let answer = answer.map_or_else(EnrolAnswer::Refused, EnrolAnswer::Granted);
        say(&mut control, &answer).await?;
        let _ = control.write.shutdown().await;
        // The machine closes when it has read it.
        let _ = timeout(LAST_WORD, connection.closed()).await;
        Ok(fault)
    }

    async fn decide(
        &self,
        request: EnrolRequest,
        from: IpAddr,
    ) -> Result<EnrolGrant, EnrolRefusal> {
        let EnrolRequest { secret, csr, host, os, arch, build } = request;
        // First of all, so that a request that cannot be signed uses nothing up.
        self.ca.check_request(&csr).map_err(|error| {
            refusal(EnrolRefusalReason::BadRequest, &error.to_string(), Duration::ZERO)
        })?;
        let request_hash = cert_fingerprint(&csr);
        let redemption = Redemption { secret, request_hash, host, os, arch, build, from };
        let redeemed = timeout(REDEEM_MAX, self.authority.redeem(redemption)).await;
        let enrolled = redeemed.unwrap_or_else(|_| {
            let message = "the cluster did not answer in time; try again";
            Err(refusal(EnrolRefusalReason::Unavailable, message, Duration::from_secs(2)))
        })?;
        let cert = self.ca.sign(&csr, enrolled.device, self.clock.now()).map_err(|error| {
            refusal(EnrolRefusalReason::BadRequest, &error.to_string(), Duration::ZERO)
        })?;
        tracing::info!(device = %enrolled.device, %from, "a machine became a device");
        Ok(EnrolGrant {
            device: enrolled.device,
            name: enrolled.name,
            cluster: self.cluster.to_owned(),
            chain: vec![cert.into()],
            ca: bytes::Bytes::copy_from_slice(self.ca.cert_der()),
            addresses: enrolled.addresses,
        })
    }
}

async fn say(control: &mut LinkStream, answer: &EnrolAnswer) -> Result<(), DeviceLinkError> {
    let bytes = answer.encode().map_err(DeviceLinkError::OwnFrame)?;
    control.write.write_all(&bytes).await.map_err(DeviceLinkError::Stream)?;
    control.write.flush().await.map_err(DeviceLinkError::Stream)
}
