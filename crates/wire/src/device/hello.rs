//! The first words of a device link.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::{DeviceId, OutSeq, TaskId, Timestamp, Uuid};

use super::{
    capability::Capabilities,
    limits::{
        DEVICE_NAME_BYTES_MAX, EXECUTIONS_MAX, FRAME_BYTES_MAX, LINK_SPANS_MAX, MESSAGE_BYTES_MAX,
    },
    work::AttemptKey,
};
use crate::{
    codec::{Put, Reader},
    control::Credit,
    error::{DecodeError, EncodeError},
};

/// The version of the form of hello, welcome and refusal. Later ones only grow.
pub const DEVICE_HELLO_VERSION: u8 = 1;
/// The version of frames that this program writes after the hellos.
pub const DEVICE_VERSION: u8 = 1;

const WHAT: &str = "device hello";

/// How an execution is on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionState {
    /// On the disk, not started.
    Accepted,
    /// It runs.
    Running,
    /// It waits for a person.
    Waiting,
    /// It is paused because the outbox is full.
    Paused,
    /// Nothing of it runs any more; output may still be under way.
    Ended,
    /// Something newer.
    Other(u8),
}

/// What a device says about one execution when it comes (back).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutionReport {
    /// Which.
    pub key: AttemptKey,
    /// Its Task.
    pub task: TaskId,
    /// How it is.
    pub state: ExecutionState,
    /// The last output that lies on the disk.
    pub last: OutSeq,
    /// The last one for which an ack came.
    pub acked: OutSeq,
}

/// A time in which a device was linked. Milliseconds before this hello: clocks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAgo {
    /// When it began.
    pub began: u32,
    /// When it ended.
    pub ended: u32,
}

/// Device: who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceHello {
    /// Oldest version of frames that it reads.
    pub version_min: u8,
    /// Newest version of frames that it reads.
    pub version_max: u8,
    /// The device, the same as in its certificate.
    pub device: DeviceId,
    /// New with every start of the agent.
    pub boot: Uuid,
    /// Rises with every dial of this boot: the higher one of two links is the newer one.
    pub dial: u64,
    /// The agent's version, for people.
    pub build: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it has.
    pub executions: Vec<ExecutionReport>,
    /// What may be sent to it before it gives more.
    pub credit: Credit,
    /// When it was linked before, oldest first; a day back at most. Older agents say nothing.
    pub links: Vec<LinkAgo>,
}

/// Cluster: come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWelcome {
    /// The version of frames on this link.
    pub version: u8,
    /// This link, for logs on both sides.
    pub session: Uuid,
    /// The cluster.
    pub cluster: String,
    /// The node where the link ends, for people.
    pub node: String,
    /// The node's clock, to be shown beside the device's.
    pub now: Timestamp,
    /// What the device may send before more comes.
    pub credit: Credit,
    /// *Begin* will be said of what the device takes. Older clusters do not.
    pub begins: bool,
}

/// Why a link is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRefusalReason {
    /// The certificate names another device.
    WrongName,
    /// No version that both read.
    NoCommonVersion,
    /// The device was revoked; dialling again is of no use.
    Revoked,
    /// No such device; dialling again is of no use.
    Unknown,
    /// Not now; dial again later.
    Busy,
    /// Something newer; dial again later.
    Other(u8),
}

/// Cluster: no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRefusal {
    /// Why.
    pub reason: DeviceRefusalReason,
    /// A sentence for people.
    pub message: String,
}

fn version(from: &mut Reader) -> Result<(), DecodeError> {
    match from.u8()? {
        DEVICE_HELLO_VERSION => Ok(()),
        found => Err(DecodeError::Version {
            what: WHAT,
            found,
            oldest: DEVICE_HELLO_VERSION,
            newest: DEVICE_HELLO_VERSION,
        }),
    }
}

impl ExecutionReport {
    fn encode(self, to: &mut BytesMut) {
        self.key.encode(to);
        to.put_uuid(self.task.uuid());
        to.put_u8(match self.state {
            ExecutionState::Accepted => 1,
            ExecutionState::Running => 2,
            ExecutionState::Waiting => 3,
            ExecutionState::Paused => 4,
            ExecutionState::Ended => 5,
            ExecutionState::Other(code) => code,
        });
        to.put_u64(self.last.0);
        to.put_u64(self.acked.0);
    }

    fn decode(from: &mut Reader) -> Result<Self, DecodeError> {
        let key = AttemptKey::decode(from)?;
        let task = TaskId::from_uuid(from.uuid()?);
        let state = match from.u8()? {
            1 => ExecutionState::Accepted,
            2 => ExecutionState::Running,
            3 => ExecutionState::Waiting,
            4 => ExecutionState::Paused,
            5 => ExecutionState::Ended,
            other => ExecutionState::Other(other),
        };
        let (last, acked) = (OutSeq(from.u64()?), OutSeq(from.u64()?));
        Ok(Self { key, task, state, last, acked })
    }
}

impl DeviceHello {
    /// The newest version that both read.
    #[must_use]
    pub fn common_version(&self, min: u8, max: u8) -> Option<u8> {
        let newest = self.version_max.min(max);
        (self.version_min.max(min) <= newest).then_some(newest)
    }

    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_u8(DEVICE_HELLO_VERSION);
        to.put_u8(self.version_min);
        to.put_u8(self.version_max);
        to.put_uuid(self.device.uuid());
        to.put_uuid(self.boot);
        to.put_u64(self.dial);
        to.put_part("build", self.build.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        // With a length of their own, so that they can grow.
        let mut capabilities = BytesMut::new();
        self.capabilities.encode(&mut capabilities)?;
        to.put_part("capabilities", &capabilities, FRAME_BYTES_MAX)?;
        to.put_count("executions", self.executions.len(), EXECUTIONS_MAX)?;
        for execution in &self.executions {
            execution.encode(to);
        }
        self.credit.encode(to);
        // With nothing to say the bytes are those of the first agents.
        if !self.links.is_empty() {
            to.put_count("links", self.links.len(), LINK_SPANS_MAX)?;
            for LinkAgo { began, ended } in &self.links {
                to.put_u32(*began);
                to.put_u32(*ended);
            }
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, WHAT);
        version(&mut from)?;
        let (version_min, version_max) = (from.u8()?, from.u8()?);
        let device = DeviceId::from_uuid(from.uuid()?);
        let boot = from.uuid()?;
        let dial = from.u64()?;
        let build = from.text(DEVICE_NAME_BYTES_MAX)?;
        let capabilities = Capabilities::decode(from.bytes(FRAME_BYTES_MAX)?)?;
        let mut executions = Vec::new();
        for _ in 0..from.count(EXECUTIONS_MAX)? {
            executions.push(ExecutionReport::decode(&mut from)?);
        }
        let credit = Credit { bytes: from.u64()?, items: from.u32()? };
        let count = if from.is_at_end() { 0 } else { from.count(LINK_SPANS_MAX)? };
        let mut links = Vec::new();
        for _ in 0..count {
            links.push(LinkAgo { began: from.u32()?, ended: from.u32()? });
        }
        Ok(Self {
            version_min,
            version_max,
            device,
            boot,
            dial,
            build,
            capabilities,
            executions,
            credit,
            links,
        })
    }
}

impl DeviceWelcome {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_u8(DEVICE_HELLO_VERSION);
        to.put_u8(self.version);
        to.put_uuid(self.session);
        to.put_part("cluster", self.cluster.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("node name", self.node.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_i64(self.now.as_millis());
        self.credit.encode(to);
        // Without it the bytes are those of the first nodes.
        if self.begins {
            to.put_u8(1);
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "device welcome");
        version(&mut from)?;
        let found = from.u8()?;
        let session = from.uuid()?;
        let cluster = from.text(DEVICE_NAME_BYTES_MAX)?;
        let node = from.text(DEVICE_NAME_BYTES_MAX)?;
        let now = Timestamp::from_millis(i64::from_be_bytes(from.fixed()?));
        let credit = Credit { bytes: from.u64()?, items: from.u32()? };
        let begins = !from.is_at_end() && from.u8()? == 1;
        Ok(Self { version: found, session, cluster, node, now, credit, begins })
    }
}

impl DeviceRefusal {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_u8(DEVICE_HELLO_VERSION);
        to.put_u8(match self.reason {
            DeviceRefusalReason::WrongName => 1,
            DeviceRefusalReason::NoCommonVersion => 2,
            DeviceRefusalReason::Revoked => 3,
            DeviceRefusalReason::Unknown => 4,
            DeviceRefusalReason::Busy => 5,
            DeviceRefusalReason::Other(code) => code,
        });
        to.put_part("message", self.message.as_bytes(), MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "device refusal");
        version(&mut from)?;
        let reason = match from.u8()? {
            1 => DeviceRefusalReason::WrongName,
            2 => DeviceRefusalReason::NoCommonVersion,
            3 => DeviceRefusalReason::Revoked,
            4 => DeviceRefusalReason::Unknown,
            5 => DeviceRefusalReason::Busy,
            other => DeviceRefusalReason::Other(other),
        };
        Ok(Self { reason, message: from.text(MESSAGE_BYTES_MAX)? })
    }
}
