//! Frames of an entity for a subscriber on another node.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
    limits::{BODY_BYTES_MAX, STREAM_FRAMES_MAX},
};

/// Some frames, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFrames {
    /// The stream, as the subscriber numbered it.
    pub stream: u64,
    /// Rises by one with every piece of this stream, from 1.
    pub piece: u64,
    /// More pieces of the same batch follow.
    pub more: bool,
    /// Encoded frames, together at most a body's size.
    pub frames: Vec<Bytes>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnded {
    /// The subscriber was too slow: start over from a seq.
    Lagged,
    /// The activation ended as planned: subscribe again.
    Ended,
    /// The stream broke off: subscribe again.
    Closed,
    /// Something newer, which means the same as `Closed`.
    Other(u8),
}

/// The last word of a stream, to the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Which stream.
    pub stream: u64,
    /// How.
    pub how: StreamEnded,
}

/// The subscriber is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStop {
    /// Which stream.
    pub stream: u64,
}

impl StreamFrames {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        let total: usize = self.frames.iter().map(Bytes::len).sum();
        if total > BODY_BYTES_MAX {
            return Err(EncodeError::TooLarge {
                what: "frames",
                found: total,
                max: BODY_BYTES_MAX,
            });
        }
        to.put_u64(self.stream);
        to.put_u64(self.piece);
        to.put_u8(u8::from(self.more));
        to.put_count("frames", self.frames.len(), STREAM_FRAMES_MAX)?;
        for frame in &self.frames {
            to.put_part("frame", frame, BODY_BYTES_MAX)?;
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "stream frames");
        let stream = from.u64()?;
        let piece = from.u64()?;
        let more = from.is_some()?;
        let count = from.count(STREAM_FRAMES_MAX)?;
        // Not `with_capacity`: the count may lie.
        let mut frames = Vec::new();
        for _ in 0..count {
            frames.push(from.bytes(BODY_BYTES_MAX)?);
        }
        Ok(Self { stream, piece, more, frames })
    }
}

impl StreamEnd {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u64(self.stream);
        to.put_u8(match self.how {
            StreamEnded::Lagged => 1,
            StreamEnded::Ended => 2,
            StreamEnded::Closed => 3,
            StreamEnded::Other(code) => code,
        });
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "stream end");
        let stream = from.u64()?;
        let how = match from.u8()? {
            1 => StreamEnded::Lagged,
            2 => StreamEnded::Ended,
            3 => StreamEnded::Closed,
            other => StreamEnded::Other(other),
        };
        Ok(Self { stream, how })
    }
}

impl StreamStop {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        to.put_u64(self.stream);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { stream: Reader::new(payload, "stream stop").u64()? })
    }
}
