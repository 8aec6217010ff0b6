//! The contracts of `Projections`, `Blobs` and `DeadLetters`.

use bytes::Bytes;
use troupe_types::{EntityKind, Seq, TaskId, Timestamp, UserId, Uuid};

use super::{Subject, entity};
use crate::{
    BLOB_BYTES_MAX, BlobHash, DeadLetter, InvalidWrite, TaskCursor, TaskFilter, TaskRow,
    WriteError,
    dead_letters::{DEAD_LETTER_BYTES_MAX, DEAD_LETTER_ERROR_BYTES_MAX},
    projections::PROJECTION_BYTES_MAX,
};

fn task_row(owner: UserId, seq: u64, updated_at: i64, title: &str) -> TaskRow {
    TaskRow {
        task: TaskId::from_uuid(Uuid::new_v4()),
        owner,
        seq: Seq(seq),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(updated_at),
        status: "RUNNING".into(),
        title: title.into(),
        team: "assistant".into(),
        team_namespace: "default".into(),
        archived: false,
        deleted: false,
        asks: 0,
        body: Bytes::from_static(b"{}"),
    }
}

/// All cases of `Projections`.
pub async fn projections(subject: &mut dyn Subject) {
    newest_seq_wins(subject).await;
    lists(subject).await;
    deletion(subject).await;
    asking(subject).await;
    let large = Bytes::from(vec![0; PROJECTION_BYTES_MAX + 1]);
    let owner = UserId::from_uuid(Uuid::new_v4());
    let row = TaskRow { body: large, ..task_row(owner, 1, 1, "") };
    let refused = subject.stores().projections.put_task(row).await;
    let too_large = matches!(refused, Err(WriteError::Invalid(InvalidWrite::TooLarge { .. })));
    assert!(too_large, "{refused:?}");
}

async fn newest_seq_wins(subject: &mut dyn Subject) {
    let owner = UserId::from_uuid(Uuid::new_v4());
    let first = task_row(owner, 1, 10, "first");
    let version = |seq: u64, title: &str| TaskRow {
        seq: Seq(seq),
        title: title.into(),
        updated_at: Timestamp::from_millis(100 - i64::try_from(seq).unwrap()),
        ..first.clone()
    };
    let all = [first.clone(), version(2, "second"), version(3, "third")];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let store = subject.stores().projections;
        let task = TaskId::from_uuid(Uuid::new_v4());
        for n in order.into_iter().chain(order) {
            store.put_task(TaskRow { task, ..all[n].clone() }).await.unwrap();
        }
        let rows = store.get_tasks(&[task]).await.unwrap();
        assert_eq!(rows, [TaskRow { task, ..all[2].clone() }], "written in order {order:?}");
    }
    subject.restart().await;
    let store = subject.stores().projections;
    let listed = store.list_tasks(owner, &TaskFilter::default(), None, 100).await.unwrap();
    assert_eq!(listed.len(), 6, "each Task is listed once");
    assert!(listed.iter().all(|row| row.title == "third"));
}

async fn lists(subject: &mut dyn Subject) {
    let owner = UserId::from_uuid(Uuid::new_v4());
    let store = subject.stores().projections;
    let mut rows = Vec::new();
    for n in 0..40i64 {
        let title = if n % 4 == 0 { format!("Größe {n}") } else { format!("100% of_it {n}") };
        let status = ["RUNNING", "COMPLETED", "FAILED"][(n % 3) as usize].into();
        let archived = n % 10 == 9;
        let deleted = n % 10 == 8;
        let asks = if n % 5 < 2 { u32::try_from(n).unwrap() } else { 0 };
        let row = TaskRow { status, archived, deleted, asks, ..task_row(owner, 1, n / 3, &title) };
        store.put_task(row.clone()).await.unwrap();
        rows.push(row);
    }
    store.put_task(task_row(UserId::from_uuid(Uuid::new_v4()), 1, 99, "theirs")).await.unwrap();
    rows.sort_by_key(|row| std::cmp::Reverse((row.updated_at, row.task)));
    subject.restart().await;
    let store = subject.stores().projections;
    let text = |text: &str| TaskFilter { text: Some(text.into()), ..TaskFilter::default() };
    let some = vec!["COMPLETED".to_owned(), "FAILED".to_owned()];
    let filters = [
        TaskFilter::default(),
        TaskFilter { archived: true, ..TaskFilter::default() },
        TaskFilter { statuses: some.clone(), ..TaskFilter::default() },
        TaskFilter { statuses: some, ..text("GRÖSSE") },
        text("größe"),
        text("0% OF_"),
        text("%of"),
        text("nowhere"),
        TaskFilter { asks: true, ..TaskFilter::default() },
        TaskFilter { asks: true, statuses: vec!["FAILED".into()], ..text("größe") },
    ];
    for filter in filters {
        let wanted: Vec<_> = rows.iter().filter(|row| filter.admits(row)).cloned().collect();
        let (mut after, mut got): (Option<TaskCursor>, Vec<TaskRow>) = (None, Vec::new());
        loop {
            let page = store.list_tasks(owner, &filter, after, 6).await.unwrap();
            assert!(page.len() <= 6);
            let Some(last) = page.last() else { break };
            after = Some(TaskCursor::from(last));
            got.extend(page);
        }
        assert_eq!(got, wanted, "{filter:?}");
        let count = store.count_tasks(owner, &filter).await.unwrap();
        assert_eq!(count, wanted.len() as u64, "{filter:?}");
        let after = wanted.first().map(TaskCursor::from);
        let page = store.page_of_tasks(owner, &filter, after, 3).await.unwrap();
        assert!(page.rows.iter().eq(wanted.iter().skip(1).take(3)), "{filter:?}");
        assert_eq!(page.total, count, "{filter:?}");
    }
    let ids: Vec<_> = rows.iter().rev().map(|row| row.task).collect();
    let unknown = [&ids[..], &[TaskId::from_uuid(Uuid::new_v4())]].concat();
    let by_id: Vec<_> = store.get_tasks(&unknown).await.unwrap();
    assert!(by_id.iter().eq(rows.iter().rev()), "deleted ones are found by id");
}

async fn asking(subject: &mut dyn Subject) {
    let owner = UserId::from_uuid(Uuid::new_v4());
    let store = subject.stores().projections;
    let row = task_row(owner, 1, 1, "asks");
    let version = |seq: u64, asks: u32| TaskRow { seq: Seq(seq), asks, ..row.clone() };
    let filter = TaskFilter { asks: true, ..TaskFilter::default() };
    store.put_task(task_row(owner, 1, 1, "does not ask")).await.unwrap();
    for (seq, asks, wanted) in [(1, 2, 1), (2, 0, 0), (1, 2, 0), (3, 1, 1), (4, 3, 1), (5, 0, 0)] {
        store.put_task(version(seq, asks)).await.unwrap();
        let listed = store.list_tasks(owner, &filter, None, 10).await.unwrap();
        assert_eq!(listed.len(), wanted, "after {asks} at {seq}");
        assert!(listed.iter().all(|row| row.asks == asks));
        assert_eq!(store.count_tasks(owner, &filter).await.unwrap(), wanted as u64);
    }
    store.put_task(version(6, 1)).await.unwrap();
    subject.restart().await;
    let store = subject.stores().projections;
    let listed = store.list_tasks(owner, &filter, None, 10).await.unwrap();
    assert_eq!(listed, [version(6, 1)]);
    store.delete_task(owner, row.task, Seq(7)).await.unwrap();
    assert_eq!(store.list_tasks(owner, &filter, None, 10).await.unwrap(), []);
}

async fn deletion(subject: &mut dyn Subject) {
    let owner = UserId::from_uuid(Uuid::new_v4());
    let store = subject.stores().projections;
    let row = TaskRow { seq: Seq(5), ..task_row(owner, 5, 1, "gone") };
    store.put_task(row.clone()).await.unwrap();
    store.delete_task(owner, row.task, Seq(4)).await.unwrap();
    assert_eq!(store.get_tasks(&[row.task]).await.unwrap().len(), 1, "an older one never wins");
    store.delete_task(owner, row.task, Seq(6)).await.unwrap();
    subject.restart().await;
    let store = subject.stores().projections;
    store.put_task(TaskRow { seq: Seq(6), ..row.clone() }).await.unwrap();
    assert_eq!(store.get_tasks(&[row.task]).await.unwrap(), [], "it does not come back");
    assert_eq!(store.count_tasks(owner, &TaskFilter::default()).await.unwrap(), 0);
    store.put_task(TaskRow { seq: Seq(7), ..row.clone() }).await.unwrap();
    assert_eq!(store.get_tasks(&[row.task]).await.unwrap().len(), 1);
}

/// All cases of `Blobs`.
pub async fn blobs(subject: &mut dyn Subject) {
    let store = subject.stores().blobs;
    let large: Bytes = (0..2_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let cases = [Bytes::new(), Bytes::from_static(b"small"), large];
    for bytes in &cases {
        let hash = BlobHash::of(bytes);
        assert!(!store.exists(hash).await.unwrap());
        assert_eq!(store.get(hash).await.unwrap(), None);
        for _ in 0..2 {
            assert_eq!(store.put(bytes.clone()).await.unwrap(), hash);
        }
    }
    subject.restart().await;
    let store = subject.stores().blobs;
    for bytes in &cases {
        let hash = BlobHash::of(bytes);
        assert!(store.exists(hash).await.unwrap());
        assert_eq!(store.get(hash).await.unwrap().as_ref(), Some(bytes));
        assert_eq!(hash.to_string().parse::<BlobHash>(), Ok(hash));
    }
    let refused = store.put(Bytes::from(vec![0; BLOB_BYTES_MAX + 1])).await;
    let too_large = matches!(refused, Err(WriteError::Invalid(InvalidWrite::TooLarge { .. })));
    assert!(too_large, "{refused:?}");
}

/// All cases of `DeadLetters`.
pub async fn dead_letters(subject: &mut dyn Subject) {
    let store = subject.stores().dead_letters;
    let letter = |n: u128, error: String| DeadLetter {
        id: Uuid::from_u128(n),
        entity: entity(EntityKind::Namespace),
        message: Bytes::from(format!("message {n}")),
        error,
        strikes: 3,
        at: Timestamp::from_millis(7),
    };
    let all: Vec<_> = (1..=12).map(|n| letter(n, format!("error {n}"))).collect();
    for letter in all.iter().rev() {
        store.put(letter.clone()).await.unwrap();
    }
    store.put(letter(3, "again".into())).await.unwrap();
    subject.restart().await;
    let store = subject.stores().dead_letters;
    let (mut after, mut got) = (None, Vec::new());
    loop {
        let page = store.list(after, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        got.extend(page);
    }
    assert_eq!(got, all);
    assert_eq!(store.get(all[4].id).await.unwrap().as_ref(), Some(&all[4]));
    for _ in 0..2 {
        store.remove(all[4].id).await.unwrap();
    }
    assert_eq!(store.get(all[4].id).await.unwrap(), None);
    let long = letter(100, "ä".repeat(DEAD_LETTER_ERROR_BYTES_MAX));
    store.put(long.clone()).await.unwrap();
    let kept = store.get(long.id).await.unwrap().expect("it is there");
    assert_eq!(kept.error.len(), DEAD_LETTER_ERROR_BYTES_MAX);
    let huge = DeadLetter { message: vec![0; DEAD_LETTER_BYTES_MAX + 1].into(), ..long };
    assert!(matches!(store.put(huge).await, Err(WriteError::Invalid(_))));
}
