//! Planned moves of a Shard from one node to another.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::{Epoch, Incarnation, ShardId};

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
    /// `Prepare`: the epoch under which the old owner holds it; `Committed`: the new owner's;
    /// in all other words zero.
    pub epoch: Epoch,
    /// The incarnation of the old owner. With `count` it names this hand-off.
    pub source_inc: Incarnation,
    /// Which hand-off of that incarnation.
    pub count: u64,
    /// `Ready`: the incarnation of the new owner; in all other words zero.
    pub target_inc: Incarnation,
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
        to.put_u64(self.source_inc.0);
        to.put_u64(self.count);
        to.put_u64(self.target_inc.0);
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
        let source_inc = Incarnation(from.u64()?);
        let count = from.u64()?;
        let target_inc = Incarnation(from.u64()?);
        Ok(Self { shard, epoch, source_inc, count, target_inc, step })
    }
}
