//! The contract of `Directory`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::task::JoinSet;
use troupe_types::Uuid;

use super::Subject;
use crate::{
    CasError, ChangeCursor, Directory, DirectoryRow, DirectoryTable, InvalidWrite, RowWrite,
    directory::{ROW_BYTES_MAX, ROW_KEY_BYTES_MAX},
};

type Store = Arc<dyn Directory>;

fn key() -> Vec<u8> {
    Uuid::new_v4().as_bytes().to_vec()
}

async fn read(store: &Store, table: DirectoryTable, key: &[u8]) -> Option<DirectoryRow> {
    store.get(table, key).await.unwrap()
}

/// All cases.
pub async fn directory(subject: &mut dyn Subject) {
    rows(subject).await;
    conflicts(&subject.stores().directory).await;
    races(&subject.stores().directory).await;
    one_use(&subject.stores().directory).await;
    lists(subject).await;
    announcements(subject).await;
    sizes(&subject.stores().directory).await;
}

async fn rows(subject: &mut dyn Subject) {
    let (key, owner) = (key(), Uuid::new_v4());
    let store = subject.stores().directory;
    assert_eq!(read(&store, DirectoryTable::User, &key).await, None);
    let insert = RowWrite::insert(DirectoryTable::User, key.clone(), "a").owned_by(owner);
    assert_eq!(store.compare_and_set(insert).await.unwrap(), 1);
    let row = read(&store, DirectoryTable::User, &key).await.expect("it is there");
    let mut update = RowWrite::update(&row, "b");
    update.owner = None; // Fixed when the row is made.
    assert_eq!(store.compare_and_set(update).await.unwrap(), 2);
    subject.restart().await;
    let store = subject.stores().directory;
    let row = read(&store, DirectoryTable::User, &key).await.expect("it is durable");
    assert_eq!((row.version, row.body.as_ref(), row.owner), (2, b"b".as_slice(), Some(owner)));
    assert_eq!(read(&store, DirectoryTable::Session, &key).await, None, "tables are apart");
    store.remove(DirectoryTable::User, &key, 2, false).await.unwrap();
    assert_eq!(read(&store, DirectoryTable::User, &key).await, None);
}

async fn conflicts(store: &Store) {
    let key = key();
    let insert = RowWrite::insert(DirectoryTable::UserName, key.clone(), "a");
    let conflict = |result: Result<(), CasError>| match result {
        Err(CasError::Conflict { current }) => current,
        other => panic!("expected a conflict, got {other:?}"),
    };
    let update = RowWrite { expected: 1, ..insert.clone() };
    assert_eq!(conflict(store.compare_and_set(update).await.map(|_| ())), 0);
    assert_eq!(conflict(store.remove(DirectoryTable::UserName, &key, 1, false).await), 0);
    store.compare_and_set(insert.clone()).await.unwrap();
    assert_eq!(conflict(store.compare_and_set(insert.clone()).await.map(|_| ())), 1);
    let later = RowWrite { expected: 2, ..insert };
    assert_eq!(conflict(store.compare_and_set(later).await.map(|_| ())), 1);
    assert_eq!(conflict(store.remove(DirectoryTable::UserName, &key, 2, false).await), 1);
    let row = read(store, DirectoryTable::UserName, &key).await.unwrap();
    assert_eq!((row.version, row.body.as_ref()), (1, b"a".as_slice()));
}

/// Every increment of a counter by many writers counts once. Writers of a store on several
/// machines that stand in each other's way may never know what became of a change: such a one
/// counts once or not at all.
async fn races(store: &Store) {
    let key = key();
    let in_doubt = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (store, key, in_doubt) = (Arc::clone(store), key.clone(), Arc::clone(&in_doubt));
        writers.spawn(async move {
            let mut won = 0u64;
            while won < 10 {
                let row = read(&store, DirectoryTable::Setting, &key).await;
                let count: u64 = row
                    .as_ref()
                    .map_or(0, |row| std::str::from_utf8(&row.body).unwrap().parse().unwrap());
                let body = (count + 1).to_string();
                let write = match &row {
                    Some(row) => RowWrite::update(row, body),
                    None => RowWrite::insert(DirectoryTable::Setting, key.clone(), body),
                };
                match store.compare_and_set(write).await {
                    Ok(_) => won += 1,
                    Err(CasError::Conflict { .. }) => tokio::task::yield_now().await,
                    Err(CasError::OutcomeUnknown { .. }) => {
                        in_doubt.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) => panic!("{e:?}"),
                }
            }
        });
    }
    writers.join_all().await;
    let row = read(store, DirectoryTable::Setting, &key).await.unwrap();
    let most = 80 + in_doubt.load(Ordering::Relaxed);
    assert!((80..=most).contains(&row.version), "{} of 80 to {most}", row.version);
    assert_eq!(row.body.as_ref(), row.version.to_string().as_bytes());
}

async fn one_use(store: &Store) {
    for _ in 0..20 {
        let key = key();
        let insert = RowWrite::insert(DirectoryTable::OneUse, key.clone(), "setup");
        store.compare_and_set(insert).await.unwrap();
        let mut takers = JoinSet::new();
        for _ in 0..6 {
            let (store, key) = (Arc::clone(store), key.clone());
            takers.spawn(async move { store.take(DirectoryTable::OneUse, &key).await });
        }
        let all = takers.join_all().await;
        let in_doubt = |one: &Result<_, _>| matches!(one, Err(CasError::OutcomeUnknown { .. }));
        // Who never hears whether it got it has not got it, and the others have not either.
        let fewest = usize::from(!all.iter().any(in_doubt));
        let got = all.into_iter().filter(|one| !in_doubt(one)).filter_map(Result::unwrap).count();
        assert!((fewest..=1).contains(&got), "exactly one gets it, not {got}");
    }
}

async fn lists(subject: &mut dyn Subject) {
    let (mine, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let store = subject.stores().directory;
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for n in 0..25u8 {
        let key = [b"list-".as_slice(), mine.as_bytes(), &[n]].concat();
        let owner = if n % 5 == 0 { theirs } else { mine };
        let insert = RowWrite::insert(DirectoryTable::ApiKey, key.clone(), vec![n]).owned_by(owner);
        store.compare_and_set(insert).await.unwrap();
        if owner == mine {
            keys.push(key);
        }
    }
    subject.restart().await;
    let store = subject.stores().directory;
    let walk = async |owner: Option<Uuid>| {
        let (mut after, mut got): (Option<Vec<u8>>, Vec<Vec<u8>>) = (None, Vec::new());
        loop {
            let page =
                store.list(DirectoryTable::ApiKey, owner, after.as_deref(), 7).await.unwrap();
            assert!(page.len() <= 7);
            let Some(last) = page.last() else { return got };
            after = Some(last.key.to_vec());
            got.extend(page.into_iter().map(|row| row.key.to_vec()));
        }
    };
    assert_eq!(walk(Some(mine)).await, keys);
    assert_eq!(walk(Some(theirs)).await.len(), 5);
    assert!(walk(None).await.len() >= 25);
    store.remove(DirectoryTable::ApiKey, &keys[0], 1, false).await.unwrap();
    assert_eq!(walk(Some(mine)).await, keys[1..]);
}

async fn announcements(subject: &mut dyn Subject) {
    let store = subject.stores().directory;
    let start = store.revocations_now().await.unwrap();
    let (key, owner) = (key(), Uuid::new_v4());
    let insert = RowWrite::insert(DirectoryTable::Session, key.clone(), "on").owned_by(owner);
    store.compare_and_set(insert.clone()).await.unwrap();
    assert!(store.compare_and_set(insert.clone().announced()).await.is_err());
    let quiet = store.revocations_since(start, 10).await.unwrap();
    assert_eq!(quiet.changes, [], "neither what is not announced nor what did not happen");
    let row = read(&store, DirectoryTable::Session, &key).await.unwrap();
    store.compare_and_set(RowWrite::update(&row, "off").announced()).await.unwrap();
    store.remove(DirectoryTable::Session, &key, 2, true).await.unwrap();
    subject.restart().await;
    let store = subject.stores().directory;
    let (mut cursor, mut heard) = (start, 0);
    loop {
        let page = store.revocations_since(cursor, 1).await.unwrap();
        let Some(change) = page.changes.first() else { break };
        assert_eq!((change.table, change.owner), (DirectoryTable::Session, Some(owner)));
        assert_eq!(change.key, key);
        assert!(page.next > cursor);
        (cursor, heard) = (page.next, heard + 1);
    }
    assert_eq!(heard, 2);
    assert_eq!(store.revocations_now().await.unwrap(), cursor);
    assert!(cursor > ChangeCursor::START);
}

async fn sizes(store: &Store) {
    let row = |key: usize, body: usize| {
        let mut bytes = vec![1; key];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        RowWrite::insert(DirectoryTable::Setting, bytes, vec![2; body])
    };
    store.compare_and_set(row(ROW_KEY_BYTES_MAX, ROW_BYTES_MAX)).await.unwrap();
    for (key, body) in [(ROW_KEY_BYTES_MAX + 1, 1), (16, ROW_BYTES_MAX + 1)] {
        let refused = store.compare_and_set(row(key, body)).await;
        let too_large = matches!(refused, Err(CasError::Invalid(InvalidWrite::TooLarge { .. })));
        assert!(too_large, "{refused:?}");
    }
}
