//! What a listener asks about devices; the cluster answers.

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use troupe_types::DeviceId;
use troupe_wire::device::{DeviceRefusal, EnrolRefusal, limits::ENROL_SECRET_BYTES};

/// A machine that shows an invitation.
pub struct Redemption {
    /// The secret of the invitation; only its hash is to be kept.
    pub secret: [u8; ENROL_SECRET_BYTES],
    /// SHA-256 of the certificate request, which is signed by the machine's new key: the same
    /// machine that repeats its try shows the same.
    pub request_hash: [u8; 32],
    /// What the machine calls itself.
    pub host: String,
    /// Its system.
    pub os: String,
    /// Its processor.
    pub arch: String,
    /// The version of its agent.
    pub build: String,
    /// Where it came from.
    pub from: IpAddr,
}

impl fmt::Debug for Redemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redemption")
            .field("host", &self.host)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// A machine that became a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Its id.
    pub device: DeviceId,
    /// Its name in the cluster.
    pub name: String,
    /// Where to dial for sessions, `host:port`; empty: where it enrolled.
    pub addresses: Vec<String>,
}

/// A device at the door, its certificate already checked against the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who.
    pub device: DeviceId,
    /// SHA-256 of the certificate that it shows; `None` on the in-memory link.
    pub certificate: Option<[u8; 32]>,
    /// Where it is; `None` on the in-memory link.
    pub from: Option<IpAddr>,
}

/// Why somebody did not come in whom the authority was not asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JoinFault {
    /// The device was revoked, which is remembered.
    Revoked,
    /// The certificate has ended.
    Expired,
    /// The certificate is not of this cluster.
    Foreign,
    /// The certificate names another device than the hello.
    WrongName,
    /// More enrolments than an address, or all of them, may try.
    RateLimited,
    /// An enrolment that does not read.
    Malformed,
}

impl JoinFault {
    /// For logs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Foreign => "foreign",
            Self::WrongName => "wrong_name",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
        }
    }
}

/// Somebody who did not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedJoin {
    /// Why.
    pub fault: JoinFault,
    /// The device, as far as it is known; what a hello says alone is not.
    pub device: Option<DeviceId>,
    /// Where it is; `None` on the in-memory link.
    pub from: Option<IpAddr>,
}

/// Decides who becomes a device, who stays one, and who is let in.
///
/// Promises that a listener relies on:
/// - **Once.** An invitation makes at most one device, over all nodes and restarts. The same
///   `request_hash` with the same secret within its life gives the same answer again, so that
///   a machine whose answer was lost can repeat.
/// - **Durable.** What [`redeem`](Self::redeem) answered and what was revoked outlives the node.
/// - **Fresh.** [`is_revoked`](Self::is_revoked) is asked four times a second for every link and
///   answers from memory, without waiting; a revocation is to be seen by it in half a second.
/// - **Audited.** Refusals of `redeem` and `admit` are recorded by the authority; it is told of
///   those that come before it (bad certificates, rate limits), and records them too.
#[async_trait]
pub trait DeviceAuthority: fmt::Debug + Send + Sync + 'static {
    /// A machine shows an invitation.
    ///
    /// # Errors
    /// It does not become a device.
    async fn redeem(&self, redemption: Redemption) -> Result<Enrolled, EnrolRefusal>;

    /// A device wants a session.
    ///
    /// # Errors
    /// It gets none.
    async fn admit(&self, admission: Admission) -> Result<(), DeviceRefusal>;

    /// A device wants its certificate renewed, in its session.
    ///
    /// # Errors
    /// A sentence for people; it may ask again later.
    async fn renew(&self, device: DeviceId) -> Result<(), String>;

    /// Whether the device was revoked; a sentence for its owner.
    fn is_revoked(&self, device: DeviceId) -> Option<String>;

    /// Somebody did not come in, and no other question was asked about it. Anybody can make this
    /// happen as often as they like: it returns at once, and what is recorded is bounded.
    fn refused(&self, _: RefusedJoin) {}
}
