//! Messages to entities.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::{EntityId, EntityKind, Epoch, ShardId, Uuid};

use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
    limits::{BODY_BYTES_MAX, HOPS_MAX, NODE_NAME_BYTES_MAX},
};

const WHAT: &str = "envelope";

/// What an envelope asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// An answer is waited for.
    Ask,
    /// Nobody waits for the answer; it is sent again until it was done.
    Tell,
    /// Frames are wanted: the stream's number, given by the subscriber, and how many batches
    /// may wait for it.
    Subscribe {
        /// Number of the stream, unique among the sender's.
        stream: u64,
        /// Batches that may wait.
        capacity: u32,
    },
    /// Something newer; it is refused as unsupported.
    Other(u8),
}

/// The address of an entity, maybe of a kind that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// [`EntityKind::code`].
    pub kind: u8,
    /// Which one.
    pub id: Uuid,
}

impl Address {
    /// The entity, if this program knows its kind.
    #[must_use]
    pub fn entity(self) -> Option<EntityId> {
        EntityKind::from_code(self.kind).map(|kind| EntityId { kind, id: self.id })
    }
}

impl From<EntityId> for Address {
    fn from(entity: EntityId) -> Self {
        Self { kind: entity.kind.code(), id: entity.id }
    }
}

/// The node that an envelope comes from, when that is not the node of the link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Its name.
    pub node: String,
    /// Its boot.
    pub boot: Uuid,
}

/// Where in a trace an envelope stands (W3C trace context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: [u8; 16],
    /// The span that sent it.
    pub span: [u8; 8],
    /// W3C flags.
    pub flags: u8,
}

/// One message to one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The same in every try; unique in the cluster.
    pub id: Uuid,
    /// `None`: the node of the link.
    pub from: Option<Origin>,
    /// Rises by one with every envelope that this sender makes.
    pub sender_seq: u64,
    /// To whom.
    pub to: Address,
    /// The sender's idea of its Shard.
    pub shard: ShardId,
    /// The newest epoch of that Shard that the sender knows of, [`Epoch::ZERO`] if none.
    pub epoch: Epoch,
    /// What is left of its time, in milliseconds, from the moment it is received.
    pub ttl_ms: u32,
    /// How often it was passed on, at most [`HOPS_MAX`].
    pub hop: u8,
    /// A node that does not own the Shard may pass it on.
    pub relay: bool,
    /// What is asked for.
    pub kind: EnvelopeKind,
    /// The trace.
    pub trace: Option<TraceContext>,
    /// For the entity, at most [`BODY_BYTES_MAX`] bytes.
    pub body: Bytes,
}

impl Envelope {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        if self.hop > HOPS_MAX {
            let (found, max) = (usize::from(self.hop), usize::from(HOPS_MAX));
            return Err(EncodeError::TooLarge { what: "hop", found, max });
        }
        to.put_uuid(self.id);
        to.put_u64(self.sender_seq);
        to.put_u8(self.to.kind);
        to.put_uuid(self.to.id);
        to.put_u16(self.shard.0);
        to.put_u64(self.epoch.0);
        to.put_u32(self.ttl_ms);
        to.put_u8(self.hop);
        to.put_u8(u8::from(self.relay));
        let (code, extra) = match self.kind {
            EnvelopeKind::Ask => (1, None),
            EnvelopeKind::Tell => (2, None),
            EnvelopeKind::Subscribe { stream, capacity } => (3, Some((stream, capacity))),
            EnvelopeKind::Other(code) => (code, None),
        };
        to.put_u8(code);
        to.put_u8(u8::from(self.from.is_some()));
        if let Some(from) = &self.from {
            to.put_part("node name", from.node.as_bytes(), NODE_NAME_BYTES_MAX)?;
            to.put_uuid(from.boot);
        }
        to.put_u8(u8::from(self.trace.is_some()));
        if let Some(trace) = &self.trace {
            to.put_slice(&trace.trace);
            to.put_slice(&trace.span);
            to.put_u8(trace.flags);
        }
        to.put_part("body", &self.body, BODY_BYTES_MAX)?;
        if let Some((stream, capacity)) = extra {
            to.put_u64(stream);
            to.put_u32(capacity);
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, WHAT);
        let id = from.uuid()?;
        let sender_seq = from.u64()?;
        let to = Address { kind: from.u8()?, id: from.uuid()? };
        let shard = ShardId(from.u16()?);
        let epoch = Epoch(from.u64()?);
        let ttl_ms = from.u32()?;
        let hop = from.u8()?;
        if hop > HOPS_MAX {
            let (found, max) = (u64::from(hop), u64::from(HOPS_MAX));
            return Err(DecodeError::TooLarge { what: "hop", found, max });
        }
        let relay = from.is_some()?;
        let code = from.u8()?;
        let origin = if from.is_some()? {
            Some(Origin { node: from.text(NODE_NAME_BYTES_MAX)?, boot: from.uuid()? })
        } else {
            None
        };
        let trace = if from.is_some()? {
            Some(TraceContext { trace: from.fixed()?, span: from.fixed()?, flags: from.u8()? })
        } else {
            None
        };
        let body = from.bytes(BODY_BYTES_MAX)?;
        let kind = match code {
            1 => EnvelopeKind::Ask,
            2 => EnvelopeKind::Tell,
            3 => EnvelopeKind::Subscribe { stream: from.u64()?, capacity: from.u32()? },
            other => EnvelopeKind::Other(other),
        };
        Ok(Self {
            id,
            from: origin,
            sender_seq,
            to,
            shard,
            epoch,
            ttl_ms,
            hop,
            relay,
            kind,
            trace,
            body,
        })
    }
}
