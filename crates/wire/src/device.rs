//! Frames of the link between a device and the cluster.
//!
//! ```text
//! frame = kind, length, payload         a kind that a reader does not know is skipped
//! ```
//! The first frame of a link is a hello from the device and a welcome or a refusal from the
//! cluster; both begin with a version of their own, so that they stay readable for ever. They
//! agree on the version of all that follows. Which frame goes where:
//!
//! | Stream | From the device | To the device |
//! |---|---|---|
//! | control | hello, assignment answers, input answers, ended, secrets wanted, package wanted, capabilities, certificate request, credit, drain, ping, pong | welcome or refusal, assignments, begin, output acks, inputs, secrets, parts of packages, forget, certificate, revoked, credit, drain, go away, ping, pong |
//! | one per execution | attach, then output | nothing |
//! | datagrams | ping, pong | ping, pong |
//!
//! Promises that the frames are made for:
//! - *Taken* is said once an assignment or an input is on the device's disk; both may come
//!   again after a cut and are known by (execution, attempt) and by the input's id.
//! - An assignment that was taken runs once *begin* was heard: until then the cluster may give it
//!   to another device. A welcome says whether its cluster says *begin*; under one that does not,
//!   an assignment runs as soon as it is on the disk. It comes again after a cut, for all that is
//!   reported as accepted.
//! - Output is numbered from 1 per attempt without gaps; it comes again until its number, or a
//!   later one, is acknowledged. An ack is sent after the owner's commit.
//! - Secrets travel beside a job and never inside of it; a device keeps them in memory only and
//!   asks for them again when it started anew.
//! - A package of a Skill comes in parts, each asked for when the one before it is there; a node
//!   that is older than these frames does not answer, and the device does without the package.
//! - Output costs credit: its encoded size, and one item. Attaching anew gives nothing back; a
//!   new link starts with the credit of its welcome.

mod capability;
mod certificate;
mod enrol;
mod hello;
mod package;
mod secret;
mod steer;
mod work;

use bytes::{BufMut, Bytes, BytesMut};

pub use self::{
    capability::{Capabilities, Tool},
    certificate::{CertificateAnswer, CertificateRequest},
    enrol::{
        ENROL_VERSION, EnrolAnswer, EnrolGrant, EnrolRefusal, EnrolRefusalReason, EnrolRequest,
    },
    hello::{
        DEVICE_HELLO_VERSION, DEVICE_VERSION, DeviceHello, DeviceRefusal, DeviceRefusalReason,
        DeviceWelcome, ExecutionReport, ExecutionState, LinkAgo,
    },
    package::{PackagePart, PackageWanted},
    secret::{NamedSecret, SecretsGiven, SecretsWanted},
    steer::{Drain, GoAway, Ping, Pong, Revoked},
    work::{
        Assignment, AssignmentAnswer, AssignmentRefusal, Attach, AttemptKey, Begin, Ended,
        EndedHow, Forget, Input, InputAnswer, InputFate, InputKind, Output, OutputAck,
    },
};
use crate::{
    codec::Reader,
    control::Credit,
    error::{DecodeError, EncodeError},
};

/// Bounds of the device link. Sizes are in bytes.
pub mod limits {
    use crate::limits::BODY_BYTES_MAX;

    /// Largest payload of a frame: a body and what is said about it.
    pub const FRAME_BYTES_MAX: usize = BODY_BYTES_MAX + 64 * 1024;
    /// Kind and length in front of a payload.
    pub const FRAME_HEAD_BYTES: usize = 1 + 4;
    /// Largest output, specification or input.
    pub const DEVICE_BODY_BYTES_MAX: usize = BODY_BYTES_MAX;
    /// Largest datagram.
    pub const DATAGRAM_BYTES_MAX: usize = 256;
    /// Longest name: of a tool, a label, a team, a machine.
    pub const DEVICE_NAME_BYTES_MAX: usize = 256;
    /// Tools that a device may name.
    pub const TOOLS_MAX: usize = 128;
    /// Labels that a device may have.
    pub const LABELS_MAX: usize = 64;
    /// Executions that run on a device at once.
    pub const SLOTS_MAX: u16 = 20;
    /// Executions in one hello: running ones, and ended ones with output under way.
    pub const EXECUTIONS_MAX: usize = 256;
    /// Times of links in one hello.
    pub const LINK_SPANS_MAX: usize = 128;
    /// Longest attempt token.
    pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
    /// Secrets of one execution.
    pub const SECRETS_MAX: usize = troupe_types::limits::JOB_SECRETS_MAX;
    /// Longest secret.
    pub const SECRET_BYTES_MAX: usize = 16 * 1024;
    /// Longest sentence for people.
    pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;
    /// Largest certificate or certificate request.
    pub const CERT_BYTES_MAX: usize = 8 * 1024;
    /// Certificates in one chain.
    pub const CHAIN_MAX: usize = 4;
    /// Addresses under which a cluster may be dialled.
    pub const ADDRESSES_MAX: usize = 16;
    /// The secret of an invitation.
    pub const ENROL_SECRET_BYTES: usize = 16;
    /// A SHA-256.
    pub const HASH_BYTES: usize = 32;
    /// Largest part of a package.
    pub const PACKAGE_PART_BYTES_MAX: usize = BODY_BYTES_MAX;
    /// Instead of a package's size: ask again later.
    pub const PACKAGE_NOT_NOW: u64 = u64::MAX;
    /// What a device may have under way before more credit comes.
    pub const DEVICE_CREDIT_BYTES: u64 = 4 * 1024 * 1024;
    /// Frames that a device may have under way.
    pub const DEVICE_CREDIT_ITEMS: u32 = 4_096;
    /// What may be under way to a device: assignments and inputs.
    pub const TO_DEVICE_CREDIT_BYTES: u64 = 1024 * 1024;
    /// Assignments and inputs that may be under way to a device.
    pub const TO_DEVICE_CREDIT_ITEMS: u32 = 256;
}

const WHAT: &str = "device frame";

/// One thing that is said on a device link. What is large and seldom is boxed: output, which is
/// most of it, is moved from queue to queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceFrame {
    /// Device, first of all.
    Hello(Box<DeviceHello>),
    /// Cluster: come in.
    Welcome(Box<DeviceWelcome>),
    /// Cluster: no.
    Refused(DeviceRefusal),
    /// Cluster: run this.
    Assignment(Box<Assignment>),
    /// Device: it is on my disk, or I will not.
    AssignmentAnswer(AssignmentAnswer),
    /// Device, first on an execution's stream.
    Attach(Attach),
    /// Device: a piece of output.
    Output(Output),
    /// Cluster: committed up to here.
    OutputAck(OutputAck),
    /// Cluster: something for a running execution.
    Input(Input),
    /// Device: what became of an input.
    InputAnswer(InputAnswer),
    /// Device: nothing of it runs any more.
    Ended(Ended),
    /// Cluster: stop it if it runs, and delete what is kept of it.
    Forget(Forget),
    /// Both: so much more may be sent.
    Credit(Credit),
    /// Device: I can other things now.
    Capabilities(Box<Capabilities>),
    /// Device: renew my certificate.
    CertificateRequest(CertificateRequest),
    /// Cluster: the new certificate, or why not.
    CertificateAnswer(CertificateAnswer),
    /// Cluster: this device is not wanted any more; the link ends.
    Revoked(Revoked),
    /// Both: no new work for this device.
    Drain(Drain),
    /// Cluster: this node leaves, dial again.
    GoAway(GoAway),
    /// Both: are you there?
    Ping(Ping),
    /// Both: yes.
    Pong(Pong),
    /// Device: it started anew and goes on with an attempt; its secrets are gone.
    SecretsWanted(SecretsWanted),
    /// Cluster: here they are.
    SecretsGiven(SecretsGiven),
    /// Cluster: run what you took.
    Begin(Begin),
    /// Device: a part of a Skill's package.
    PackageWanted(PackageWanted),
    /// Cluster: here it is.
    PackagePart(Box<PackagePart>),
    /// Something newer: its kind and its bytes. Readers skip it.
    Other(u8, Bytes),
}

impl DeviceFrame {
    const fn code(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Welcome(_) => 2,
            Self::Refused(_) => 3,
            Self::Assignment(_) => 4,
            Self::AssignmentAnswer(_) => 5,
            Self::Attach(_) => 6,
            Self::Output(_) => 7,
            Self::OutputAck(_) => 8,
            Self::Input(_) => 9,
            Self::InputAnswer(_) => 10,
            Self::Ended(_) => 11,
            Self::Forget(_) => 12,
            Self::Credit(_) => 13,
            Self::Capabilities(_) => 14,
            Self::CertificateRequest(_) => 15,
            Self::CertificateAnswer(_) => 16,
            Self::Revoked(_) => 17,
            Self::Drain(_) => 18,
            Self::GoAway(_) => 19,
            Self::Ping(_) => 20,
            Self::Pong(_) => 21,
            Self::SecretsWanted(_) => 22,
            Self::SecretsGiven(_) => 23,
            Self::Begin(_) => 24,
            Self::PackageWanted(_) => 25,
            Self::PackagePart(_) => 26,
            Self::Other(code, _) => *code,
        }
    }

    fn put(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Hello(hello) => hello.encode(to)?,
            Self::Welcome(welcome) => welcome.encode(to)?,
            Self::Refused(refusal) => refusal.encode(to)?,
            Self::Assignment(assignment) => assignment.encode(to)?,
            Self::AssignmentAnswer(answer) => answer.encode(to)?,
            Self::Attach(attach) => attach.encode(to),
            Self::Output(output) => output.encode(to)?,
            Self::OutputAck(ack) => ack.encode(to),
            Self::Input(input) => input.encode(to)?,
            Self::InputAnswer(answer) => answer.encode(to)?,
            Self::Ended(ended) => ended.encode(to)?,
            Self::Forget(forget) => forget.encode(to)?,
            Self::Credit(credit) => credit.encode(to),
            Self::Capabilities(capabilities) => capabilities.encode(to)?,
            Self::CertificateRequest(request) => request.encode(to)?,
            Self::CertificateAnswer(answer) => answer.encode(to)?,
            Self::Revoked(revoked) => revoked.encode(to)?,
            Self::Drain(drain) => drain.encode(to)?,
            Self::GoAway(away) => away.encode(to)?,
            Self::Ping(ping) => ping.encode(to),
            Self::Pong(pong) => pong.encode(to),
            Self::SecretsWanted(wanted) => wanted.encode(to),
            Self::SecretsGiven(given) => given.encode(to)?,
            Self::Begin(begin) => begin.encode(to),
            Self::PackageWanted(wanted) => wanted.encode(to),
            Self::PackagePart(part) => part.encode(to)?,
            Self::Other(_, bytes) => to.put_slice(bytes),
        }
        Ok(())
    }

    /// The bytes: kind, length, payload.
    ///
    /// # Errors
    /// A part is above its limit; nothing is to be sent.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(128);
        self.encode_to(&mut to)?;
        Ok(to.freeze())
    }

    /// The same behind what is there; answers how long it is.
    ///
    /// # Errors
    /// A part is above its limit; `to` is as it was.
    pub fn encode_to(&self, to: &mut BytesMut) -> Result<usize, EncodeError> {
        let before = to.len();
        let put = self.put_framed(to);
        if put.is_err() {
            to.truncate(before);
        }
        put
    }

    fn put_framed(&self, to: &mut BytesMut) -> Result<usize, EncodeError> {
        let before = to.len();
        to.put_u8(self.code());
        to.put_u32(0);
        self.put(to)?;
        let size = to.len() - before;
        let found = size - limits::FRAME_HEAD_BYTES;
        let too_large = EncodeError::TooLarge { what: WHAT, found, max: limits::FRAME_BYTES_MAX };
        if found > limits::FRAME_BYTES_MAX {
            return Err(too_large);
        }
        let len = u32::try_from(found).map_err(|_| too_large)?;
        to[before + 1..before + limits::FRAME_HEAD_BYTES].copy_from_slice(&len.to_be_bytes());
        Ok(size)
    }

    /// Kind and payload length of a frame, from its first bytes; to be asked before any room
    /// is made for the payload.
    ///
    /// # Errors
    /// The payload is above the limit.
    pub fn head(head: [u8; limits::FRAME_HEAD_BYTES]) -> Result<(u8, usize), DecodeError> {
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let found = u64::from(len);
        let max = u64::try_from(limits::FRAME_BYTES_MAX).unwrap_or(u64::MAX);
        match usize::try_from(len) {
            Ok(len) if len <= limits::FRAME_BYTES_MAX => Ok((head[0], len)),
            _ => Err(DecodeError::TooLarge { what: WHAT, found, max }),
        }
    }

    /// Reads the payload of a frame of this kind.
    ///
    /// # Errors
    /// It is not what its kind says.
    pub fn decode(code: u8, payload: Bytes) -> Result<Self, DecodeError> {
        Ok(match code {
            1 => Self::Hello(Box::new(DeviceHello::decode(payload)?)),
            2 => Self::Welcome(Box::new(DeviceWelcome::decode(payload)?)),
            3 => Self::Refused(DeviceRefusal::decode(payload)?),
            4 => Self::Assignment(Box::new(Assignment::decode(payload)?)),
            5 => Self::AssignmentAnswer(AssignmentAnswer::decode(payload)?),
            6 => Self::Attach(Attach::decode(payload)?),
            7 => Self::Output(Output::decode(payload)?),
            8 => Self::OutputAck(OutputAck::decode(payload)?),
            9 => Self::Input(Input::decode(payload)?),
            10 => Self::InputAnswer(InputAnswer::decode(payload)?),
            11 => Self::Ended(Ended::decode(payload)?),
            12 => Self::Forget(Forget::decode(payload)?),
            13 => Self::Credit(Credit::decode(payload)?),
            14 => Self::Capabilities(Box::new(Capabilities::decode(payload)?)),
            15 => Self::CertificateRequest(CertificateRequest::decode(payload)?),
            16 => Self::CertificateAnswer(CertificateAnswer::decode(payload)?),
            17 => Self::Revoked(Revoked::decode(payload)?),
            18 => Self::Drain(Drain::decode(payload)?),
            19 => Self::GoAway(GoAway::decode(payload)?),
            20 => Self::Ping(Ping::decode(payload)?),
            21 => Self::Pong(Pong::decode(payload)?),
            22 => Self::SecretsWanted(SecretsWanted::decode(payload)?),
            23 => Self::SecretsGiven(SecretsGiven::decode(payload)?),
            24 => Self::Begin(Begin::decode(payload)?),
            25 => Self::PackageWanted(PackageWanted::decode(payload)?),
            26 => Self::PackagePart(Box::new(PackagePart::decode(payload)?)),
            other => Self::Other(other, payload),
        })
    }

    /// Reads one whole frame, as in a datagram. What follows it is ignored.
    ///
    /// # Errors
    /// It is not whole, too large, or not what its kind says.
    pub fn decode_whole(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes, WHAT);
        let (code, len) = Self::head(from.fixed()?)?;
        Self::decode(code, from.take(len)?)
    }

    /// Whether it is paid for with credit: what an end can make the other one keep is.
    #[must_use]
    pub const fn costs_credit(&self) -> bool {
        matches!(
            self,
            Self::Output(_)
                | Self::Assignment(_)
                | Self::Input(_)
                | Self::SecretsGiven(_)
                | Self::PackagePart(_)
        )
    }
}
