//! The first words of both ends of a link.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::Uuid;

use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
    limits::{HELLO_BYTES_MAX, NODE_NAME_BYTES_MAX, ROLES_MAX, TEXT_BYTES_MAX},
};

/// The version of the form of a hello. It is as old as the link: later hellos only grow.
pub const HELLO_VERSION: u8 = 1;

const WHAT: &str = "hello";

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster; links between clusters are refused.
    pub cluster: String,
    /// The node's name, the same as in its certificate.
    pub node: String,
    /// New with every start of the process.
    pub boot: Uuid,
    /// Oldest version of batches that it reads.
    pub version_min: u8,
    /// Newest version of batches that it reads.
    pub version_max: u8,
    /// What is built in, for people.
    pub build: String,
    /// Its roles by name.
    pub roles: Vec<String>,
    /// The number of its Router's ingress actor.
    pub ingress: u64,
    /// To be put into every batch of this link that is sent to it.
    pub token: u64,
}

/// Why a link is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The certificate names somebody else.
    WrongName,
    /// Another cluster.
    WrongCluster,
    /// No version that both read.
    NoCommonVersion,
    /// A newer start of the same node is there.
    Superseded,
    /// It does not take links now.
    Busy,
    /// A node cannot have a link to itself.
    Myself,
    /// Something newer.
    Other(u8),
}

/// A link is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// A sentence for people.
    pub message: String,
}

/// What may come first on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// The other end introduces itself.
    Hello(Hello),
    /// The other end refuses.
    Refused(Refusal),
}

impl Hello {
    /// The newest version that both read.
    #[must_use]
    pub fn common_version(&self, other: &Self) -> Option<u8> {
        let newest = self.version_max.min(other.version_max);
        let oldest = self.version_min.max(other.version_min);
        (oldest <= newest).then_some(newest)
    }
}

impl Welcome {
    /// The bytes, without a length.
    ///
    /// # Errors
    /// A text or a list is too long.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(256);
        to.put_u8(HELLO_VERSION);
        match self {
            Self::Hello(hello) => {
                to.put_u8(1);
                to.put_part("cluster", hello.cluster.as_bytes(), NODE_NAME_BYTES_MAX)?;
                to.put_part("node name", hello.node.as_bytes(), NODE_NAME_BYTES_MAX)?;
                to.put_uuid(hello.boot);
                to.put_u8(hello.version_min);
                to.put_u8(hello.version_max);
                to.put_part("build", hello.build.as_bytes(), TEXT_BYTES_MAX)?;
                to.put_count("roles", hello.roles.len(), ROLES_MAX)?;
                for role in &hello.roles {
                    to.put_part("role", role.as_bytes(), NODE_NAME_BYTES_MAX)?;
                }
                to.put_u64(hello.ingress);
                to.put_u64(hello.token);
            }
            Self::Refused(refusal) => {
                to.put_u8(2);
                to.put_u8(match refusal.reason {
                    RefusalReason::WrongName => 1,
                    RefusalReason::WrongCluster => 2,
                    RefusalReason::NoCommonVersion => 3,
                    RefusalReason::Superseded => 4,
                    RefusalReason::Busy => 5,
                    RefusalReason::Myself => 6,
                    RefusalReason::Other(code) => code,
                });
                to.put_part("message", refusal.message.as_bytes(), TEXT_BYTES_MAX)?;
            }
        }
        if to.len() > HELLO_BYTES_MAX {
            let (found, max) = (to.len(), HELLO_BYTES_MAX);
            return Err(EncodeError::TooLarge { what: WHAT, found, max });
        }
        Ok(to.freeze())
    }

    /// Reads what came first.
    ///
    /// # Errors
    /// It is no hello of this form.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes, WHAT);
        let found = from.u8()?;
        if found != HELLO_VERSION {
            let (oldest, newest) = (HELLO_VERSION, HELLO_VERSION);
            return Err(DecodeError::Version { what: WHAT, found, oldest, newest });
        }
        match from.u8()? {
            1 => Self::hello(&mut from).map(Self::Hello),
            2 => {
                let reason = match from.u8()? {
                    1 => RefusalReason::WrongName,
                    2 => RefusalReason::WrongCluster,
                    3 => RefusalReason::NoCommonVersion,
                    4 => RefusalReason::Superseded,
                    5 => RefusalReason::Busy,
                    6 => RefusalReason::Myself,
                    other => RefusalReason::Other(other),
                };
                let message = from.text(TEXT_BYTES_MAX)?;
                Ok(Self::Refused(Refusal { reason, message }))
            }
            found => Err(DecodeError::Unknown { what: WHAT, found: u64::from(found) }),
        }
    }

    fn hello(from: &mut Reader) -> Result<Hello, DecodeError> {
        let cluster = from.text(NODE_NAME_BYTES_MAX)?;
        let node = from.text(NODE_NAME_BYTES_MAX)?;
        let boot = from.uuid()?;
        let (version_min, version_max) = (from.u8()?, from.u8()?);
        let build = from.text(TEXT_BYTES_MAX)?;
        let count = from.count(ROLES_MAX)?;
        let mut roles = Vec::new();
        for _ in 0..count {
            roles.push(from.text(NODE_NAME_BYTES_MAX)?);
        }
        let (ingress, token) = (from.u64()?, from.u64()?);
        Ok(Hello { cluster, node, boot, version_min, version_max, build, roles, ingress, token })
    }
}
