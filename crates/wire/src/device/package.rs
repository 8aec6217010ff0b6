//! Packages of Skills: the device asks for one part after the other, so that no more than one is
//! under way to it, whatever else the link carries.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    limits::{HASH_BYTES, PACKAGE_PART_BYTES_MAX},
    work::AttemptKey,
};
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

/// Device: a part of a package that the job of this attempt names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageWanted {
    /// Whose job.
    pub key: AttemptKey,
    /// SHA-256 of the package.
    pub hash: [u8; HASH_BYTES],
    /// The byte that the part begins with.
    pub from: u64,
}

/// Cluster: the part, or that there is none to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagePart {
    /// Whose job.
    pub key: AttemptKey,
    /// SHA-256 of the package.
    pub hash: [u8; HASH_BYTES],
    /// The byte that the part begins with.
    pub from: u64,
    /// Bytes of the whole package; 0: the job does not name it, or it is not kept; the largest
    /// number: the node cannot say now.
    pub size: u64,
    /// At most 256 KiB.
    pub bytes: Bytes,
}

impl PackageWanted {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        self.key.encode(to);
        to.put_slice(&self.hash);
        to.put_u64(self.from);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "package wanted");
        let key = AttemptKey::decode(&mut from)?;
        Ok(Self { key, hash: from.fixed()?, from: from.u64()? })
    }
}

impl PackagePart {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_slice(&self.hash);
        to.put_u64(self.from);
        to.put_u64(self.size);
        to.put_part("part of a package", &self.bytes, PACKAGE_PART_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "part of a package");
        let key = AttemptKey::decode(&mut from)?;
        let (hash, begin, size) = (from.fixed()?, from.u64()?, from.u64()?);
        Ok(Self { key, hash, from: begin, size, bytes: from.bytes(PACKAGE_PART_BYTES_MAX)? })
    }
}
