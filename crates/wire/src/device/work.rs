//! Executions on a device: assigned, fed, heard, ended.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::{Attempt, ExecutionId, OutSeq, TaskId, Uuid};

use super::{
    limits::{DEVICE_BODY_BYTES_MAX, DEVICE_NAME_BYTES_MAX, MESSAGE_BYTES_MAX, TOKEN_BYTES_MAX},
    secret::{NamedSecret, put_secrets, secrets},
};
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

/// One try at an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The execution.
    pub execution: ExecutionId,
    /// The try.
    pub attempt: Attempt,
}

/// Cluster: run this.
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which try of which execution.
    pub key: AttemptKey,
    /// Its Task.
    pub task: TaskId,
    /// Proves to the cluster's interfaces that a call is of this attempt: secret.
    pub token: String,
    /// The Team that asks, `namespace/name`; the device's policy decides by it.
    pub team: String,
    /// Who asked, by name; the device's policy may name it.
    pub user: String,
    /// The job as JSON, at most 256 KiB.
    pub spec: Bytes,
    /// The secrets that the job names.
    pub secrets: Vec<NamedSecret>,
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment")
            .field("key", &self.key)
            .field("task", &self.task)
            .field("team", &self.team)
            .field("spec_bytes", &self.spec.len())
            .finish_non_exhaustive()
    }
}

/// Why a device does not run something. The attempt did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentRefusal {
    /// Every slot is taken.
    NoSlot,
    /// The policy file of the device does not allow it.
    Policy,
    /// It has no such runtime.
    NoRuntime,
    /// It takes no new work.
    Draining,
    /// The job does not read.
    BadSpec,
    /// Its disk took it not.
    Disk,
    /// It has a newer attempt of the execution, or this one is over.
    Stale,
    /// Something newer.
    Other(u8),
}

/// Device: what became of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignmentAnswer {
    /// It is on the device's disk, also if it was before.
    Taken(AttemptKey),
    /// It is not, and will not run.
    Refused {
        /// Which.
        key: AttemptKey,
        /// Why.
        reason: AssignmentRefusal,
        /// A sentence for people.
        message: String,
    },
    /// Something newer: its code.
    Other(AttemptKey, u8),
}

/// Device, first on an execution's stream: what follows is its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Whose.
    pub key: AttemptKey,
    /// The number of the first output that follows.
    pub from: OutSeq,
}

/// Device: a piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Whose.
    pub key: AttemptKey,
    /// From 1, without gaps.
    pub out_seq: OutSeq,
    /// The run event as JSON, at most 256 KiB.
    pub body: Bytes,
}

/// Cluster: all output up to this number is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputAck {
    /// Whose.
    pub key: AttemptKey,
    /// Up to here.
    pub out_seq: OutSeq,
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// An approval was answered; the body is the decision as JSON.
    Approval,
    /// A question was answered; the body is the reply as JSON.
    Answer,
    /// A person says something to the running turn; the body is the prompt as JSON.
    Steer,
    /// Stop the turn, keep the session.
    Interrupt,
    /// Stop it for good.
    Cancel,
    /// An approval or a question counts no more.
    Withdrawn,
    /// Nobody answered in time.
    Expired,
    /// Something newer; the device answers [`InputFate::Unsupported`].
    Other(u8),
}

/// Cluster: something for a running execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// For whom.
    pub key: AttemptKey,
    /// Known by it when it comes twice: the same input, the same id.
    pub id: Uuid,
    /// What it is.
    pub kind: InputKind,
    /// The approval or question that it is about, by the runtime's name of it; else empty.
    pub name: String,
    /// See [`InputKind`]; at most 256 KiB.
    pub body: Bytes,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFate {
    /// It is on the device's disk, also if it was before.
    Taken,
    /// The attempt is over, or the device does not have it.
    Gone,
    /// The runtime cannot do that.
    Unsupported,
    /// Something newer.
    Other(u8),
}

/// Device: what became of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputAnswer {
    /// Whose.
    pub key: AttemptKey,
    /// Which.
    pub id: Uuid,
    /// What became of it.
    pub fate: InputFate,
    /// A sentence for people; mostly empty.
    pub message: String,
}

/// How an attempt ended on its device. What it means for the Task is in its last output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedHow {
    /// Its last output says how.
    Finished,
    /// It was cancelled, and no process of it is left.
    Cancelled,
    /// The device had it and could not go on with it.
    Lost,
    /// The device does not have it (any more).
    Unknown,
    /// Something newer, read as `Lost`.
    Other(u8),
}

/// Device: nothing of it runs any more; its slot is free. Said again until it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub key: AttemptKey,
    /// The number of its last output; more of it may still be under way.
    pub last: OutSeq,
    /// How.
    pub how: EndedHow,
    /// A sentence for people; mostly empty.
    pub message: String,
}

/// Cluster: it is committed that this device has the attempt; nobody else will be given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Which.
    pub key: AttemptKey,
}

/// Cluster: stop it if it runs, delete what is kept of it, and do not mention it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forget {
    /// Which.
    pub key: AttemptKey,
    /// A sentence for the device's log; mostly empty.
    pub reason: String,
}

impl AttemptKey {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_uuid(self.execution.uuid());
        to.put_u32(self.attempt.0);
    }

    pub(crate) fn decode(from: &mut Reader) -> Result<Self, DecodeError> {
        let execution = ExecutionId::from_uuid(from.uuid()?);
        Ok(Self { execution, attempt: Attempt(from.u32()?) })
    }
}

impl Assignment {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_uuid(self.task.uuid());
        to.put_part("token", self.token.as_bytes(), TOKEN_BYTES_MAX)?;
        to.put_part("team", self.team.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("user", self.user.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("job", &self.spec, DEVICE_BODY_BYTES_MAX)?;
        put_secrets(to, &self.secrets)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "assignment");
        Ok(Self {
            key: AttemptKey::decode(&mut from)?,
            task: TaskId::from_uuid(from.uuid()?),
            token: from.text(TOKEN_BYTES_MAX)?,
            team: from.text(DEVICE_NAME_BYTES_MAX)?,
            user: from.text(DEVICE_NAME_BYTES_MAX)?,
            spec: from.bytes(DEVICE_BODY_BYTES_MAX)?,
            secrets: secrets(&mut from)?,
        })
    }
}

impl AssignmentAnswer {
    /// Which attempt it is about.
    #[must_use]
    pub const fn key(&self) -> AttemptKey {
        match self {
            Self::Taken(key) | Self::Refused { key, .. } | Self::Other(key, _) => *key,
        }
    }

    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key().encode(to);
        match self {
            Self::Taken(_) => to.put_u8(1),
            Self::Refused { reason, message, .. } => {
                to.put_u8(2);
                to.put_u8(match reason {
                    AssignmentRefusal::NoSlot => 1,
                    AssignmentRefusal::Policy => 2,
                    AssignmentRefusal::NoRuntime => 3,
                    AssignmentRefusal::Draining => 4,
                    AssignmentRefusal::BadSpec => 5,
                    AssignmentRefusal::Disk => 6,
                    AssignmentRefusal::Stale => 7,
                    AssignmentRefusal::Other(code) => *code,
                });
                to.put_part("message", message.as_bytes(), MESSAGE_BYTES_MAX)?;
            }
            Self::Other(_, code) => to.put_u8(*code),
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "assignment answer");
        let key = AttemptKey::decode(&mut from)?;
        Ok(match from.u8()? {
            1 => Self::Taken(key),
            2 => {
                let reason = match from.u8()? {
                    1 => AssignmentRefusal::NoSlot,
                    2 => AssignmentRefusal::Policy,
                    3 => AssignmentRefusal::NoRuntime,
                    4 => AssignmentRefusal::Draining,
                    5 => AssignmentRefusal::BadSpec,
                    6 => AssignmentRefusal::Disk,
                    7 => AssignmentRefusal::Stale,
                    other => AssignmentRefusal::Other(other),
                };
                Self::Refused { key, reason, message: from.text(MESSAGE_BYTES_MAX)? }
            }
            other => Self::Other(key, other),
        })
    }
}

impl Attach {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        self.key.encode(to);
        to.put_u64(self.from.0);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "attach");
        Ok(Self { key: AttemptKey::decode(&mut from)?, from: OutSeq(from.u64()?) })
    }
}

impl Output {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_u64(self.out_seq.0);
        to.put_part("output", &self.body, DEVICE_BODY_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "output");
        Ok(Self {
            key: AttemptKey::decode(&mut from)?,
            out_seq: OutSeq(from.u64()?),
            body: from.bytes(DEVICE_BODY_BYTES_MAX)?,
        })
    }
}

impl OutputAck {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        self.key.encode(to);
        to.put_u64(self.out_seq.0);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "output ack");
        Ok(Self { key: AttemptKey::decode(&mut from)?, out_seq: OutSeq(from.u64()?) })
    }
}

impl Input {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_uuid(self.id);
        to.put_u8(match self.kind {
            InputKind::Approval => 1,
            InputKind::Answer => 2,
            InputKind::Steer => 3,
            InputKind::Interrupt => 4,
            InputKind::Cancel => 5,
            InputKind::Withdrawn => 6,
            InputKind::Expired => 7,
            InputKind::Other(code) => code,
        });
        to.put_part("name of an approval", self.name.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("input", &self.body, DEVICE_BODY_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "input");
        let key = AttemptKey::decode(&mut from)?;
        let id = from.uuid()?;
        let kind = match from.u8()? {
            1 => InputKind::Approval,
            2 => InputKind::Answer,
            3 => InputKind::Steer,
            4 => InputKind::Interrupt,
            5 => InputKind::Cancel,
            6 => InputKind::Withdrawn,
            7 => InputKind::Expired,
            other => InputKind::Other(other),
        };
        let name = from.text(DEVICE_NAME_BYTES_MAX)?;
        Ok(Self { key, id, kind, name, body: from.bytes(DEVICE_BODY_BYTES_MAX)? })
    }
}

impl InputAnswer {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_uuid(self.id);
        to.put_u8(match self.fate {
            InputFate::Taken => 1,
            InputFate::Gone => 2,
            InputFate::Unsupported => 3,
            InputFate::Other(code) => code,
        });
        to.put_part("message", self.message.as_bytes(), MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "input answer");
        let key = AttemptKey::decode(&mut from)?;
        let id = from.uuid()?;
        let fate = match from.u8()? {
            1 => InputFate::Taken,
            2 => InputFate::Gone,
            3 => InputFate::Unsupported,
            other => InputFate::Other(other),
        };
        Ok(Self { key, id, fate, message: from.text(MESSAGE_BYTES_MAX)? })
    }
}

impl Ended {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_u64(self.last.0);
        to.put_u8(match self.how {
            EndedHow::Finished => 1,
            EndedHow::Cancelled => 2,
            EndedHow::Lost => 3,
            EndedHow::Unknown => 4,
            EndedHow::Other(code) => code,
        });
        to.put_part("message", self.message.as_bytes(), MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "ended");
        let key = AttemptKey::decode(&mut from)?;
        let last = OutSeq(from.u64()?);
        let how = match from.u8()? {
            1 => EndedHow::Finished,
            2 => EndedHow::Cancelled,
            3 => EndedHow::Lost,
            4 => EndedHow::Unknown,
            other => EndedHow::Other(other),
        };
        Ok(Self { key, last, how, message: from.text(MESSAGE_BYTES_MAX)? })
    }
}

impl Begin {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        self.key.encode(to);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let key = AttemptKey::decode(&mut Reader::new(payload, "begin"))?;
        Ok(Self { key })
    }
}

impl Forget {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_part("reason", self.reason.as_bytes(), MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "forget");
        let key = AttemptKey::decode(&mut from)?;
        Ok(Self { key, reason: from.text(MESSAGE_BYTES_MAX)? })
    }
}
