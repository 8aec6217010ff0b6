//! Packages of Skills: fetched over the link, and put on the disk before a runtime starts.
//!
//! Invariant: what lies under a package's hash is that package, whole: its hash is checked, and it
//! gets its name when all of it is written.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use troupe_packages::{PACKAGE_BYTES_MAX, UnpackError, unpack};
use troupe_wire::device::{
    AttemptKey, DeviceFrame, PackagePart, PackageWanted,
    limits::{HASH_BYTES, PACKAGE_NOT_NOW, PACKAGE_PART_BYTES_MAX},
};

use crate::status::LinkStatus;

/// How long a node may take for a part; it is asked again then.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A node that cannot say now is asked again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// After so many questions without an answer, over links that held, the node does not know them.
const UNANSWERED_MAX: u32 = 3;

/// Why there is no package.
#[derive(Debug, Error)]
pub(super) enum PackageTrouble {
    #[error("`{0}` is no SHA-256")]
    NoHash(String),
    #[error("the cluster does not have it any more")]
    Gone,
    #[error("the node does not answer to it; it may be older than this device")]
    Unanswered,
    #[error("what came is not what was asked for")]
    Other,
    #[error("it was not unpacked")]
    Unpack(#[from] UnpackError),
    #[error("it does not lie on the disk")]
    Disk(#[from] io::Error),
    #[error("the agent ends")]
    Ending,
}

/// Where packages come from. One is fetched at a time: its parts do not crowd the link.
#[derive(Clone, Debug)]
pub struct Packages {
    out: mpsc::Sender<DeviceFrame>,
    link: watch::Receiver<LinkStatus>,
    turn: Arc<tokio::sync::Mutex<()>>,
    parts: Arc<Mutex<Option<mpsc::Sender<PackagePart>>>>,
}

impl Packages {
    /// Questions go to `out`; `link` says when there is somebody to ask.
    #[must_use]
    pub fn new(out: mpsc::Sender<DeviceFrame>, link: watch::Receiver<LinkStatus>) -> Self {
        Self { out, link, turn: Arc::default(), parts: Arc::default() }
    }

    /// A part came. One that nobody waits for is thrown away.
    pub fn heard(&self, part: PackagePart) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = &*parts {
            let _ = parts.try_send(part);
        }
    }

    /// Puts a package into `dir/HASH/NAME`, unless it is there. Waits for a link as long as it
    /// takes.
    pub(super) async fn put(
        &self,
        key: AttemptKey,
        (hash, name): (&str, &str),
        dir: &Path,
    ) -> Result<(), PackageTrouble> {
        let bytes = hash_bytes(hash).ok_or_else(|| PackageTrouble::NoHash(hash.to_owned()))?;
        let (dir, name) = (dir.join(hash), name.to_owned());
        if dir.join(&name).is_dir() {
            return Ok(());
        }
        let package = self.fetch(key, bytes).await?;
        let work = move || unpack_as(&package, &dir, &name);
        tokio::task::spawn_blocking(work).await.map_err(|_| PackageTrouble::Ending)?
    }

    async fn fetch(
        &self,
        key: AttemptKey,
        hash: [u8; HASH_BYTES],
    ) -> Result<Vec<u8>, PackageTrouble> {
        let _turn = self.turn.lock().await;
        let (give, mut parts) = mpsc::channel(1);
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = Some(give);
        let (mut link, mut package, mut unanswered) = (self.link.clone(), Vec::new(), 0);
        loop {
            let is_up = |status: &LinkStatus| status.state == "connected";
            let up = link.wait_for(is_up).await.map_err(|_| PackageTrouble::Ending)?.connects;
            let from = package.len() as u64;
            let wanted = DeviceFrame::PackageWanted(PackageWanted { key, hash, from });
            self.out.send(wanted).await.map_err(|_| PackageTrouble::Ending)?;
            let is_other = |status: &LinkStatus| !is_up(status) || status.connects != up;
            let part = tokio::select! {
                part = timeout(ANSWER_MAX, wanted_part(&mut parts, key, hash, from)) => part,
                // What was asked over the link before is asked anew.
                _ = link.wait_for(is_other) => continue,
            };
            let Ok(part) = part else {
                // A node that answered once knows such questions.
                unanswered += u32::from(package.is_empty());
                if unanswered == UNANSWERED_MAX {
                    return Err(PackageTrouble::Unanswered);
                }
                continue;
            };
            let part = part?;
            unanswered = 0;
            if part.size == PACKAGE_NOT_NOW {
                sleep(AGAIN).await;
                continue;
            }
            if add(&mut package, part)? {
                break;
            }
        }
        (Sha256::digest(&package)[..] == hash).then_some(package).ok_or(PackageTrouble::Other)
    }
}

/// The part that was asked for last.
async fn wanted_part(
    parts: &mut mpsc::Receiver<PackagePart>,
    key: AttemptKey,
    hash: [u8; HASH_BYTES],
    from: u64,
) -> Result<PackagePart, PackageTrouble> {
    loop {
        let part = parts.recv().await.ok_or(PackageTrouble::Ending)?;
        if (part.key, part.hash, part.from) == (key, hash, from) {
            return Ok(part);
        }
    }
}

/// Whether it is whole.
fn add(package: &mut Vec<u8>, part: PackagePart) -> Result<bool, PackageTrouble> {
    let size = match usize::try_from(part.size) {
        Ok(0) => return Err(PackageTrouble::Gone),
        Ok(size) if size <= PACKAGE_BYTES_MAX => size,
        _ => return Err(PackageTrouble::Other),
    };
    let len = part.bytes.len();
    if len == 0 || len > PACKAGE_PART_BYTES_MAX || package.len() + len > size {
        return Err(PackageTrouble::Other);
    }
    package.extend_from_slice(&part.bytes);
    Ok(package.len() == size)
}

/// Unpacks beside the place and moves it there: what has the name is whole.
fn unpack_as(package: &[u8], dir: &Path, name: &str) -> Result<(), PackageTrouble> {
    fs::create_dir_all(dir)?;
    let part = tempfile::Builder::new().prefix(".part-").tempdir_in(dir)?;
    let unpacked = part.path().join("skill");
    unpack(package, &unpacked)?;
    match fs::rename(&unpacked, dir.join(name)) {
        // Another run of the Task was faster.
        Err(_) if dir.join(name).is_dir() => Ok(()),
        renamed => Ok(renamed?),
    }
}

fn hash_bytes(text: &str) -> Option<[u8; HASH_BYTES]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use troupe_types::{Attempt, ExecutionId, Uuid};

    use super::*;

    fn key() -> AttemptKey {
        AttemptKey { execution: ExecutionId::from_uuid(Uuid::nil()), attempt: Attempt(1) }
    }

    fn status(state: &str, connects: u64) -> LinkStatus {
        LinkStatus { state: state.to_owned(), connects, ..LinkStatus::default() }
    }

    /// The device's end and the node's.
    fn ends() -> (Packages, mpsc::Receiver<DeviceFrame>, watch::Sender<LinkStatus>) {
        let (out, asked) = mpsc::channel(4);
        let (say, link) = watch::channel(status("connecting", 0));
        (Packages::new(out, link), asked, say)
    }

    async fn asked(asked: &mut mpsc::Receiver<DeviceFrame>) -> u64 {
        match asked.recv().await {
            Some(DeviceFrame::PackageWanted(wanted)) => wanted.from,
            other => panic!("{other:?}"),
        }
    }

    fn part(package: &[u8], from: u64, bytes: usize) -> PackagePart {
        let begin = usize::try_from(from).unwrap();
        let end = (begin + bytes).min(package.len());
        PackagePart {
            key: key(),
            hash: Sha256::digest(package).into(),
            from,
            size: package.len() as u64,
            bytes: package[begin..end].to_vec().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_package_is_fetched_in_parts_over_links_that_come_and_go() {
        let (packages, mut questions, link) = ends();
        let whole: Vec<u8> = (0..1_000_u32).flat_map(u32::to_be_bytes).collect();
        let hash = Sha256::digest(&whole).into();
        let fetching = packages.fetch(key(), hash);
        let node = async {
            link.send_replace(status("connected", 1));
            assert_eq!(asked(&mut questions).await, 0);
            packages.heard(part(&whole, 0, 1_500));
            assert_eq!(asked(&mut questions).await, 1_500);
            // The answer goes with its link.
            link.send_replace(status("connecting", 1));
            link.send_replace(status("connected", 2));
            assert_eq!(asked(&mut questions).await, 1_500);
            packages.heard(part(&whole, 0, 1_500));
            packages.heard(part(&whole, 1_500, 1_500));
            // One that waits for nobody is lost with the late double; it is asked for again, and once
            // more when the node cannot say.
            assert_eq!(asked(&mut questions).await, 1_500);
            let not_now = PackagePart { size: PACKAGE_NOT_NOW, ..part(&whole, 1_500, 0) };
            packages.heard(not_now);
            assert_eq!(asked(&mut questions).await, 1_500);
            packages.heard(part(&whole, 1_500, 2_500));
        };
        let (fetched, ()) = tokio::join!(fetching, node);
        assert_eq!(fetched.unwrap(), whole);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_had_is_told() {
        let (packages, mut questions, link) = ends();
        link.send_replace(status("connected", 1));
        let hash = Sha256::digest(b"x").into();
        let silent = packages.fetch(key(), hash).await;
        assert!(matches!(silent, Err(PackageTrouble::Unanswered)), "{silent:?}");
        for _ in 0..UNANSWERED_MAX {
            asked(&mut questions).await;
        }
        let gone = PackagePart { size: 0, ..part(b"x", 0, 0) };
        let larger = PackagePart { size: u64::MAX - 1, ..part(b"x", 0, 1) };
        let empty = part(b"x", 0, 0);
        let longer = PackagePart { bytes: b"xy".to_vec().into(), ..part(b"x", 0, 1) };
        let forged = PackagePart { bytes: b"y".to_vec().into(), ..part(b"x", 0, 1) };
        for (part, is_gone) in
            [(gone, true), (larger, false), (empty, false), (longer, false), (forged, false)]
        {
            let node = async {
                asked(&mut questions).await;
                packages.heard(part);
            };
            let (fetched, ()) = tokio::join!(packages.fetch(key(), hash), node);
            match fetched.unwrap_err() {
                PackageTrouble::Gone => assert!(is_gone),
                PackageTrouble::Other => assert!(!is_gone),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_hash_is_64_digits() {
        assert_eq!(hash_bytes(&"0f".repeat(32)), Some([15; 32]));
        for bad in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"0f".repeat(33)] {
            assert_eq!(hash_bytes(bad), None, "{bad}");
        }
    }
}
