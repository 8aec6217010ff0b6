//! The form of the file, and what is seen when it is not whole.

use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use troupe_records::golden;
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, TaskId, Timestamp, UserId, Uuid};

use super::{
    FileError, Head, Kind, Record, Verified,
    file::{Encoder, Reader, verify},
    load,
};
use crate::{
    DeadLetter, DirectoryRow, DirectoryTable, Entry, MemoryStore, Snapshot, TaskRow, WakeKind,
    conformance,
};

/// One of each kind.
fn records() -> Vec<Record> {
    let id = Uuid::from_u128;
    let entity = EntityId { kind: EntityKind::Task, id: id(2) };
    let time = Timestamp::from_millis;
    let text = str::to_owned;
    let entry = |seq: u64| Entry {
        seq: Seq(seq),
        first_frame: FrameSeq(seq),
        frames: 1,
        body: Bytes::from(format!("entry {seq}")),
    };
    vec![
        Record::Head(Head { id: id(1), at: time(1_000), build: text("1.0"), node: text("local") }),
        Record::Entity { entity, upto: Seq(2) },
        Record::Entry(entry(1)),
        Record::Entry(entry(2)),
        Record::Snapshot(Snapshot { upto: Seq(2), state: Bytes::from("state") }),
        Record::Entry(entry(3)),
        Record::Wake(time(2_000), WakeKind::Run),
        Record::Task(TaskRow {
            task: TaskId::from_uuid(id(2)),
            owner: UserId::from_uuid(id(3)),
            seq: Seq(3),
            created_at: time(1),
            updated_at: time(2),
            status: text("RUNNING"),
            title: text("title"),
            team: text("team"),
            team_namespace: text("default"),
            archived: false,
            deleted: true,
            asks: 1,
            body: Bytes::from("body"),
        }),
        Record::Row(DirectoryRow {
            table: DirectoryTable::User,
            key: Bytes::from("key"),
            owner: Some(id(3)),
            version: 1,
            body: Bytes::from("row"),
        }),
        Record::Blob(Bytes::from("blob")),
        Record::DeadLetter(DeadLetter {
            id: id(4),
            entity,
            message: Bytes::from("message"),
            error: text("error"),
            strikes: 3,
            at: time(3),
        }),
    ]
}

fn file(records: &[Record]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    encoder.begin(&mut out);
    for record in records {
        encoder.record(record, &mut out);
    }
    encoder.end(&mut out);
    out.to_vec()
}

#[test]
fn the_form_of_the_file_is_pinned() {
    // A golden file is named by its first byte.
    let pinned = [&[1], file(&records()).as_slice()].concat();
    golden::check(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "backup", &pinned).unwrap();
}

#[test]
fn what_was_written_is_read() {
    let file = file(&records());
    let mut reader = Reader::begin(file.as_slice()).unwrap();
    let mut read = vec![Record::Head(reader.head().clone())];
    while let Some(record) = reader.next().unwrap() {
        read.push(record);
    }
    assert_eq!(read, records());
    let (head, totals) = verify(file.as_slice()).unwrap();
    assert_eq!(
        (head.node.as_str(), totals.of(Kind::Entry), totals.of(Kind::Blob)),
        ("local", 3, 1)
    );
}

/// Whatever byte is changed and wherever the file ends, it is seen, and nothing is written.
#[tokio::test]
async fn damage_is_seen_before_anything_is_written() {
    let whole = file(&records());
    for at in 0..whole.len() {
        assert!(verify(&whole[..at]).is_err(), "cut off at {at}");
        for flip in [1, 0x80, 0xff] {
            let mut bad = whole.clone();
            bad[at] ^= flip;
            assert!(verify(bad.as_slice()).is_err(), "byte {at} changed by {flip}");
        }
    }
    let more = [whole.as_slice(), &[0]].concat();
    assert!(matches!(verify(more.as_slice()), Err(FileError::Damaged { .. })));
    let store = MemoryStore::new();
    let stores = store.stores();
    let cut = Cursor::new(&whole[..whole.len() - 1]);
    // What can be written is what was checked.
    assert!(matches!(Verified::check(cut), Err(FileError::Truncated { .. })));
    load(&stores, conformance::whole(&whole), Uuid::nil(), |_, _| {}).await.unwrap();
}

#[test]
fn a_record_that_is_gone_moved_or_of_a_newer_form_is_seen() {
    let (whole, mut moved) = (file(&records()), records());
    let newer = [&whole[..14], &[0, 2], &whole[16..]].concat();
    assert!(matches!(verify(newer.as_slice()), Err(FileError::Newer { found: 2 })));
    assert!(matches!(verify(&b"something else"[..]), Err(FileError::Foreign)));
    moved.swap(2, 3);
    assert!(matches!(verify(file(&moved).as_slice()), Err(FileError::Damaged { .. })));
    // The head's frame is 5 + 16 + 8 + 7 + 9 + 4 bytes; the record behind it is cut out.
    let behind = 16 + 49;
    let next = behind + 5 + 25 + 4;
    let gone = [&whole[..behind], &whole[next..]].concat();
    assert!(matches!(verify(gone.as_slice()), Err(FileError::Damaged { .. })));
}

#[tokio::test]
async fn a_backup_keeps_everything() {
    let (from, into) = (MemoryStore::new(), MemoryStore::new());
    conformance::backup(&from.stores(), &into.stores()).await;
}
