//! Packages of Skills for a device, part after part.
//!
//! Invariant: a device gets only what a job names that it has.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use troupe_domain::device::DeviceRefusal;
use troupe_entities::{
    DeviceAddress,
    device::{DeviceError, Has},
};
use troupe_packages::PACKAGE_BYTES_MAX;
use troupe_store::{BlobHash, Blobs, ReadError};
use troupe_types::Uuid;
use troupe_wire::device::{
    PackagePart, PackageWanted,
    limits::{HASH_BYTES, PACKAGE_PART_BYTES_MAX},
};

/// How long the store may take for a package.
const STORE_MAX: Duration = Duration::from_secs(10);

/// More questions than this at once are thrown away.
const QUESTIONS_MAX: usize = 4;

/// Why there is no part now. The device asks again.
#[derive(Debug, Error)]
pub(super) enum PartError {
    #[error(transparent)]
    Entity(#[from] DeviceError),
    #[error("the device asks too much at once")]
    Many,
    #[error("the store did not answer in time")]
    Late,
    #[error(transparent)]
    Store(#[from] ReadError),
}

/// The packages of one link. The one that is under way stays in memory until its last part went.
pub(super) struct Packages {
    blobs: Arc<dyn Blobs>,
    held: Mutex<Option<(Has, [u8; HASH_BYTES], Bytes)>>,
    /// Questions that are heard at once; a device asks one at a time.
    questions: Semaphore,
}

impl Packages {
    pub(super) fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, held: Mutex::default(), questions: Semaphore::new(QUESTIONS_MAX) }
    }

    /// A part; without bytes and size if there is none to have.
    pub(super) async fn part(
        &self,
        wanted: &PackageWanted,
        device: &DeviceAddress,
        session: Uuid,
    ) -> Result<PackagePart, PartError> {
        let PackageWanted { key, hash, from } = *wanted;
        let _asking = self.questions.try_acquire().map_err(|_| PartError::Many)?;
        let has = Has { execution: key.execution, attempt: key.attempt };
        let none = PackagePart { key, hash, from, size: 0, bytes: Bytes::new() };
        let mut held = self.held.lock().await;
        let package = match &*held {
            Some((of, kept, bytes)) if (*of, *kept) == (has, hash) => bytes.clone(),
            _ => {
                match device.package(session, has, &BlobHash(hash).to_string()).await {
                    Ok(()) => {}
                    Err(DeviceError::Refused(DeviceRefusal::NotFound)) => return Ok(none),
                    Err(error) => return Err(error.into()),
                }
                let read = timeout(STORE_MAX, self.blobs.get(BlobHash(hash)));
                match read.await.map_err(|_| PartError::Late)?? {
                    Some(bytes) if bytes.len() <= PACKAGE_BYTES_MAX => bytes,
                    _ => return Ok(none),
                }
            }
        };
        let size = package.len();
        let begin = usize::try_from(from).unwrap_or(size).min(size);
        let end = (begin + PACKAGE_PART_BYTES_MAX).min(size);
        *held = (end < size).then(|| (has, hash, package.clone()));
        Ok(PackagePart { size: size as u64, bytes: package.slice(begin..end), ..none })
    }
}
