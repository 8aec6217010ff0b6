//! Planned moves of a Shard from one node to another.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::{Epoch, ShardId};

use crate::{codec::Reader, error::DecodeError};

/// How far a hand-off is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffStep {
    /// Old owner: will you take it?
    Prepare,
    /// New owner: yes, I buffer.
    Ready,
    /// New owner: no.
    Refused,
    /// Old owner: the row names you.
    Committed,
    /// Old owner: nothing of mine follows; all that I forwarded came before this.
    FlushMarker,
    /// Old owner: I keep it, stop buffering.
    Cancelled,
    /// Something newer; it is ignored.
    Other(u8),
}

/// One word of a hand-off. Its order with envelopes of the same link counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// Which Shard.
    pub shard: ShardId,
    /// The epoch under which the new owner will hold it.
    pub epoch: Epoch,
    /// Which word.
    pub step: HandoffStep,
}

impl Handoff {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u16(self.shard.0);
        to.put_u64(self.epoch.0);
        to.put_u8(match self.step {
            HandoffStep::Prepare => 1,
            HandoffStep::Ready => 2,
            HandoffStep::Refused => 3,
            HandoffStep::Committed => 4,
            HandoffStep::FlushMarker => 5,
            HandoffStep::Cancelled => 6,
            HandoffStep::Other(code) => code,
        });
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "hand-off");
        let shard = ShardId(from.u16()?);
        let epoch = Epoch(from.u64()?);
        let step = match from.u8()? {
            1 => HandoffStep::Prepare,
            2 => HandoffStep::Ready,
            3 => HandoffStep::Refused,
            4 => HandoffStep::Committed,
            5 => HandoffStep::FlushMarker,
            6 => HandoffStep::Cancelled,
            other => HandoffStep::Other(other),
        };
        Ok(Self { shard, epoch, step })
    }
}
