//! The contract of `WakeStore`.

use std::collections::BTreeSet;

use troupe_types::{EntityId, EntityKind, Seq, ShardId, Timestamp};

use super::{Subject, entities_of_shards, entity};
use crate::{InvalidWrite, Opened, Stores, WakeChange, WakeKind, WakeRow, WriteError};

async fn open(stores: &Stores, entity: EntityId) -> Opened {
    stores.journal.open(entity, stores.boot_epoch).await.expect("opens")
}

async fn change(stores: &Stores, at: &Opened, changes: Vec<WakeChange>) {
    let next = at.head.next();
    stores.journal.append(at, next, Vec::new(), changes).await.expect("the wake index changes");
}

fn insert(due: i64, kind: WakeKind) -> WakeChange {
    WakeChange::Insert { due: Timestamp::from_millis(due), kind }
}

async fn due_of(stores: &Stores, id: EntityId, until: i64) -> Vec<(i64, WakeKind, u64)> {
    let until = Timestamp::from_millis(until);
    let rows = stores.wake.due(&[id.shard()], until, None, 1_000).await.unwrap();
    let mine = rows.into_iter().filter(|row| row.entity == id);
    mine.map(|row| (row.due.as_millis(), row.kind, row.fence.0)).collect()
}

/// All cases.
pub async fn wake(subject: &mut dyn Subject) {
    due_rows(subject).await;
    pages(&subject.stores()).await;
    removal(subject).await;
    removal_is_guarded(&subject.stores()).await;
}

async fn due_rows(subject: &mut dyn Subject) {
    let id = entity(EntityKind::Task);
    let stores = subject.stores();
    let at = open(&stores, id).await;
    let all = [insert(300, WakeKind::Cron), insert(100, WakeKind::Run), insert(200, WakeKind::Run)];
    change(&stores, &at, all.to_vec()).await;
    change(&stores, &at, all.to_vec()).await; // The same again is one row.
    subject.restart().await;
    let stores = subject.stores();
    let f = at.fence.0;
    assert_eq!(due_of(&stores, id, 99).await, []);
    let (run, cron) = (WakeKind::Run, WakeKind::Cron);
    assert_eq!(due_of(&stores, id, 200).await, [(100, run, f), (200, run, f)]);
    assert_eq!(due_of(&stores, id, 999).await, [(100, run, f), (200, run, f), (300, cron, f)]);
    let elsewhere = [ShardId((id.shard().0 + 1) % 1024)];
    let rows = stores.wake.due(&elsewhere, Timestamp::from_millis(999), None, 1_000).await.unwrap();
    assert!(rows.iter().all(|row| row.entity != id), "other shards are not asked for");
}

async fn pages(stores: &Stores) {
    let shards = [ShardId(3), ShardId(700), ShardId(1023)];
    let mut written = BTreeSet::new();
    for (n, id) in (0i64..).zip(entities_of_shards(&shards, 8)) {
        let at = open(stores, id).await;
        let dues = [50_000 + n % 3, 50_000 + n];
        change(stores, &at, dues.map(|due| insert(due, WakeKind::Projection)).to_vec()).await;
        written.extend(dues.map(|due| {
            WakeRow::new(id, at.fence, Timestamp::from_millis(due), WakeKind::Projection)
        }));
    }
    let (mut after, mut got) = (None, Vec::new());
    loop {
        let until = Timestamp::from_millis(99_999);
        let page = stores.wake.due(&shards, until, after, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        got.extend(page);
    }
    got.retain(|row| row.due.as_millis() >= 50_000);
    assert_eq!(got, written.into_iter().collect::<Vec<_>>(), "in order, none twice, none missed");
}

async fn removal(subject: &mut dyn Subject) {
    let id = entity(EntityKind::Task);
    let stores = subject.stores();
    let first = open(&stores, id).await;
    change(&stores, &first, vec![insert(1, WakeKind::Run), insert(2, WakeKind::Run)]).await;
    subject.restart().await;
    let stores = subject.stores();
    let second = open(&stores, id).await;
    change(&stores, &second, vec![insert(1, WakeKind::Run)]).await;
    assert_eq!(due_of(&stores, id, 9).await.len(), 3);
    // With an append: this due and kind, of this fence and of older ones.
    let due = Timestamp::from_millis(1);
    change(&stores, &second, vec![WakeChange::Remove { due, kind: WakeKind::Cron }]).await;
    assert_eq!(due_of(&stores, id, 9).await.len(), 3, "another kind is another row");
    change(&stores, &second, vec![WakeChange::Remove { due, kind: WakeKind::Run }]).await;
    assert_eq!(due_of(&stores, id, 9).await, [(2, WakeKind::Run, first.fence.0)]);
    // By rows.
    let old = WakeRow::new(id, first.fence, Timestamp::from_millis(2), WakeKind::Run);
    stores.wake.remove(&second, vec![old]).await.unwrap();
    stores.wake.remove(&second, vec![old]).await.expect("gone already is no error");
    assert_eq!(due_of(&stores, id, 9).await, []);
    change(&stores, &second, vec![insert(2, WakeKind::Run)]).await;
    assert_eq!(due_of(&stores, id, 9).await.len(), 1, "a removed row may be written again");
}

async fn removal_is_guarded(stores: &Stores) {
    let id = entity(EntityKind::Task);
    let first = open(stores, id).await;
    change(stores, &first, vec![insert(1, WakeKind::Run)]).await;
    let second = open(stores, id).await;
    let of = |fence| WakeRow::new(id, fence, Timestamp::from_millis(1), WakeKind::Run);
    let refused = |outcome: Result<(), WriteError>| {
        let not_yours = WriteError::Invalid(InvalidWrite::NotYours);
        assert_eq!(format!("{outcome:?}"), format!("{:?}", Err::<(), _>(not_yours)));
    };
    refused(stores.wake.remove(&second, vec![of(first.fence)]).await); // Wrote none itself yet.
    refused(stores.wake.remove(&first, vec![of(first.fence)]).await); // Superseded.
    let other = entity(EntityKind::Task);
    let foreign = WakeRow::new(other, second.fence, Timestamp::from_millis(1), WakeKind::Run);
    refused(stores.wake.remove(&second, vec![foreign]).await);
    assert_eq!(due_of(stores, id, 9).await.len(), 1);
    change(stores, &second, vec![insert(1, WakeKind::Run)]).await;
    stores.wake.remove(&second, vec![of(first.fence)]).await.unwrap();
    let third = open(stores, id).await;
    change(stores, &third, vec![insert(1, WakeKind::Run)]).await;
    refused(stores.wake.remove(&second, vec![of(second.fence)]).await);
    assert_eq!(due_of(stores, id, 9).await.len(), 2);
    assert_eq!(third.head, Seq::ZERO);
}
