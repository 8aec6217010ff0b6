//! Batches: what one message of the node link carries.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::Reader,
    control::{Credit, Heartbeat},
    envelope::Envelope,
    error::{DecodeError, EncodeError},
    handoff::Handoff,
    limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, ITEM_BYTES_MAX},
    reply::{Fate, Reply},
    stream::{StreamEnd, StreamFrames, StreamStop},
};

/// The version of batches that this program writes.
pub const BATCH_VERSION: u8 = 1;

const WHAT: &str = "batch";
/// Version, token, number of items.
const HEAD_BYTES: usize = 1 + 8 + 2;
/// Kind and length of an item.
const ITEM_HEAD_BYTES: usize = 1 + 4;

/// One thing that a node tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message to an entity.
    Envelope(Envelope),
    /// What became of one.
    Reply(Reply),
    /// More may be sent.
    Credit(Credit),
    /// Still alive.
    Heartbeat(Heartbeat),
    /// Frames for a subscriber.
    Frames(StreamFrames),
    /// The end of a stream.
    End(StreamEnd),
    /// The subscriber is gone.
    Stop(StreamStop),
    /// A planned move of a Shard.
    Handoff(Handoff),
    /// Something newer: its kind and its bytes. Readers skip it.
    Other(u8, Bytes),
}

impl Item {
    const fn code(&self) -> u8 {
        match self {
            Self::Envelope(_) => 1,
            Self::Reply(_) => 2,
            Self::Credit(_) => 3,
            Self::Heartbeat(_) => 4,
            Self::Frames(_) => 5,
            Self::End(_) => 6,
            Self::Stop(_) => 7,
            Self::Handoff(_) => 8,
            Self::Other(code, _) => *code,
        }
    }

    fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Envelope(envelope) => envelope.encode(to)?,
            Self::Reply(reply) => reply.encode(to)?,
            Self::Credit(credit) => credit.encode(to),
            Self::Heartbeat(beat) => beat.encode(to),
            Self::Frames(frames) => frames.encode(to)?,
            Self::End(end) => end.encode(to),
            Self::Stop(stop) => stop.encode(to),
            Self::Handoff(handoff) => handoff.encode(to),
            Self::Other(_, bytes) => to.put_slice(bytes),
        }
        Ok(())
    }

    fn decode(code: u8, payload: Bytes) -> Result<Self, DecodeError> {
        Ok(match code {
            1 => Self::Envelope(Envelope::decode(payload)?),
            2 => Self::Reply(Reply::decode(payload)?),
            3 => Self::Credit(Credit::decode(payload)?),
            4 => Self::Heartbeat(Heartbeat::decode(payload)?),
            5 => Self::Frames(StreamFrames::decode(payload)?),
            6 => Self::End(StreamEnd::decode(payload)?),
            7 => Self::Stop(StreamStop::decode(payload)?),
            8 => Self::Handoff(Handoff::decode(payload)?),
            other => Self::Other(other, payload),
        })
    }

    /// Bytes that are nearly always enough for it.
    const fn room(&self) -> usize {
        match self {
            Self::Envelope(envelope) => 128 + envelope.body.len(),
            Self::Reply(Reply { fate: Fate::Done(body), .. }) => 32 + body.len(),
            _ => 128,
        }
    }

    /// Whether it is paid for with credit: what a peer can make us send without end is.
    #[must_use]
    pub const fn costs_credit(&self) -> bool {
        matches!(self, Self::Envelope(_) | Self::Reply(_) | Self::Frames(_))
    }
}

/// A batch that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The word that this end gave its peer in its hello; else the batch is of another link.
    pub token: u64,
    /// The items with their sizes in the batch, in order; newer kinds are among them as
    /// [`Item::Other`].
    pub items: Vec<(Item, usize)>,
}

impl Batch {
    /// The token of a batch that may not read otherwise, to find its link.
    #[must_use]
    pub fn token_of(bytes: &[u8]) -> Option<u64> {
        let token = bytes.get(1..9)?.try_into().ok()?;
        Some(u64::from_be_bytes(token))
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// It is too large, of another version, or not whole.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > BATCH_BYTES_MAX {
            let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let max = u64::try_from(BATCH_BYTES_MAX).unwrap_or(u64::MAX);
            return Err(DecodeError::TooLarge { what: WHAT, found, max });
        }
        let mut from = Reader::new(bytes, WHAT);
        let found = from.u8()?;
        if found != BATCH_VERSION {
            let (oldest, newest) = (BATCH_VERSION, BATCH_VERSION);
            return Err(DecodeError::Version { what: WHAT, found, oldest, newest });
        }
        let token = from.u64()?;
        let count = usize::from(from.u16()?);
        // Not more room than a batch can fill.
        let mut items = Vec::with_capacity(count.min(BATCH_ITEMS_MAX));
        for _ in 0..count {
            let code = from.u8()?;
            let payload = from.bytes(ITEM_BYTES_MAX)?;
            let size = ITEM_HEAD_BYTES + payload.len();
            items.push((Item::decode(code, payload)?, size));
        }
        Ok(Self { token, items })
    }
}

/// Writes a batch, item by item, as long as they fit.
#[derive(Debug)]
pub struct BatchWriter {
    bytes: BytesMut,
    count: u16,
}

impl BatchWriter {
    /// A batch for the peer that gave this token.
    #[must_use]
    pub fn new(token: u64) -> Self {
        let mut bytes = BytesMut::with_capacity(1_024);
        bytes.put_u8(BATCH_VERSION);
        bytes.put_u64(token);
        bytes.put_u16(0);
        Self { bytes, count: 0 }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of items in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// An encoded item, to be put into a batch later.
    ///
    /// # Errors
    /// It is above the limits.
    pub fn encode_item(item: &Item) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(ITEM_HEAD_BYTES + item.room());
        to.put_u8(item.code());
        to.put_u32(0);
        item.encode(&mut to)?;
        let len = to.len() - ITEM_HEAD_BYTES;
        let too_large = EncodeError::TooLarge { what: "item", found: len, max: ITEM_BYTES_MAX };
        if len > ITEM_BYTES_MAX {
            return Err(too_large);
        }
        let number = u32::try_from(len).map_err(|_| too_large)?;
        to[1..ITEM_HEAD_BYTES].copy_from_slice(&number.to_be_bytes());
        Ok(to.freeze())
    }

    /// Puts in an item of [`encode_item`](Self::encode_item). `false`: it does not fit, send
    /// this batch first.
    #[must_use]
    pub fn push(&mut self, item: &[u8]) -> bool {
        let full = usize::from(self.count) >= BATCH_ITEMS_MAX
            || self.bytes.len() + item.len() > BATCH_BYTES_MAX;
        if full {
            return false;
        }
        self.bytes.put_slice(item);
        self.count += 1;
        true
    }

    /// The bytes of the batch.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.bytes[HEAD_BYTES - 2..HEAD_BYTES].copy_from_slice(&self.count.to_be_bytes());
        self.bytes.freeze()
    }
}
