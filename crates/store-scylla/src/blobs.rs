//! Blobs in chunks; the row that says how many makes them exist.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use troupe_store::{
    BLOB_BYTES_MAX, BlobHash, Blobs, CorruptPart, InvalidWrite, ReadError, WriteError, cause,
};

use crate::{
    ScyllaStore,
    error::{Failed, unread},
};

const WHAT: &str = "a blob";
/// Bytes of one chunk.
const PART_BYTES: usize = 512 * 1024;
/// Chunks of one blob that are under way at once.
const PARTS_AT_ONCE: usize = 4;
/// Blobs that are under way at once, in all handles of the process.
const BLOBS_AT_ONCE: usize = 8;
static SLOTS: Semaphore = Semaphore::const_new(BLOBS_AT_ONCE);

const CORRUPT: ReadError = ReadError::CorruptRow { what: WHAT, part: CorruptPart::Blob };

impl ScyllaStore {
    async fn blob_slot(&self) -> Result<SemaphorePermit<'static>, Failed> {
        let slot = timeout(self.cql().timeouts.start, SLOTS.acquire()).await;
        let slot = slot.map_err(|e| Failed::Refused(cause(e)))?;
        slot.map_err(|e| Failed::Refused(cause(e)))
    }

    /// How many bytes and chunks there are.
    async fn blob_row(&self, hash: BlobHash) -> Result<Option<(i64, i32)>, Failed> {
        self.cql().row(&self.statements().blob, (hash.0.as_slice(),)).await
    }

    async fn write_blob(&self, hash: BlobHash, bytes: &Bytes) -> Result<(), Failed> {
        let too_many = |e| Failed::Refused(cause(e));
        let count = i32::try_from(bytes.len().div_ceil(PART_BYTES)).map_err(too_many)?;
        let write = |(number, start): (i32, usize)| async move {
            let body = bytes.slice(start..bytes.len().min(start + PART_BYTES));
            let values = (hash.0.as_slice(), number, body);
            self.cql().write(&self.statements().blob_part_insert, values).await
        };
        let parts = (0..count).zip((0..).step_by(PART_BYTES));
        let all = stream::iter(parts).map(write).buffer_unordered(PARTS_AT_ONCE);
        all.try_collect::<()>().await?;
        let size = i64::try_from(bytes.len()).map_err(too_many)?;
        self.cql().write(&self.statements().blob_insert, (hash.0.as_slice(), size, count)).await
    }

    async fn read_parts(&self, hash: BlobHash, count: i32) -> Result<Option<Bytes>, Failed> {
        let read = |number: i32| async move {
            let key = (hash.0.as_slice(), number);
            self.cql().row::<(Option<Bytes>,)>(&self.statements().blob_part, key).await
        };
        let mut parts = stream::iter(0..count).map(read).buffered(PARTS_AT_ONCE);
        let mut bytes = BytesMut::new();
        while let Some(part) = parts.try_next().await? {
            let Some((Some(body),)) = part else { return Ok(None) };
            bytes.extend_from_slice(&body);
        }
        Ok(Some(bytes.freeze()))
    }
}

#[async_trait]
impl Blobs for ScyllaStore {
    async fn put(&self, bytes: Bytes) -> Result<BlobHash, WriteError> {
        let size = bytes.len();
        if size > BLOB_BYTES_MAX {
            let invalid = InvalidWrite::TooLarge { bytes: size, max: BLOB_BYTES_MAX };
            return Err(WriteError::Invalid(invalid));
        }
        let _slot = self.blob_slot().await?;
        let hash = BlobHash::of(&bytes);
        if self.blob_row(hash).await?.is_none() {
            self.write_blob(hash, &bytes).await?;
        }
        Ok(hash)
    }

    async fn get(&self, hash: BlobHash) -> Result<Option<Bytes>, ReadError> {
        let _slot = self.blob_slot().await.map_err(unread(WHAT))?;
        let row = self.blob_row(hash).await.map_err(unread(WHAT))?;
        let Some((_, count)) = row else { return Ok(None) };
        let bytes = self.read_parts(hash, count).await.map_err(unread(WHAT))?.ok_or(CORRUPT)?;
        if BlobHash::of(&bytes) == hash { Ok(Some(bytes)) } else { Err(CORRUPT) }
    }

    async fn exists(&self, hash: BlobHash) -> Result<bool, ReadError> {
        Ok(self.blob_row(hash).await.map_err(unread(WHAT))?.is_some())
    }
}
