//! The contract of `JournalStore`, case by case, without faults.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{task::JoinSet, time::timeout};
use troupe_types::{
    EntityId, EntityKind, Epoch, FrameSeq, Seq, Timestamp,
    limits::{APPENDS_IN_FLIGHT_MAX, ENTRY_BYTES_MAX},
};

use super::{Subject, entity, entries, seen, tags::tags};
use crate::{
    APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, AppendError, Entry, InvalidAppend, OpenError, Opened,
    SNAPSHOT_STATE_BYTES_MAX, Stores, WakeChange, WakeKind,
};

const TASK: EntityKind = EntityKind::Task;
const WAIT_MAX: Duration = Duration::from_secs(20);

async fn open(stores: &Stores, entity: EntityId) -> Opened {
    stores.journal.open(entity, stores.boot_epoch).await.expect("opens")
}

async fn append(stores: &Stores, at: &Opened, new: Vec<Entry>) -> Result<(), AppendError> {
    let first = new.first().expect("has entries").seq;
    timeout(WAIT_MAX, stores.journal.append(at, first, new, Vec::new())).await.expect("answers")
}

/// All cases.
pub async fn journal(subject: &mut dyn Subject) {
    empty_entities(subject).await;
    durable(subject).await;
    fenced(&subject.stores()).await;
    fenced_by_epoch(subject).await;
    refused_arguments(&subject.stores()).await;
    sizes(&subject.stores()).await;
    overlapping(&subject.stores()).await;
    dropped_append(subject).await;
    wake_only(&subject.stores()).await;
    snapshot_and_trim(subject).await;
    snapshot_arguments(&subject.stores()).await;
    archive(subject).await;
    archive_reads_are_bounded(&subject.stores()).await;
    many_entities(subject).await;
    tags(subject).await;
}

async fn empty_entities(subject: &mut dyn Subject) {
    let id = entity(TASK);
    for _ in 0..2 {
        let stores = subject.stores();
        let (a, b) = (open(&stores, id).await, open(&stores, id).await);
        assert!(b.fence > a.fence, "a second activation has a higher fence");
        assert_eq!((b.head, seen(&b)), (Seq::ZERO, (0, vec![])));
        assert!(stores.journal.read_archive(id, FrameSeq(1), 1000).await.unwrap().is_empty());
        subject.restart().await;
    }
}

async fn durable(subject: &mut dyn Subject) {
    let id = entity(TASK);
    let stores = subject.stores();
    let at = open(&stores, id).await;
    append(&stores, &at, entries(1, 3, 1, 2)).await.unwrap();
    append(&stores, &at, entries(4, 1, 7, 0)).await.unwrap();
    let mut all = entries(1, 3, 1, 2);
    all.extend(entries(4, 1, 7, 0));
    let again = open(&stores, id).await;
    assert_eq!((again.head, seen(&again)), (Seq(4), (0, all.clone())));
    subject.restart().await;
    let stores = subject.stores();
    let again = open(&stores, id).await;
    assert_eq!((again.head, seen(&again)), (Seq(4), (0, all)));
    assert!(again.fence > at.fence, "fences rise over restarts");
    append(&stores, &again, entries(5, 1, 7, 1)).await.unwrap();
}

async fn fenced(stores: &Stores) {
    let id = entity(TASK);
    let old = open(stores, id).await;
    append(stores, &old, entries(1, 1, 1, 1)).await.unwrap();
    let new = open(stores, id).await;
    let refused = append(stores, &old, entries(2, 1, 2, 1)).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    let refused = stores.journal.snapshot(&old, Seq(1), Bytes::from_static(b"old")).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    assert!(old.is_superseded() && !new.is_superseded());
    let mine =
        Entry { body: Bytes::from_static(b"of the new one"), ..entries(2, 1, 2, 1)[0].clone() };
    append(stores, &new, vec![mine.clone()]).await.unwrap();
    let last = open(stores, id).await;
    assert_eq!(seen(&last).1[1..], [mine]);
}

async fn fenced_by_epoch(subject: &mut dyn Subject) {
    let id = entity(TASK);
    let stores = subject.stores();
    let at = open(&stores, id).await;
    append(&stores, &at, entries(1, 1, 1, 1)).await.unwrap();
    let before = stores.boot_epoch;
    subject.restart().await;
    let stores = subject.stores();
    assert!(stores.boot_epoch > before, "every start raises the epoch");
    for epoch in [before, Epoch::ZERO] {
        let refused = stores.journal.open(id, epoch).await;
        assert!(matches!(refused, Err(OpenError::Fenced { .. })), "{refused:?}");
    }
    assert_eq!(open(&stores, id).await.head, Seq(1));
}

async fn refused_arguments(stores: &Stores) {
    let id = entity(TASK);
    let at = open(stores, id).await;
    append(stores, &at, entries(1, 2, 1, 1)).await.unwrap();
    let invalid = |result: Result<(), AppendError>| match result {
        Err(AppendError::Invalid(why)) => why,
        other => panic!("expected Invalid, got {other:?}"),
    };
    let empty = stores.journal.append(&at, Seq(3), Vec::new(), Vec::new()).await;
    assert_eq!(invalid(empty), InvalidAppend::Empty);
    let gap = invalid(append(stores, &at, entries(2, 1, 3, 1)).await);
    assert_eq!(gap, InvalidAppend::Gap { first: Seq(2), expected: Seq(3) });
    let mut hole = entries(3, 2, 3, 1);
    hole[1].seq = Seq(5);
    assert_eq!(invalid(append(stores, &at, hole).await), InvalidAppend::Order(Seq(5)));
    let mut frames = entries(3, 2, 3, 1);
    frames[1].first_frame = FrameSeq(9);
    assert_eq!(invalid(append(stores, &at, frames).await), InvalidAppend::Order(Seq(4)));
    let late = invalid(append(stores, &at, entries(9, 1, 9, 1)).await);
    assert_eq!(late, InvalidAppend::Gap { first: Seq(9), expected: Seq(3) });
    append(stores, &at, entries(3, 1, 3, 1)).await.expect("the activation goes on");
    assert_eq!(open(stores, id).await.head, Seq(3));
}

async fn sizes(stores: &Stores) {
    let id = entity(TASK);
    let at = open(stores, id).await;
    let sized = |seq: u64, bytes: usize| Entry {
        body: Bytes::from(vec![7; bytes]),
        ..entries(seq, 1, seq, 1)[0].clone()
    };
    append(stores, &at, vec![sized(1, ENTRY_BYTES_MAX), sized(2, 0)]).await.unwrap();
    let refused = append(stores, &at, vec![sized(3, ENTRY_BYTES_MAX + 1)]).await;
    let too_large = |e: &AppendError| {
        matches!(e, AppendError::Invalid(InvalidAppend::EntryTooLarge { seq: Seq(3), .. }))
    };
    assert!(too_large(&refused.unwrap_err()));
    let count = APPEND_BYTES_MAX / ENTRY_BYTES_MAX;
    let full: Vec<_> = (0..count as u64).map(|n| sized(3 + n, ENTRY_BYTES_MAX)).collect();
    append(stores, &at, full.clone()).await.unwrap();
    let next = 3 + count as u64;
    let mut over: Vec<_> = (0..count as u64).map(|n| sized(next + n, ENTRY_BYTES_MAX)).collect();
    over.push(sized(next + count as u64, 1));
    let refused = append(stores, &at, over).await.unwrap_err();
    assert!(matches!(refused, AppendError::Invalid(InvalidAppend::TooLarge { .. })));
    let many = entries(next, APPEND_ENTRIES_MAX as u64 + 1, next, 1);
    let refused = append(stores, &at, many).await.unwrap_err();
    assert!(matches!(refused, AppendError::Invalid(InvalidAppend::TooLarge { .. })));
    let all = [vec![sized(1, ENTRY_BYTES_MAX), sized(2, 0)], full].concat();
    assert_eq!(seen(&open(stores, id).await).1, all);
}

async fn overlapping(stores: &Stores) {
    let id = entity(TASK);
    let at = Arc::new(open(stores, id).await);
    for round in 0..25u64 {
        let mut calls = JoinSet::new();
        // The last one starts first.
        for n in (0..APPENDS_IN_FLIGHT_MAX as u64).rev() {
            let first = 1 + round * 8 + n * 2;
            let (journal, at) = (Arc::clone(&stores.journal), Arc::clone(&at));
            let new = entries(first, 2, first, 1);
            calls.spawn(async move { journal.append(&at, Seq(first), new, Vec::new()).await });
        }
        for outcome in timeout(WAIT_MAX, calls.join_all()).await.expect("all answer") {
            outcome.expect("all commit");
        }
    }
    let (_, tail) = seen(&open(stores, id).await);
    let numbers: Vec<u64> = tail.iter().map(|entry| entry.seq.0).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
}

async fn dropped_append(subject: &mut dyn Subject) {
    let id = entity(TASK);
    for round in 0..10u64 {
        let stores = subject.stores();
        let at = open(&stores, id).await;
        let next = at.head.next().0;
        let kept = open(&stores, id).await;
        assert_eq!(kept.head, at.head);
        let gone = append(&stores, &kept, entries(next, 2, next, 1));
        // Polled a few times and dropped: the caller was cancelled.
        let _ = timeout(Duration::from_micros(round * 40), gone).await;
        let after = open(&stores, id).await;
        let new = after.head.0 + 1 - next;
        assert!(new == 0 || new == 2, "all or nothing, not {new} of 2");
        let (_, tail) = seen(&after);
        assert_eq!(seen(&open(&stores, id).await).1, tail, "what open returned stays");
        if round == 5 {
            subject.restart().await;
            assert_eq!(seen(&open(&subject.stores(), id).await).1, tail);
        }
    }
}

async fn wake_only(stores: &Stores) {
    let id = entity(TASK);
    let at = open(stores, id).await;
    let due = Timestamp::from_millis(1_000);
    let insert = vec![WakeChange::Insert { due, kind: WakeKind::Run }];
    stores.journal.append(&at, Seq(1), Vec::new(), insert.clone()).await.unwrap();
    append(stores, &at, entries(1, 1, 1, 0)).await.unwrap();
    let remove = vec![WakeChange::Remove { due, kind: WakeKind::Run }];
    stores.journal.append(&at, Seq(2), Vec::new(), remove).await.unwrap();
    assert!(stores.wake.due(&[id.shard()], due, None, 10).await.unwrap().is_empty());
    let new = open(stores, id).await;
    assert_eq!(new.head, Seq(1));
    let refused = stores.journal.append(&at, Seq(2), Vec::new(), insert).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
}

async fn snapshot_and_trim(subject: &mut dyn Subject) {
    for kind in [EntityKind::Task, EntityKind::Namespace, EntityKind::Team] {
        let id = entity(kind);
        let stores = subject.stores();
        let at = open(&stores, id).await;
        append(&stores, &at, entries(1, 10, 1, 1)).await.unwrap();
        stores.journal.snapshot(&at, Seq(6), Bytes::from_static(b"six")).await.unwrap();
        append(&stores, &at, entries(11, 1, 11, 1)).await.unwrap();
        let check = async |stores: &Stores, upto: u64, state: &'static [u8]| {
            let now = open(stores, id).await;
            assert_eq!(now.head, Seq(11));
            let snapshot = now.snapshot.as_ref().expect("there is a snapshot");
            assert_eq!((snapshot.upto.0, snapshot.state.as_ref()), (upto, state));
            let numbers: Vec<u64> = now.tail.iter().map(|entry| entry.seq.0).collect();
            assert_eq!(numbers, (upto + 1..=11).collect::<Vec<_>>());
            now
        };
        let at = check(&stores, 6, b"six").await;
        stores.journal.snapshot(&at, Seq(11), Bytes::from_static(b"all")).await.unwrap();
        stores.journal.snapshot(&at, Seq(4), Bytes::from_static(b"old")).await.unwrap();
        check(&stores, 11, b"all").await;
        subject.restart().await;
        let stores = subject.stores();
        let at = check(&stores, 11, b"all").await;
        append(&stores, &at, entries(12, 1, 12, 1)).await.unwrap();
        let archived = stores.journal.read_archive_entries(id, Seq(1), usize::MAX).await.unwrap();
        let expected = if kind.archives() { 11 } else { 0 };
        assert_eq!(archived.len(), expected, "{kind:?}");
    }
}

async fn snapshot_arguments(stores: &Stores) {
    let id = entity(TASK);
    let at = open(stores, id).await;
    append(stores, &at, entries(1, 2, 1, 1)).await.unwrap();
    let state = Bytes::from_static(b"x");
    let refused = stores.journal.snapshot(&at, Seq(3), state).await.unwrap_err();
    let expected = InvalidAppend::NotCommitted { upto: Seq(3) };
    assert!(matches!(refused, AppendError::Invalid(why) if why == expected), "{refused:?}");
    let huge = Bytes::from(vec![0; SNAPSHOT_STATE_BYTES_MAX + 1]);
    let refused = stores.journal.snapshot(&at, Seq(2), huge).await.unwrap_err();
    let too_large = matches!(refused, AppendError::Invalid(InvalidAppend::SnapshotTooLarge(_)));
    assert!(too_large, "{refused:?}");
    let large: Bytes = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    stores.journal.snapshot(&at, Seq(2), large.clone()).await.unwrap();
    let now = open(stores, id).await;
    assert_eq!(now.snapshot.expect("there is a snapshot").state, large);
}

async fn archive(subject: &mut dyn Subject) {
    let id = entity(TASK);
    let stores = subject.stores();
    let at = open(&stores, id).await;
    let mut all = Vec::new();
    // Entries with no, one and three frames, in several appends and snapshots.
    let (mut seq, mut frame) = (1u64, 1u64);
    for round in 0..30u64 {
        let new = entries(seq, 1 + round % 4, frame, [0, 1, 3][(round % 3) as usize]);
        seq += new.len() as u64;
        frame = new[new.len() - 1].next_frame().0;
        append(&stores, &at, new.clone()).await.unwrap();
        all.extend(new);
        if round % 7 == 6 {
            let upto = Seq(seq - 1 - round % 2);
            stores.journal.snapshot(&at, upto, Bytes::from_static(b"s")).await.unwrap();
        }
    }
    subject.restart().await;
    let stores = subject.stores();
    let upto = open(&stores, id).await.snapshot.expect("there is a snapshot").upto;
    let below: Vec<Entry> = all.iter().filter(|entry| entry.seq <= upto).cloned().collect();
    for from in 1..=frame + 1 {
        let mut wanted = below.clone();
        wanted.retain(|e| e.frames > 0 && e.next_frame() > FrameSeq(from));
        let got = stores.journal.read_archive(id, FrameSeq(from), usize::MAX).await.unwrap();
        assert_eq!(got, wanted, "from frame {from}");
    }
    for from in 1..=seq + 1 {
        let wanted: Vec<_> = below.iter().filter(|e| e.seq.0 >= from).cloned().collect();
        let got = stores.journal.read_archive_entries(id, Seq(from), usize::MAX).await.unwrap();
        assert_eq!(got, wanted, "from entry {from}");
    }
}

async fn archive_reads_are_bounded(stores: &Stores) {
    let id = entity(TASK);
    let at = open(stores, id).await;
    let mut all = Vec::new();
    for batch in 0..5u64 {
        let mut new = entries(1 + batch * 100, 100, 1 + batch * 100, 1);
        for entry in &mut new {
            entry.body = Bytes::from(vec![b'x'; 1_000]);
        }
        append(stores, &at, new.clone()).await.unwrap();
        all.extend(new);
    }
    stores.journal.snapshot(&at, Seq(500), Bytes::from_static(b"s")).await.unwrap();
    let (mut from, mut pages, mut got) = (FrameSeq(1), HashSet::new(), Vec::new());
    loop {
        let page = stores.journal.read_archive(id, from, 10_500).await.unwrap();
        let Some(last) = page.last() else { break };
        from = last.next_frame();
        pages.insert(page.len());
        got.extend(page);
    }
    assert_eq!((got, pages), (all, HashSet::from([10])));
    let one = stores.journal.read_archive(id, FrameSeq(77), 1).await.unwrap();
    assert_eq!(one.len(), 1, "at least one, whatever the bound");
}

async fn many_entities(subject: &mut dyn Subject) {
    let stores = subject.stores();
    let mut writers = JoinSet::new();
    for _ in 0..50 {
        let stores = stores.clone();
        writers.spawn(async move {
            let id = entity(TASK);
            let at = open(&stores, id).await;
            for seq in 1..=20 {
                append(&stores, &at, entries(seq, 1, seq, 1)).await.unwrap();
            }
            id
        });
    }
    let ids = timeout(WAIT_MAX, writers.join_all()).await.expect("all finish");
    drop(stores);
    subject.restart().await;
    for id in ids {
        assert_eq!(seen(&open(&subject.stores(), id).await).1, entries_one_by_one(20));
    }
}

fn entries_one_by_one(count: u64) -> Vec<Entry> {
    (1..=count).flat_map(|seq| entries(seq, 1, seq, 1)).collect()
}
