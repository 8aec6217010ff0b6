//! Going through everything, while it lies in several files on the servers' disks.

use std::collections::BTreeSet;

use bytes::Bytes;
use troupe_store::{BlobHash, Blobs as _, Entry, Inventory as _, JournalStore as _};
use troupe_store_scylla::ScyllaStore;
use troupe_types::{EntityId, EntityKind, Epoch, FrameSeq, Seq, Uuid};

use crate::server::Node;

/// Entities that every round writes to, and those that each adds.
const ENTITIES: usize = 30;
const MORE: usize = 10;
const ROUNDS: u64 = 3;
/// Pages that end in the middle of what there is.
const PAGE: usize = 7;

async fn append(store: &ScyllaStore, id: EntityId, count: u64) -> Seq {
    let at = store.open(id, Epoch(1)).await.unwrap();
    let first = at.head.next();
    let entry = |n: u64| Entry {
        seq: Seq(first.0 + n),
        first_frame: FrameSeq(first.0 + n),
        frames: 1,
        body: Bytes::from(vec![b'x'; 600]),
    };
    let new: Vec<Entry> = (0..count).map(entry).collect();
    let last = new.last().unwrap().seq;
    store.append(&at, first, new, vec![]).await.unwrap();
    last
}

async fn entities(store: &ScyllaStore, page: usize) -> Vec<EntityId> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let found = store.entities(after, page).await.unwrap();
        assert!(found.len() <= page, "{} of {page}", found.len());
        let Some(last) = found.last() else { return all };
        after = Some(*last);
        all.extend(found);
    }
}

async fn blobs(store: &ScyllaStore, page: usize) -> Vec<BlobHash> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let found = store.blobs(after, page).await.unwrap();
        let Some(last) = found.last() else { return all };
        after = Some(*last);
        all.extend(found);
    }
}

/// Written, flushed, written again, trimmed, flushed: every journal has rows, or its statics
/// alone, in several files, and each is found once, whatever the size of a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_found_in_several_files_of_the_server() {
    let Some(node) = Node::start_alone().await else { return };
    let store = &node.store;
    let id = || EntityId { kind: EntityKind::Task, id: Uuid::new_v4() };
    let mut ids: Vec<EntityId> = (0..ENTITIES).map(|_| id()).collect();
    let mut hashes = BTreeSet::new();
    for round in 0..ROUNDS {
        ids.extend((0..MORE).map(|_| id()));
        for (n, id) in ids.iter().enumerate() {
            let last = append(store, *id, 3).await;
            if n % 3 == 0 {
                // Nothing is left of these but what stands above the rows.
                let at = store.open(*id, Epoch(1)).await.unwrap();
                store.snapshot(&at, last, Bytes::from_static(b"all")).await.unwrap();
            }
        }
        for n in 0..MORE {
            let body = Bytes::from(format!("blob {round} {n}"));
            hashes.insert(store.put(body).await.unwrap());
        }
        node.flush(&["journal", "blob"]).await;
    }
    for page in [PAGE, ids.len(), 5_000] {
        let found = entities(store, page).await;
        let wanted: BTreeSet<EntityId> = ids.iter().copied().collect();
        assert_eq!(found.len(), ids.len(), "each once, in pages of {page}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
        let found = blobs(store, page).await;
        assert_eq!(found.len(), hashes.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), hashes);
    }
    for id in &ids {
        let peeked = store.peek(*id).await.unwrap().expect("it has entries");
        assert!(peeked.head() >= Seq(3), "{peeked:?}");
    }
    node.end().await;
}
