//! Blobs: bytes that are too large for an entry, named by their content.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::error::{ReadError, WriteError};

/// Largest blob, in bytes.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// SHA-256 of a blob's bytes; its name. The text form is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

impl BlobHash {
    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected 64 lower-case hex digits")]
pub struct BlobHashError;

impl FromStr for BlobHash {
    type Err = BlobHashError;

    fn from_str(text: &str) -> Result<Self, BlobHashError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| BlobHashError)?;
        bytes.try_into().map(Self).map_err(|_| BlobHashError)
    }
}

/// Immutable bytes by content hash. The same bytes are kept once.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync + 'static {
    /// Keeps the bytes, at most [`BLOB_BYTES_MAX`]; durable after `Ok`. Idempotent.
    ///
    /// # Errors
    /// See [`WriteError`]; it may be repeated after any of them.
    async fn put(&self, bytes: Bytes) -> Result<BlobHash, WriteError>;

    /// The bytes, checked against their name; `None` if there are none.
    ///
    /// # Errors
    /// [`ReadError::CorruptRow`] if they do not match their name.
    async fn get(&self, hash: BlobHash) -> Result<Option<Bytes>, ReadError>;

    /// Whether the bytes are there; does not read them.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn exists(&self, hash: BlobHash) -> Result<bool, ReadError>;
}
