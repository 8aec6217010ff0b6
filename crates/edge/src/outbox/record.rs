//! Records of an attempt's log.
//!
//! ```text
//! segment = "TRPEDGE", version 1, record*
//! record  = length, CRC-32, kind, payload        length and CRC are of kind and payload
//! ```
//! Numbers are big-endian. The payload of an output is its number and its body; all others are
//! JSON, whose readers ignore fields that they do not know. A kind that a reader does not know
//! is skipped.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use troupe_types::OutSeq;

use super::fold::{Accepted, Fold, StoredInput};

/// What a segment begins with.
pub(super) const SEGMENT_HEAD: &[u8; 8] = b"TRPEDGE\x01";
/// Length and CRC.
pub(super) const RECORD_HEAD_BYTES: usize = 8;
/// Largest record.
pub(super) const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an output costs besides its body.
const OUTPUT_HEAD_BYTES: usize = RECORD_HEAD_BYTES + 1 + 8;

/// How an attempt ended on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its last output says how.
    Finished,
    /// It was cancelled.
    Cancelled,
    /// It could not go on.
    Lost,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The assignment, without its secrets.
    Accepted(Accepted),
    /// A piece of output.
    Output(OutSeq, Bytes),
    /// Output up to here was acknowledged.
    Acked(OutSeq),
    /// An input was taken.
    Input(StoredInput),
    /// The runtime has this session; a later start goes on in it.
    Session(String),
    /// It ended, with a word for people.
    Ended(Ended, String),
    /// All that the records before say, so that they can go.
    Checkpoint(Box<Fold>),
}

/// Bytes of an output on the disk.
pub(super) const fn output_bytes(body: usize) -> usize {
    OUTPUT_HEAD_BYTES + body
}

impl Record {
    const fn kind(&self) -> u8 {
        match self {
            Self::Accepted(_) => 1,
            Self::Output(..) => 2,
            Self::Acked(_) => 3,
            Self::Input(_) => 4,
            Self::Session(_) => 5,
            Self::Ended(..) => 6,
            Self::Checkpoint(_) => 7,
        }
    }

    /// Appends the record's bytes.
    pub(super) fn encode(&self, to: &mut BytesMut) -> Result<(), serde_json::Error> {
        let start = to.len();
        to.put_bytes(0, RECORD_HEAD_BYTES);
        to.put_u8(self.kind());
        match self {
            Self::Output(seq, body) => {
                to.put_u64(seq.0);
                to.put_slice(body);
            }
            Self::Accepted(accepted) => serde_json::to_writer((&mut *to).writer(), accepted)?,
            Self::Acked(seq) => serde_json::to_writer((&mut *to).writer(), seq)?,
            Self::Input(input) => serde_json::to_writer((&mut *to).writer(), input)?,
            Self::Session(session) => serde_json::to_writer((&mut *to).writer(), session)?,
            Self::Ended(how, text) => serde_json::to_writer((&mut *to).writer(), &(how, text))?,
            Self::Checkpoint(fold) => serde_json::to_writer((&mut *to).writer(), fold)?,
        }
        let body = &to[start + RECORD_HEAD_BYTES..];
        let (len, crc) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32fast::hash(body));
        to[start..start + 4].copy_from_slice(&len.to_be_bytes());
        to[start + 4..start + RECORD_HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    /// Reads the record at the front. `None`: what is there is no whole, valid record.
    /// `Some((None, _))`: one of a kind that this version does not know.
    pub(super) fn decode(bytes: &Bytes) -> Option<(Option<Self>, usize)> {
        let body = body_at(bytes, 0)?;
        let used = RECORD_HEAD_BYTES + body.len();
        let body = bytes.slice(RECORD_HEAD_BYTES..used);
        let (kind, payload) = (body[0], body.slice(1..));
        let record = match kind {
            1 => Self::Accepted(serde_json::from_slice(&payload).ok()?),
            2 => {
                let seq = u64::from_be_bytes(payload.get(..8)?.try_into().ok()?);
                Self::Output(OutSeq(seq), payload.slice(8..))
            }
            3 => Self::Acked(serde_json::from_slice(&payload).ok()?),
            4 => Self::Input(serde_json::from_slice(&payload).ok()?),
            5 => Self::Session(serde_json::from_slice(&payload).ok()?),
            6 => {
                let (how, text) = serde_json::from_slice(&payload).ok()?;
                Self::Ended(how, text)
            }
            7 => Self::Checkpoint(serde_json::from_slice(&payload).ok()?),
            _ => return Some((None, used)),
        };
        Some((Some(record), used))
    }
}

/// Kind and payload of the record at an offset, if it is whole and its CRC is right.
fn body_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let head = bytes.get(at..at + RECORD_HEAD_BYTES)?;
    let len = u32::from_be_bytes(head[..4].try_into().ok()?);
    let len = usize::try_from(len).ok()?;
    if !(1..=RECORD_BYTES_MAX).contains(&len) {
        return None;
    }
    let start = at + RECORD_HEAD_BYTES;
    let body = bytes.get(start..start.checked_add(len)?)?;
    let crc = u32::from_be_bytes(head[4..].try_into().ok()?);
    (crc32fast::hash(body) == crc).then_some(body)
}

/// Whether a valid record begins anywhere in these bytes: then what lies before it was not torn
/// off by a crash but damaged.
pub(super) fn any_record_in(bytes: &[u8]) -> bool {
    (0..bytes.len().saturating_sub(RECORD_HEAD_BYTES)).any(|at| body_at(bytes, at).is_some())
}
