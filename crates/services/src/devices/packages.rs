//! Packages of Skills for devices, part after part.
//!
//! Invariants: a device gets only what a job names that it has. However many devices ask, the node
//! holds few packages in memory, and few parts of each link.

use std::{collections::VecDeque, sync::Arc, time::Duration};

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
    limits::{HASH_BYTES, PACKAGE_NOT_NOW, PACKAGE_PART_BYTES_MAX},
};

/// How long the store may take for a package: less than a device waits.
const STORE_MAX: Duration = Duration::from_secs(7);
/// Packages that stay in memory: parts of one are asked for one after the other.
const HELD_MAX: usize = 4;
/// Packages that are read at once.
const READS_MAX: usize = 4;
/// Questions of one link that are heard at once; more are thrown away. A device asks one at a time.
pub(super) const QUESTIONS_MAX: usize = 4;

/// Why there is no part now. The device asks again.
#[derive(Debug, Error)]
enum PartError {
    #[error(transparent)]
    Entity(#[from] DeviceError),
    #[error("the store did not answer in time")]
    Late,
    #[error(transparent)]
    Store(#[from] ReadError),
}

/// The packages that devices of a node ask for.
#[derive(Debug)]
pub(super) struct Packages {
    blobs: Arc<dyn Blobs>,
    held: Mutex<VecDeque<([u8; HASH_BYTES], Bytes)>>,
    reads: Semaphore,
}

impl Packages {
    pub(super) fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, held: Mutex::default(), reads: Semaphore::new(READS_MAX) }
    }

    /// A part; without bytes and size if there is none to have.
    pub(super) async fn part(
        &self,
        wanted: &PackageWanted,
        device: &DeviceAddress,
        session: Uuid,
    ) -> PackagePart {
        let PackageWanted { key, hash, from } = *wanted;
        let has = Has { execution: key.execution, attempt: key.attempt };
        let none = PackagePart { key, hash, from, size: 0, bytes: Bytes::new() };
        let name = BlobHash(hash).to_string();
        let found = match device.package(session, has, &name).await {
            Ok(()) => self.package(hash).await,
            Err(DeviceError::Refused(DeviceRefusal::NotFound)) => Ok(None),
            Err(error) => Err(error.into()),
        };
        let package = match found {
            Ok(Some(package)) => package,
            Ok(None) => return none,
            Err(error) => {
                tracing::debug!(%error, "a package was not read");
                return PackagePart { size: PACKAGE_NOT_NOW, ..none };
            }
        };
        let size = package.len();
        let begin = usize::try_from(from).unwrap_or(size).min(size);
        let end = (begin + PACKAGE_PART_BYTES_MAX).min(size);
        // Parts of their own: what waits for a slow device holds no whole package.
        let bytes = Bytes::copy_from_slice(&package[begin..end]);
        PackagePart { size: size as u64, bytes, ..none }
    }

    async fn package(&self, hash: [u8; HASH_BYTES]) -> Result<Option<Bytes>, PartError> {
        if let Some((_, held)) = self.held.lock().await.iter().find(|(of, _)| *of == hash) {
            return Ok(Some(held.clone()));
        }
        let reading = async {
            // Never closed.
            let _read = self.reads.acquire().await;
            self.blobs.get(BlobHash(hash)).await
        };
        let read = timeout(STORE_MAX, reading).await.map_err(|_| PartError::Late)??;
        let package = read.filter(|package| package.len() <= PACKAGE_BYTES_MAX);
        if let Some(package) = &package {
            let mut held = self.held.lock().await;
            held.retain(|(of, _)| *of != hash);
            held.truncate(HELD_MAX - 1);
            held.push_front((hash, package.clone()));
        }
        Ok(package)
    }
}
