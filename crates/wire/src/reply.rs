//! What became of an envelope.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::{Epoch, Uuid};

use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
    limits::{BODY_BYTES_MAX, NODE_NAME_BYTES_MAX, TEXT_BYTES_MAX},
};

const WHAT: &str = "reply";

/// The answer to one envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which one.
    pub to: Uuid,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Done, and committed where it had to be.
    Done(Bytes),
    /// It was here before. `done: false`: its answer is still to come. `done: true`: it
    /// happened, and the answer is no longer kept.
    Duplicate {
        /// Whether it is over.
        done: bool,
    },
    /// Its time was up before anybody handled it: nothing happened.
    Expired,
    /// The node does not own the Shard: nothing happened.
    NotOwner {
        /// Who may own it.
        owner: Option<String>,
        /// The newest epoch that the node knows of.
        epoch: Epoch,
    },
    /// The entity refused it: nothing happened.
    Failed {
        /// Stable word.
        code: String,
        /// A sentence for people.
        message: String,
        /// The typed refusal, if there is one.
        detail: Option<String>,
    },
    /// A queue is full: nothing happened.
    Overloaded,
    /// It reached nobody: nothing happened.
    NotDelivered,
    /// It may or may not have happened.
    Unknown,
    /// The node does not know this kind of envelope or entity: nothing happened.
    Unsupported,
    /// A part of an answer that is too long for one item; `Done` brings its last part.
    Part {
        /// Which one, from 0.
        part: u32,
        /// Its bytes.
        body: Bytes,
    },
    /// Something newer. It is read as [`Fate::Unknown`].
    Other(u8),
}

impl Reply {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_uuid(self.to);
        match &self.fate {
            Fate::Done(body) => {
                to.put_u8(1);
                to.put_part("body", body, BODY_BYTES_MAX)?;
            }
            Fate::Duplicate { done } => {
                to.put_u8(2);
                to.put_u8(u8::from(*done));
            }
            Fate::Expired => to.put_u8(3),
            Fate::NotOwner { owner, epoch } => {
                to.put_u8(4);
                to.put_u64(epoch.0);
                to.put_u8(u8::from(owner.is_some()));
                if let Some(owner) = owner {
                    to.put_part("node name", owner.as_bytes(), NODE_NAME_BYTES_MAX)?;
                }
            }
            Fate::Failed { code, message, detail } => {
                to.put_u8(5);
                to.put_part("code", code.as_bytes(), TEXT_BYTES_MAX)?;
                to.put_part("message", message.as_bytes(), TEXT_BYTES_MAX)?;
                to.put_u8(u8::from(detail.is_some()));
                if let Some(detail) = detail {
                    to.put_part("detail", detail.as_bytes(), BODY_BYTES_MAX)?;
                }
            }
            Fate::Overloaded => to.put_u8(6),
            Fate::NotDelivered => to.put_u8(7),
            Fate::Unknown => to.put_u8(8),
            Fate::Unsupported => to.put_u8(9),
            Fate::Part { part, body } => {
                to.put_u8(10);
                to.put_u32(*part);
                to.put_part("body", body, BODY_BYTES_MAX)?;
            }
            Fate::Other(code) => to.put_u8(*code),
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, WHAT);
        let to = from.uuid()?;
        let fate = match from.u8()? {
            1 => Fate::Done(from.bytes(BODY_BYTES_MAX)?),
            2 => Fate::Duplicate { done: from.is_some()? },
            3 => Fate::Expired,
            4 => {
                let epoch = Epoch(from.u64()?);
                let has_owner = from.is_some()?;
                let owner = has_owner.then(|| from.text(NODE_NAME_BYTES_MAX)).transpose()?;
                Fate::NotOwner { owner, epoch }
            }
            5 => {
                let code = from.text(TEXT_BYTES_MAX)?;
                let message = from.text(TEXT_BYTES_MAX)?;
                let has_detail = from.is_some()?;
                let detail = has_detail.then(|| from.text(BODY_BYTES_MAX)).transpose()?;
                Fate::Failed { code, message, detail }
            }
            6 => Fate::Overloaded,
            7 => Fate::NotDelivered,
            8 => Fate::Unknown,
            9 => Fate::Unsupported,
            10 => Fate::Part { part: from.u32()?, body: from.bytes(BODY_BYTES_MAX)? },
            other => Fate::Other(other),
        };
        Ok(Self { to, fate })
    }
}
