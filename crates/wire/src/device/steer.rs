//! Words about the link itself.

use bytes::{BufMut, Bytes, BytesMut};

use super::limits::MESSAGE_BYTES_MAX;
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

/// This device is not wanted any more. It stops what runs and dials no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// A sentence for people.
    pub message: String,
}

/// Whether the device gets new work. What runs goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// No new work; or new work again.
    pub on: bool,
    /// A sentence for people.
    pub reason: String,
}

/// The node leaves: dial again, at once if `redial_after_ms` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// A sentence for people.
    pub reason: String,
    /// How long to wait.
    pub redial_after_ms: u32,
}

/// Are you there? Its sender measures the way with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Comes back in the [`Pong`].
    pub nonce: u64,
}

/// Yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// Of the [`Ping`].
    pub nonce: u64,
}

impl Revoked {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_part("message", self.message.as_bytes(), MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { message: Reader::new(payload, "revocation").text(MESSAGE_BYTES_MAX)? })
    }
}

impl Drain {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_u8(u8::from(self.on));
        to.put_part("reason", self.reason.as_bytes(), MESSAGE_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "drain");
        Ok(Self { on: from.is_some()?, reason: from.text(MESSAGE_BYTES_MAX)? })
    }
}

impl GoAway {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_part("reason", self.reason.as_bytes(), MESSAGE_BYTES_MAX)?;
        to.put_u32(self.redial_after_ms);
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "go away");
        Ok(Self { reason: from.text(MESSAGE_BYTES_MAX)?, redial_after_ms: from.u32()? })
    }
}

impl Ping {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u64(self.nonce);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { nonce: Reader::new(payload, "ping").u64()? })
    }
}

impl Pong {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u64(self.nonce);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { nonce: Reader::new(payload, "pong").u64()? })
    }
}
