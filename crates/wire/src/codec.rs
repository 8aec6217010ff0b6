//! Reading and writing the parts that all frames are made of.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use troupe_types::Uuid;

use crate::error::{DecodeError, EncodeError};

/// Reads parts from the front; every length is checked against what is there.
#[derive(Debug)]
pub(crate) struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Whether there is nothing more: an older program wrote it.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next bytes, shared with the source.
    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.rest.len() < len {
            return Err(DecodeError::Short { what: self.what });
        }
        Ok(self.rest.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        let Some(bytes) = self.rest.get(..N) else {
            return Err(DecodeError::Short { what: self.what });
        };
        array.copy_from_slice(bytes);
        // Not split off: that counts another owner of the bytes for each number.
        self.rest.advance(N);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.array()
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid::from_bytes)
    }

    /// Whether something follows: 0 or 1.
    pub(crate) fn is_some(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(DecodeError::Unknown { what: self.what, found: u64::from(found) }),
        }
    }

    /// A number that is bounded.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, DecodeError> {
        let found = self.u32()?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count > max {
            let (found, max) = (u64::from(found), u64::try_from(max).unwrap_or(u64::MAX));
            return Err(DecodeError::TooLarge { what: self.what, found, max });
        }
        Ok(count)
    }

    /// Bytes with their length in front.
    pub(crate) fn bytes(&mut self, max: usize) -> Result<Bytes, DecodeError> {
        let len = self.count(max)?;
        self.take(len)
    }

    /// Text with its length in front.
    pub(crate) fn text(&mut self, max: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(max)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::NotText { what: self.what }),
        }
    }
}

/// Writes the parts.
pub(crate) trait Put {
    fn put_uuid(&mut self, id: Uuid);
    fn put_part(&mut self, what: &'static str, bytes: &[u8], max: usize)
    -> Result<(), EncodeError>;
    fn put_count(
        &mut self,
        what: &'static str,
        count: usize,
        max: usize,
    ) -> Result<(), EncodeError>;
}

impl Put for BytesMut {
    fn put_uuid(&mut self, id: Uuid) {
        self.put_slice(id.as_bytes());
    }

    fn put_part(
        &mut self,
        what: &'static str,
        bytes: &[u8],
        max: usize,
    ) -> Result<(), EncodeError> {
        self.put_count(what, bytes.len(), max)?;
        self.put_slice(bytes);
        Ok(())
    }

    fn put_count(
        &mut self,
        what: &'static str,
        count: usize,
        max: usize,
    ) -> Result<(), EncodeError> {
        match u32::try_from(count) {
            Ok(number) if count <= max => {
                self.put_u32(number);
                Ok(())
            }
            _ => Err(EncodeError::TooLarge { what, found: count, max }),
        }
    }
}
