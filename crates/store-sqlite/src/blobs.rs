//! Blobs as files: written beside their place, synced, renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::SemaphorePermit, task::spawn_blocking, time::timeout};
use troupe_store::{
    BLOB_BYTES_MAX, BlobHash, Blobs, CorruptPart, InvalidWrite, ReadError, WriteError, cause,
};
use troupe_types::Uuid;

use crate::{
    SqliteStore,
    error::is_full,
    home::{Home, sync_dir},
};

const SLOT_WAIT_MAX: Duration = Duration::from_secs(20);

fn place(home: &Home, hash: BlobHash) -> (PathBuf, PathBuf) {
    let name = hash.to_string();
    let (shelf, rest) = name.split_at(2);
    let dir = home.blobs().join(shelf);
    let file = dir.join(rest);
    (dir, file)
}

fn write(home: &Home, hash: BlobHash, bytes: &[u8]) -> io::Result<()> {
    let (dir, file) = place(home, hash);
    if file.try_exists()? {
        // Whoever renamed it may not have come to this yet.
        return sync_dir(&dir);
    }
    if !dir.try_exists()? {
        fs::create_dir_all(&dir)?;
        sync_dir(&home.blobs())?;
    }
    let tmp = home.blobs().join("tmp").join(Uuid::new_v4().to_string());
    write_synced(&tmp, bytes).and_then(|()| fs::rename(&tmp, &file)).inspect_err(|_| {
        // Best effort: what stays behind is swept at the next start.
        let _ = fs::remove_file(&tmp);
    })?;
    sync_dir(&dir)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn write_error(error: io::Error) -> WriteError {
    if is_full(&error) {
        return WriteError::Full;
    }
    // Under its final name the file is whole or absent, so a repeated write does no harm.
    WriteError::OutcomeUnknown { source: cause(error) }
}

fn read_failed(error: io::Error) -> ReadError {
    ReadError::Unavailable { source: cause(error) }
}

impl SqliteStore {
    async fn blob_slot(&self) -> Option<SemaphorePermit<'_>> {
        timeout(SLOT_WAIT_MAX, self.inner.blob_slots.acquire()).await.ok()?.ok()
    }
}

#[async_trait]
impl Blobs for SqliteStore {
    async fn put(&self, bytes: Bytes) -> Result<BlobHash, WriteError> {
        let size = bytes.len();
        if size > BLOB_BYTES_MAX {
            let invalid = InvalidWrite::TooLarge { bytes: size, max: BLOB_BYTES_MAX };
            return Err(WriteError::Invalid(invalid));
        }
        let busy = || WriteError::Unavailable { source: cause("too many blobs are under way") };
        let _slot = self.blob_slot().await.ok_or_else(busy)?;
        let home = Arc::clone(&self.inner.home);
        let write = spawn_blocking(move || {
            let hash = BlobHash::of(&bytes);
            write(&home, hash, &bytes).map(|()| hash)
        });
        let panicked = |e| WriteError::OutcomeUnknown { source: cause(e) };
        write.await.map_err(panicked)?.map_err(write_error)
    }

    async fn get(&self, hash: BlobHash) -> Result<Option<Bytes>, ReadError> {
        let busy = || ReadError::Unavailable { source: cause("too many blobs are under way") };
        let _slot = self.blob_slot().await.ok_or_else(busy)?;
        let (_, file) = place(&self.inner.home, hash);
        let read = spawn_blocking(move || match fs::read(file) {
            Ok(bytes) => Ok(Some((BlobHash::of(&bytes), bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        });
        let panicked = |e| ReadError::Unavailable { source: cause(e) };
        match read.await.map_err(panicked)?.map_err(read_failed)? {
            Some((found, _)) if found != hash => {
                Err(ReadError::CorruptRow { what: "a blob", part: CorruptPart::Blob })
            }
            Some((_, bytes)) => Ok(Some(bytes.into())),
            None => Ok(None),
        }
    }

    async fn exists(&self, hash: BlobHash) -> Result<bool, ReadError> {
        let (_, file) = place(&self.inner.home, hash);
        let panicked = |e| ReadError::Unavailable { source: cause(e) };
        let exists = spawn_blocking(move || file.try_exists()).await.map_err(panicked)?;
        exists.map_err(read_failed)
    }
}
