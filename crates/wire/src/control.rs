//! Credits and heartbeats.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{codec::Reader, error::DecodeError};

/// The peer may send so much more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Bytes of items.
    pub bytes: u64,
    /// Items.
    pub items: u32,
}

/// The sender is alive, and so is its lease as of this renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Incarnation of its lease.
    pub inc: u64,
    /// The last good renewal.
    pub seq: u64,
}

impl Credit {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u64(self.bytes);
        to.put_u32(self.items);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "credit");
        Ok(Self { bytes: from.u64()?, items: from.u32()? })
    }
}

impl Heartbeat {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u64(self.inc);
        to.put_u64(self.seq);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "heartbeat");
        Ok(Self { inc: from.u64()?, seq: from.u64()? })
    }
}
