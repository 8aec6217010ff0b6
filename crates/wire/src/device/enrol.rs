//! How a machine becomes a device: one request, one answer, on a connection of its own.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::DeviceId;

use super::{
    certificate::{chain, put_chain},
    limits::{
        ADDRESSES_MAX, CERT_BYTES_MAX, DEVICE_NAME_BYTES_MAX, ENROL_SECRET_BYTES, FRAME_BYTES_MAX,
        FRAME_HEAD_BYTES, MESSAGE_BYTES_MAX,
    },
};
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

/// The version of both messages. It is as old as enrolment: later ones only grow.
pub const ENROL_VERSION: u8 = 1;

const WHAT: &str = "enrolment";

/// Device: let me in.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    /// The secret of the invitation; good once.
    pub secret: [u8; ENROL_SECRET_BYTES],
    /// PKCS #10, DER. Only its public key is taken from it.
    pub csr: Bytes,
    /// What the machine calls itself.
    pub host: String,
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The agent's version.
    pub build: String,
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The machine is a device now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolGrant {
    /// Its id.
    pub device: DeviceId,
    /// The name that it has in the cluster.
    pub name: String,
    /// The cluster.
    pub cluster: String,
    /// Its certificate, DER, its own first.
    pub chain: Vec<Bytes>,
    /// The CA that servers of sessions are checked against, DER.
    pub ca: Bytes,
    /// Where to dial for sessions, `host:port`; empty: the address that it enrolled at.
    pub addresses: Vec<String>,
}

/// Why a machine does not become a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolRefusalReason {
    /// No such invitation, or it was used.
    UnknownToken,
    /// The invitation is too old.
    Expired,
    /// Too many tries: later.
    RateLimited,
    /// The request does not read.
    BadRequest,
    /// The cluster cannot answer now: later.
    Unavailable,
    /// Something newer.
    Other(u8),
}

/// The machine does not become a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolRefusal {
    /// Why.
    pub reason: EnrolRefusalReason,
    /// A sentence for people.
    pub message: String,
    /// When to try again, in milliseconds; 0: not with this invitation.
    pub retry_after_ms: u32,
}

/// Cluster: the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolAnswer {
    /// Yes.
    Granted(EnrolGrant),
    /// No.
    Refused(EnrolRefusal),
}

/// Kind and length in front of a payload, as in every frame.
fn whole(code: u8, payload: &BytesMut) -> Result<Bytes, EncodeError> {
    let (found, max) = (payload.len(), FRAME_BYTES_MAX);
    let len = u32::try_from(found).unwrap_or(u32::MAX);
    if found > max {
        return Err(EncodeError::TooLarge { what: WHAT, found, max });
    }
    let mut to = BytesMut::with_capacity(FRAME_HEAD_BYTES + found);
    to.put_u8(code);
    to.put_u32(len);
    to.put_slice(payload);
    Ok(to.freeze())
}

fn version(from: &mut Reader) -> Result<(), DecodeError> {
    match from.u8()? {
        ENROL_VERSION => Ok(()),
        found => Err(DecodeError::Version {
            what: WHAT,
            found,
            oldest: ENROL_VERSION,
            newest: ENROL_VERSION,
        }),
    }
}

impl EnrolRequest {
    /// The bytes, head included.
    ///
    /// # Errors
    /// A part is above its limit.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(1024);
        to.put_u8(ENROL_VERSION);
        to.put_slice(&self.secret);
        to.put_part("certificate request", &self.csr, CERT_BYTES_MAX)?;
        to.put_part("host name", self.host.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("os", self.os.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("arch", self.arch.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("build", self.build.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        whole(1, &to)
    }

    /// Reads the payload of the first frame.
    ///
    /// # Errors
    /// It is no request.
    pub fn decode(code: u8, payload: Bytes) -> Result<Self, DecodeError> {
        if code != 1 {
            return Err(DecodeError::Unknown { what: WHAT, found: u64::from(code) });
        }
        let mut from = Reader::new(payload, WHAT);
        version(&mut from)?;
        Ok(Self {
            secret: from.fixed()?,
            csr: from.bytes(CERT_BYTES_MAX)?,
            host: from.text(DEVICE_NAME_BYTES_MAX)?,
            os: from.text(DEVICE_NAME_BYTES_MAX)?,
            arch: from.text(DEVICE_NAME_BYTES_MAX)?,
            build: from.text(DEVICE_NAME_BYTES_MAX)?,
        })
    }
}

impl EnrolAnswer {
    /// The bytes, head included.
    ///
    /// # Errors
    /// A part is above its limit.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(1024);
        to.put_u8(ENROL_VERSION);
        match self {
            Self::Granted(grant) => {
                to.put_uuid(grant.device.uuid());
                to.put_part("device name", grant.name.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
                to.put_part("cluster", grant.cluster.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
                put_chain(&mut to, &grant.chain)?;
                to.put_part("CA", &grant.ca, CERT_BYTES_MAX)?;
                to.put_count("addresses", grant.addresses.len(), ADDRESSES_MAX)?;
                for address in &grant.addresses {
                    to.put_part("address", address.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
                }
                whole(2, &to)
            }
            Self::Refused(refusal) => {
                to.put_u8(match refusal.reason {
                    EnrolRefusalReason::UnknownToken => 1,
                    EnrolRefusalReason::Expired => 2,
                    EnrolRefusalReason::RateLimited => 3,
                    EnrolRefusalReason::BadRequest => 4,
                    EnrolRefusalReason::Unavailable => 5,
                    EnrolRefusalReason::Other(code) => code,
                });
                to.put_part("message", refusal.message.as_bytes(), MESSAGE_BYTES_MAX)?;
                to.put_u32(refusal.retry_after_ms);
                whole(3, &to)
            }
        }
    }

    /// Reads the payload of the answer's frame.
    ///
    /// # Errors
    /// It is no answer.
    pub fn decode(code: u8, payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, WHAT);
        version(&mut from)?;
        match code {
            2 => {
                let device = DeviceId::from_uuid(from.uuid()?);
                let name = from.text(DEVICE_NAME_BYTES_MAX)?;
                let cluster = from.text(DEVICE_NAME_BYTES_MAX)?;
                let chain = chain(&mut from)?;
                let ca = from.bytes(CERT_BYTES_MAX)?;
                let mut addresses = Vec::new();
                for _ in 0..from.count(ADDRESSES_MAX)? {
                    addresses.push(from.text(DEVICE_NAME_BYTES_MAX)?);
                }
                Ok(Self::Granted(EnrolGrant { device, name, cluster, chain, ca, addresses }))
            }
            3 => {
                let reason = match from.u8()? {
                    1 => EnrolRefusalReason::UnknownToken,
                    2 => EnrolRefusalReason::Expired,
                    3 => EnrolRefusalReason::RateLimited,
                    4 => EnrolRefusalReason::BadRequest,
                    5 => EnrolRefusalReason::Unavailable,
                    other => EnrolRefusalReason::Other(other),
                };
                let message = from.text(MESSAGE_BYTES_MAX)?;
                let retry_after_ms = from.u32()?;
                Ok(Self::Refused(EnrolRefusal { reason, message, retry_after_ms }))
            }
            found => Err(DecodeError::Unknown { what: WHAT, found: u64::from(found) }),
        }
    }
}
