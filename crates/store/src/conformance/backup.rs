//! What a backup keeps, from any store to any store.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, TaskId, Timestamp, UserId, Uuid};

use super::{entity, entries, seen};
use crate::{
    DeadLetter, DirectoryTable, Opened, RowWrite, Stores, TaskRow, WakeChange, WakeKind,
    backup::{
        Head, LoadError, Reader, Record, StartError, Verified, check_start, dump, load, verify,
    },
};

/// Entries of one append.
const APPEND: u64 = 200;

/// Fills `from`, copies it to `into`, which must be empty, and compares.
pub async fn backup(from: &Stores, into: &Stores) {
    let filled = fill(from).await;
    let file = take(from).await;

    let half = Uuid::new_v4();
    let cut = load(into, Verified::check(Forgetful::new(&file)).unwrap(), half, |_, _| {}).await;
    assert!(matches!(cut, Err(LoadError::File(_))), "{cut:?}");
    let refused = check_start(into.directory.as_ref()).await;
    assert!(matches!(refused, Err(StartError::Half { .. })), "{refused:?}");
    let other = take(from).await;
    let refused = load(into, whole(&other), half, |_, _| {}).await;
    assert!(matches!(refused, Err(LoadError::Other(_))), "{refused:?}");

    let restore = Uuid::new_v4();
    let mut steps = 0;
    let (head, totals) = verify(file.as_slice()).unwrap();
    load(into, whole(&file), restore, |_, _| steps += 1).await.unwrap();
    assert!(steps > 0 && totals.bytes < file.len() as u64);
    let restored = check_start(into.directory.as_ref()).await.unwrap().unwrap();
    assert_eq!((restored.backup, restored.restore, restored.at), (head.id, restore, head.at));
    assert_eq!(contents(&take(into).await), contents(&file));
    for entity in filled {
        same_journal(from, into, entity).await;
    }

    let again = load(into, whole(&file), restore, |_, _| {}).await;
    let Err(LoadError::NotEmpty(what)) = again else { panic!("{again:?}") };
    assert!(what.contains(&"users") && what.contains(&"blobs"), "{what:?}");
}

/// A file that is.
#[must_use]
pub fn whole(file: &[u8]) -> Verified<Cursor<&[u8]>> {
    Verified::check(Cursor::new(file)).unwrap()
}

/// All bytes of a backup.
pub async fn take(stores: &Stores) -> Vec<u8> {
    let head = Head {
        id: Uuid::new_v4(),
        at: Timestamp::from_millis(1_700_000_000_000),
        build: "test".to_owned(),
        node: "node".to_owned(),
    };
    let (to, mut pieces) = mpsc::channel::<Bytes>(1);
    let collect = async {
        let mut file = Vec::new();
        while let Some(piece) = pieces.recv().await {
            file.extend_from_slice(&piece);
        }
        file
    };
    let written = async {
        let done = dump(stores, head, &to).await;
        drop(to);
        done
    };
    let (done, file) = tokio::join!(written, collect);
    done.unwrap();
    file
}

/// What is in a backup, whatever the order: records of one entity are one thing.
#[must_use]
pub fn contents(file: &[u8]) -> Vec<String> {
    let mut reader = Reader::begin(file).unwrap();
    let mut things: Vec<String> = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        let text = match &record {
            Record::Entry(entry) => format!("{entry:?} {:?}", entry.body),
            Record::Snapshot(snapshot) => format!("{snapshot:?} {:?}", snapshot.state),
            Record::Row(row) => format!("{row:?} {:?} {:?} {:?}", row.key, row.owner, row.body),
            Record::DeadLetter(letter) => {
                format!("{letter:?} {:?} {}", letter.message, letter.error)
            }
            other => format!("{other:?}"),
        };
        match record {
            Record::Entry(_) | Record::Snapshot(_) | Record::Wake(..) | Record::Task(_) => {
                let thing = things.last_mut().unwrap();
                thing.push('\n');
                thing.push_str(&text);
            }
            _ => things.push(text),
        }
    }
    things.sort_unstable();
    things
}

/// Gives a whole file at first, and what is left of it the next time.
struct Forgetful<'a> {
    file: Cursor<&'a [u8]>,
    rewinds: u32,
}

impl<'a> Forgetful<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self { file: Cursor::new(file), rewinds: 0 }
    }
}

impl Read for Forgetful<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let whole = self.file.get_ref().len() as u64;
        let end = if self.rewinds > 1 { whole * 2 / 3 } else { whole };
        let left = usize::try_from(end.saturating_sub(self.file.position())).unwrap();
        let count = left.min(to.len());
        self.file.read(&mut to[..count])
    }
}

impl Seek for Forgetful<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.rewinds += 1;
        self.file.seek(to)
    }
}

async fn append(stores: &Stores, at: &Opened, first: u64, count: u64, frames: u32) {
    let mut next = first;
    while next < first + count {
        let some = APPEND.min(first + count - next);
        let frame = 1 + (next - 1) * u64::from(frames);
        let some_entries = entries(next, some, frame, frames);
        stores.journal.append(at, Seq(next), some_entries, Vec::new()).await.unwrap();
        next += some;
    }
}

async fn snapshot(stores: &Stores, at: &Opened, upto: u64) {
    let state = Bytes::from(format!("state at {upto}"));
    stores.journal.snapshot(at, Seq(upto), state).await.unwrap();
}

/// Something of everything.
async fn fill(stores: &Stores) -> Vec<EntityId> {
    let mut filled = Vec::new();
    // Kind, entries, snapshots, frames of an entry.
    let journals: [(_, u64, &[u64], u32); 6] = [
        (EntityKind::Task, 1_500, &[900, 1_300], 2),
        (EntityKind::Task, 7, &[7], 0),
        (EntityKind::Task, 5, &[], 1),
        (EntityKind::Namespace, 30, &[10, 20], 0),
        (EntityKind::Namespace, 4, &[4], 0),
        (EntityKind::Device, 3, &[], 0),
    ];
    for (n, (kind, count, snapshots, frames)) in journals.into_iter().enumerate() {
        let id = entity(kind);
        let at = stores.journal.open(id, stores.boot_epoch).await.unwrap();
        append(stores, &at, 1, count, frames).await;
        for upto in snapshots {
            snapshot(stores, &at, *upto).await;
        }
        if n % 2 == 0 {
            let due = |n: i64| Timestamp::from_millis(1_000 * n);
            let wake = vec![
                WakeChange::Insert { due: due(5), kind: WakeKind::Run },
                WakeChange::Insert { due: due(9), kind: WakeKind::ApprovalExpiry },
            ];
            stores.journal.append(&at, Seq(count + 1), Vec::new(), wake).await.unwrap();
        }
        if kind == EntityKind::Task {
            stores.projections.put_task(row(TaskId::from_uuid(id.id), count)).await.unwrap();
        }
        filled.push(id);
    }
    let owner = Uuid::new_v4();
    let tables = [DirectoryTable::User, DirectoryTable::Session, DirectoryTable::Setting];
    for (n, table) in tables.into_iter().enumerate() {
        let write = RowWrite::insert(table, Uuid::new_v4().as_bytes().to_vec(), "first body");
        let write = if n > 0 { write.owned_by(owner) } else { write };
        stores.directory.compare_and_set(write.clone()).await.unwrap();
        let second = RowWrite { expected: 1, body: Bytes::from("second body"), ..write };
        stores.directory.compare_and_set(second).await.unwrap();
    }
    for bytes in [Bytes::new(), Bytes::from("small"), Bytes::from(vec![7; 1_300_000])] {
        stores.blobs.put(bytes).await.unwrap();
    }
    for n in 0..10 {
        let letter = DeadLetter {
            id: Uuid::now_v7(),
            entity: filled[0],
            message: Bytes::from(format!("message {n}")),
            error: "it fell over".to_owned(),
            strikes: 3,
            at: Timestamp::from_millis(n),
        };
        stores.dead_letters.put(letter).await.unwrap();
    }
    filled
}

fn row(task: TaskId, seq: u64) -> TaskRow {
    TaskRow {
        task,
        owner: UserId::from_uuid(Uuid::from_u128(7)),
        seq: Seq(seq),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(2),
        status: "RUNNING".to_owned(),
        title: "Ä title".to_owned(),
        team: "team".to_owned(),
        team_namespace: "default".to_owned(),
        archived: true,
        deleted: false,
        asks: 3,
        body: Bytes::from_static(b"body"),
    }
}

/// Owners and readers of archives find the same in both.
async fn same_journal(a: &Stores, b: &Stores, entity: EntityId) {
    let from_a = a.journal.open(entity, a.boot_epoch).await.unwrap();
    let from_b = b.journal.open(entity, b.boot_epoch).await.unwrap();
    assert_eq!(seen(&from_a), seen(&from_b), "{entity}");
    let state = |opened: &Opened| opened.snapshot.as_ref().map(|found| found.state.clone());
    assert_eq!(state(&from_a), state(&from_b), "{entity}");
    let frames = async |stores: &Stores| {
        stores.journal.read_archive(entity, FrameSeq(3), usize::MAX).await.unwrap()
    };
    assert_eq!(frames(a).await, frames(b).await, "{entity}");
    // And it goes on.
    let next = from_b.head.next();
    let frame = from_b.tail.last().map_or(FrameSeq(1), crate::Entry::next_frame);
    let more = entries(next.0, 1, frame.0, 0);
    b.journal.append(&from_b, next, more, Vec::new()).await.unwrap();
}
