//! The frame around the records.
//!
//! ```text
//! "troupe-backup\n" format(u16)   { kind(u8) length(u32) payload crc32(u32) }*   end
//! end: kind 255, payload = nine counts (u64), length of all before it (u64), its SHA-256
//! ```
//! The CRC covers kind, length and payload; the SHA-256 covers everything before the end, so a
//! record that is missing, doubled or moved is seen too. A file without its end is not whole.

use std::io::{self, Read, Seek};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::record::{Head, Kind, Record};
use crate::BLOB_BYTES_MAX;

/// The version of the form. A reader takes this one only, until there is a second.
pub const FORMAT: u16 = 1;
const MAGIC: &[u8] = b"troupe-backup\n";
/// The largest payload: a blob or the state of a snapshot, and what stands around it.
const PAYLOAD_BYTES_MAX: usize = BLOB_BYTES_MAX + 1024;
/// Kind and length.
const LEAD_BYTES: usize = 5;

/// Why a file is no backup, or not a whole one.
#[derive(Debug, Error)]
pub enum FileError {
    /// It begins with something else.
    #[error("this is not a backup")]
    Foreign,
    /// A newer program made it.
    #[error("the backup has format {found}, this program reads {FORMAT}; use a newer program")]
    Newer {
        /// Its format.
        found: u16,
    },
    /// It ends too early.
    #[error("the backup is cut off after {at} bytes")]
    Truncated {
        /// Where.
        at: u64,
    },
    /// Its bytes are not those that were written.
    #[error("the backup is damaged near byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// It cannot be read.
    #[error("the backup cannot be read")]
    Io(#[source] io::Error),
}

/// How many records of each kind, and how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    counts: [u64; Kind::COUNTED.len()],
    /// Bytes of everything before the end.
    pub bytes: u64,
}

impl Totals {
    /// How many records of this kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        let place = Kind::COUNTED.iter().position(|counted| *counted == kind);
        place.map_or(0, |place| self.counts[place])
    }

    fn add(&mut self, kind: Kind) {
        if let Some(place) = Kind::COUNTED.iter().position(|counted| *counted == kind) {
            self.counts[place] += 1;
        }
    }
}

/// Turns records into bytes.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    totals: Totals,
    hash: Sha256,
}

impl Encoder {
    /// What a file begins with.
    pub(super) fn begin(&mut self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(MAGIC);
        out.put_u16(FORMAT);
        self.seen(&out[start..]);
    }

    pub(super) fn record(&mut self, record: &Record, out: &mut BytesMut) {
        let start = out.len();
        frame(record.kind(), &record.encode(), out);
        self.totals.add(record.kind());
        self.seen(&out[start..]);
    }

    /// What a file ends with.
    pub(super) fn end(self, out: &mut BytesMut) -> Totals {
        let mut payload = BytesMut::new();
        for count in self.totals.counts {
            payload.put_u64(count);
        }
        payload.put_u64(self.totals.bytes);
        payload.put_slice(&self.hash.finalize());
        frame(Kind::End, &payload, out);
        self.totals
    }

    fn seen(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.totals.bytes += bytes.len() as u64;
    }
}

fn frame(kind: Kind, payload: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.put_u8(kind.code());
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_slice(payload);
    let crc = crc32fast::hash(&out[start..]);
    out.put_u32(crc);
}

/// Reads a file record by record; what it has given is as it was written, but only the end
/// tells that nothing is missing.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    at: u64,
    totals: Totals,
    hash: Sha256,
    head: Head,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn begin(mut source: R) -> Result<Self, FileError> {
        let mut lead = Vec::new();
        let want = MAGIC.len() + size_of::<u16>();
        source.by_ref().take(want as u64).read_to_end(&mut lead).map_err(FileError::Io)?;
        if !lead.starts_with(MAGIC) {
            return Err(FileError::Foreign);
        }
        let Some(&[high, low]) = lead.get(MAGIC.len()..want) else {
            return Err(FileError::Truncated { at: lead.len() as u64 });
        };
        let found = u16::from_be_bytes([high, low]);
        if found != FORMAT {
            return Err(FileError::Newer { found });
        }
        let (totals, hash) = (Totals::default(), Sha256::new());
        let mut reader = Self { source, at: want as u64, totals, hash, head: Head::default() };
        reader.seen(&lead);
        match reader.next()? {
            Some(Record::Head(head)) => reader.head = head,
            _ => return Err(reader.damaged("it does not begin with its head")),
        }
        Ok(reader)
    }

    /// What the backup says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What has been read so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The next record; `None` once the end was read and holds.
    ///
    /// # Errors
    /// See [`FileError`].
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot say that it failed")]
    pub fn next(&mut self) -> Result<Option<Record>, FileError> {
        let lead = self.take(LEAD_BYTES)?;
        let length = u32::from_be_bytes([lead[1], lead[2], lead[3], lead[4]]) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(self.damaged("a length is out of all bounds"));
        }
        let rest = self.take(length + size_of::<u32>())?;
        let (payload, crc) = rest.split_at(length);
        let mut found = crc32fast::Hasher::new();
        found.update(&lead);
        found.update(payload);
        if found.finalize().to_be_bytes() != crc {
            return Err(self.damaged("a checksum does not hold"));
        }
        let unknown = "a record is of no known kind";
        let kind = Kind::from_code(lead[0]).ok_or_else(|| self.damaged(unknown))?;
        if kind == Kind::End {
            return self.end(payload).map(|()| None);
        }
        self.seen(&lead);
        self.seen(&rest);
        self.totals.add(kind);
        let payload = Bytes::from(rest).slice(..length);
        match Record::decode(kind, payload) {
            Ok(record) => Ok(Some(record)),
            Err(_) => Err(self.damaged("a record does not read as its kind")),
        }
    }

    fn end(&mut self, mut payload: &[u8]) -> Result<(), FileError> {
        let mut told = Totals::default();
        let whole = (told.counts.len() + 1) * size_of::<u64>() + 32;
        if payload.len() != whole {
            return Err(self.damaged("the end does not read as one"));
        }
        for count in &mut told.counts {
            *count = payload.get_u64();
        }
        told.bytes = payload.get_u64();
        if told != self.totals {
            return Err(self.damaged("records are missing or doubled"));
        }
        if payload != self.hash.clone().finalize().as_slice() {
            return Err(self.damaged("the checksum of the whole does not hold"));
        }
        let mut more = [0];
        match self.source.read(&mut more).map_err(FileError::Io)? {
            0 => Ok(()),
            _ => Err(self.damaged("something follows the end")),
        }
    }

    /// So many bytes. Memory is taken as they come, not as a damaged length says.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(count as u64).read_to_end(&mut bytes);
        self.at += read.map_err(FileError::Io)? as u64;
        if bytes.len() < count { Err(FileError::Truncated { at: self.at }) } else { Ok(bytes) }
    }

    fn seen(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.totals.bytes += bytes.len() as u64;
    }

    fn damaged(&self, what: &'static str) -> FileError {
        FileError::Damaged { at: self.at, what }
    }
}

/// A backup that was read to its end and is whole.
#[derive(Debug)]
pub struct Verified<R> {
    source: R,
    head: Head,
    totals: Totals,
}

impl<R: Read + Seek> Verified<R> {
    /// Reads it to its end.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn check(mut source: R) -> Result<Self, FileError> {
        source.rewind().map_err(FileError::Io)?;
        let (head, totals) = verify(&mut source)?;
        Ok(Self { source, head, totals })
    }

    /// What the backup says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What is in it.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// From its beginning again.
    pub(super) fn read(mut self) -> Result<(Reader<R>, Totals), FileError> {
        self.source.rewind().map_err(FileError::Io)?;
        Ok((Reader::begin(self.source)?, self.totals))
    }
}

/// Reads a file to its end and tells what is in it. Entries must follow each other.
///
/// # Errors
/// See [`FileError`].
pub fn verify(source: impl Read) -> Result<(Head, Totals), FileError> {
    let mut reader = Reader::begin(source)?;
    let mut expected = None;
    while let Some(record) = reader.next()? {
        let follows = match &record {
            Record::Head(_) => false,
            Record::Entity { entity, upto } => {
                let above = if entity.kind.archives() { 0 } else { upto.0 };
                expected = Some(above + 1);
                true
            }
            Record::Entry(entry) => {
                let follows = expected == Some(entry.seq.0);
                expected = Some(entry.seq.0 + 1);
                follows
            }
            Record::Snapshot(snapshot) => expected == Some(snapshot.upto.0 + 1),
            Record::Wake(..) | Record::Task(_) => expected.is_some(),
            Record::Row(_) | Record::Blob(_) | Record::DeadLetter(_) => true,
        };
        if !follows {
            return Err(reader.damaged("a record stands where it cannot"));
        }
    }
    Ok((reader.head, reader.totals))
}
