//! A disk without room, and one that may not be written.

use std::{num::NonZeroU32, path::Path, process::Command};

use bytes::Bytes;
use tempfile::TempDir;
use troupe_store::{AppendError, JournalStore, RowWrite, WriteError};
use troupe_store_sqlite::{SqliteOpenError, SqliteOptions, SqliteStore};
use troupe_types::Seq;

use crate::{
    conformance::Sqlite,
    directory::{entry, task},
};

/// A file system of its own, if this process may mount one.
struct Mount(TempDir);

impl Mount {
    #[expect(clippy::print_stdout, reason = "says why a test did nothing")]
    fn tmpfs(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], dir.path()) {
            return Some(Self(dir));
        }
        println!("skipped: this user may not mount a tmpfs");
        None
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        assert!(mount(&["-o", &options], self.path()), "remounting with {how}");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let out = Command::new("mount").args(args).arg(at).output();
    out.is_ok_and(|out| out.status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        let out = Command::new("umount").arg("--lazy").arg(self.path()).output();
        assert!(out.is_ok_and(|out| out.status.success()), "unmounting");
    }
}

/// Appends until there is no room; returns how many entries were acked.
async fn fill(store: &SqliteStore, body: &[u8]) -> u64 {
    let at = store.open(task(1), store.epoch()).await.unwrap();
    let mut acked = at.head.0;
    loop {
        let next = acked + 1;
        match store.append(&at, Seq(next), entry(next, body), vec![]).await {
            Ok(()) => acked = next,
            Err(AppendError::Full) => return acked,
            Err(e) => panic!("expected Full, got {e:?}"),
        }
        assert!(acked < 100_000, "there must be an end to the room");
    }
}

async fn check_full(store: &SqliteStore, acked: u64) {
    // Reads go on, and opening writes nothing.
    let at = store.open(task(1), store.epoch()).await.unwrap();
    assert_eq!(at.head, Seq(acked), "what was refused is not there");
    assert_eq!(at.tail.len() as u64, acked);
    assert!(store.open(task(2), store.epoch()).await.is_ok());
    // Every refusal says so.
    let big = vec![b'y'; 60_000];
    let refused = store.append(&at, Seq(acked + 1), entry(acked + 1, &big), vec![]).await;
    assert!(matches!(refused, Err(AppendError::Full)), "{refused:?}");
    let key = b"k".as_slice();
    let row = RowWrite::insert(troupe_store::DirectoryTable::Setting, key, big);
    let refused = store.stores().directory.compare_and_set(row).await;
    assert!(matches!(refused, Err(troupe_store::CasError::Full)), "{refused:?}");
}

#[tokio::test]
async fn a_full_database_refuses_and_goes_on_when_there_is_room() {
    let pages_max = NonZeroU32::new(400);
    let mut subject = Sqlite::with(SqliteOptions { pages_max, ..SqliteOptions::default() });
    let acked = fill(&subject.store, &[b'x'; 5_000]).await;
    assert!(acked > 100, "{acked}");
    check_full(&subject.store, acked).await;
    subject.options.pages_max = None;
    subject.reopen();
    let at = subject.store.open(task(1), subject.store.epoch()).await.unwrap();
    assert_eq!(at.head, Seq(acked));
    subject.store.append(&at, Seq(acked + 1), entry(acked + 1, b"room"), vec![]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let Some(disk) = Mount::tmpfs("4m") else { return };
    let dir = disk.path().join("data");
    let store = SqliteStore::open(&dir, &SqliteOptions::default()).unwrap();
    let acked = fill(&store, &[b'x'; 20_000]).await;
    assert!(acked > 20, "{acked}");
    check_full(&store, acked).await;
    let refused = store.stores().blobs.put(Bytes::from(vec![1; 1_000_000])).await;
    assert!(matches!(refused, Err(WriteError::Full)), "{refused:?}");
    disk.remount("size=64m");
    let at = store.open(task(1), store.epoch()).await.unwrap();
    store.append(&at, Seq(acked + 1), entry(acked + 1, b"room"), vec![]).await.unwrap();
    store.stores().blobs.put(Bytes::from(vec![1; 1_000_000])).await.unwrap();
    store.abandon();
    let store = SqliteStore::open(&dir, &SqliteOptions::default()).unwrap();
    let at = store.open(task(1), store.epoch()).await.unwrap();
    assert_eq!(at.head, Seq(acked + 1), "acked before, while and after it was full");
    store.abandon();
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_told() {
    let Some(disk) = Mount::tmpfs("64k") else { return };
    let refused = SqliteStore::open(disk.path(), &SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, SqliteOpenError::Full { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no room left"), "{refused}");
}

#[tokio::test]
async fn a_read_only_directory_is_told() {
    let Some(disk) = Mount::tmpfs("16m") else { return };
    let dir = disk.path().join("data");
    let options = SqliteOptions::default();
    let store = SqliteStore::open(&dir, &options).unwrap();
    let at = store.open(task(1), store.epoch()).await.unwrap();
    store.append(&at, Seq(1), entry(1, b"before"), vec![]).await.unwrap();
    store.close();
    drop(store);
    disk.remount("ro");
    for dir in [dir.clone(), disk.path().join("new")] {
        let refused = SqliteStore::open(&dir, &options).unwrap_err();
        assert!(matches!(refused, SqliteOpenError::NotWritable { .. }), "{refused:?}");
        assert!(refused.to_string().contains("cannot be written"), "{refused}");
    }
    disk.remount("rw");
    let store = SqliteStore::open(&dir, &options).unwrap();
    let at = store.open(task(1), store.epoch()).await.unwrap();
    assert_eq!(at.tail, entry(1, b"before"));
    store.abandon();
}
