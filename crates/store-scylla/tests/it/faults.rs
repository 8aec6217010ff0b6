//! What only a database beyond a network can do to a journal: answers that get lost after the
//! fact, statements that arrive when nobody wants them any more, a server that is away.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{interval, timeout};
use troupe_store::{
    AppendError, CasError, Directory, DirectoryTable, Entry, JournalStore, Opened, Ownership,
    OwnershipError, RowWrite, WakeChange, WakeKind, WakeStore,
};
use troupe_store_scylla::{ScyllaOptions, ScyllaStore};
use troupe_types::{
    EntityId, EntityKind, Epoch, FrameSeq, Incarnation, NodeState, Seq, ShardId, Timestamp, Uuid,
};

use crate::{
    proxy::Proxy,
    server::{Node, new_lease, options},
};

const WAIT: Duration = Duration::from_secs(60);

fn entity() -> EntityId {
    EntityId { kind: EntityKind::Task, id: Uuid::new_v4() }
}

fn entries(first: u64, count: u64, body: &'static str) -> Vec<Entry> {
    let entry = |n: u64| Entry {
        seq: Seq(first + n),
        first_frame: FrameSeq(first + n),
        frames: 1,
        body: Bytes::from_static(body.as_bytes()),
    };
    (0..count).map(entry).collect()
}

async fn append(store: &ScyllaStore, at: &Opened, new: Vec<Entry>) -> Result<(), AppendError> {
    let first = new[0].seq;
    timeout(WAIT, store.append(at, first, new, vec![])).await.expect("answers")
}

/// A second node, behind a proxy.
struct Behind {
    node: Node,
    proxy: Proxy,
    store: ScyllaStore,
}

impl Behind {
    async fn start() -> Option<Self> {
        let node = Node::start().await?;
        let server = node.address.parse().unwrap();
        let proxy = Proxy::to(server).await;
        let mut options = ScyllaOptions {
            addresses: [(server, proxy.address)].into(),
            create_keyspace: None,
            cluster: node.cluster.clone(),
            ..options(&proxy.address.to_string(), &node.keyspace)
        };
        options.timeouts.request = Duration::from_secs(3);
        options.timeouts.repeat_after = Duration::from_secs(1);
        let store = ScyllaStore::connect(&options).await.unwrap();
        store.join(&new_lease("behind")).await.unwrap();
        Some(Self { node, proxy, store })
    }

    async fn end(self) {
        drop(self.store);
        self.node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_claims_and_appends_are_found_again() {
    let Some(behind) = Behind::start().await else { return };
    let (store, proxy, id) = (&behind.store, &behind.proxy, entity());
    let at = store.open(id, Epoch(1)).await.unwrap();
    for (n, part) in ["IF fence = null", "INSERT INTO journal"].into_iter().enumerate() {
        proxy.lose_answers(part, 1);
        let first = n as u64 * 3 + 1;
        append(store, &at, entries(first, 3, "kept")).await.unwrap();
        assert_eq!(proxy.lost(), n + 1, "the answer to {part} was lost");
    }
    for (n, part) in ["IF epoch <= ?", "SET starts["].into_iter().enumerate() {
        proxy.lose_answers(part, 1);
        let again = store.open(id, Epoch(2)).await.unwrap();
        assert_eq!((again.head, proxy.lost()), (Seq(6), n + 3), "{part}");
        assert_eq!(again.tail, entries(1, 6, "kept"));
    }
    let at = store.open(id, Epoch(2)).await.unwrap();
    proxy.lose_answers("SET snapshot_seq", 1);
    store.snapshot(&at, Seq(5), Bytes::from_static(b"five")).await.unwrap();
    assert_eq!(proxy.lost(), 5);
    let at = store.open(id, Epoch(2)).await.unwrap();
    assert_eq!(at.snapshot.as_ref().map(|s| s.upto), Some(Seq(5)));
    assert_eq!(at.tail, entries(6, 1, "kept"));
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_barrier_nothing_is_acked() {
    let Some(behind) = Behind::start().await else { return };
    let (store, id) = (&behind.store, entity());
    let at = store.open(id, Epoch(1)).await.unwrap();
    append(store, &at, entries(1, 1, "first")).await.unwrap();
    behind.proxy.lose_answers("SELECT boot_id, inc, state", usize::MAX);
    let unknown = append(store, &at, entries(2, 2, "second")).await;
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown { .. })), "{unknown:?}");
    behind.proxy.lose_answers("SELECT boot_id, inc, state", 0);
    let over = append(store, &at, entries(4, 1, "third")).await;
    assert!(over.is_err(), "the activation has ended");
    let now = store.open(id, Epoch(1)).await.unwrap();
    // The rows were there, so the next activation finds them, whole.
    assert_eq!(now.tail, [entries(1, 1, "first"), entries(2, 2, "second")].concat());
    append(store, &now, entries(4, 1, "third")).await.unwrap();
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_ownership_change_nothing_twice() {
    let Some(behind) = Behind::start().await else { return };
    let (proxy, shard) = (&behind.proxy, ShardId(5));
    let store = behind.store.fresh(None);
    let new = new_lease("unlucky");
    let mut lost = 0;
    let mut lose = |part| {
        assert_eq!(proxy.lost(), lost, "every answer that was to be lost was");
        proxy.lose_answers(part, 1);
        lost += 1;
    };
    lose("INSERT INTO node_lease");
    let lease = store.join(&new).await.unwrap();
    assert_eq!((lease.inc, lease.seq), (Incarnation(1), 1));
    lose("SET seq = ?");
    let lease = store.renew(&lease, NodeState::Alive).await.unwrap();
    assert_eq!(lease.seq, 2);
    let me = (&lease.node, lease.inc);
    lose("INSERT INTO shard (");
    let first = store.claim(shard, None, me).await.unwrap();
    lose("UPDATE shard SET");
    let second = store.bump(&first).await.unwrap();
    assert_eq!(second.epoch, Epoch(2));
    lose("SET state = 'dead'");
    store.kill(&lease).await.unwrap();
    lose("SET boot_id = ?");
    let again = store.fresh(None);
    let lease = again.join(&new_lease("unlucky")).await.unwrap();
    assert_eq!(lease.inc, Incarnation(2));
    assert_eq!(again.grants(shard).await.unwrap(), [first, second]);
    behind.end().await;
}

/// The join is done, but neither its answer nor the read that was to settle it comes back. What
/// the node reads later says that it has joined, so its journal must work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_nobody_heard_of_counts_once_its_row_is_seen() {
    let Some(behind) = Behind::start().await else { return };
    for (name, renews) in [("reads", false), ("renews", true)] {
        let (store, new) = (behind.store.fresh(None), new_lease(name));
        let lost = behind.proxy.lost();
        behind.proxy.lose_answer_then("INSERT INTO node_lease", "FROM node_lease");
        let joined = timeout(WAIT, store.join(&new)).await.expect("answers");
        assert!(matches!(joined, Err(OwnershipError::OutcomeUnknown { .. })), "{joined:?}");
        assert!(behind.proxy.lost() > lost + 1, "the answer and the read");
        behind.proxy.lose_answers("FROM node_lease", 0);
        let early = store.open(entity(), Epoch(1)).await;
        assert!(early.is_err_and(|e| e.is_transient()), "it knows of no lease yet");
        // Another node's lease is none of its own.
        store.lease(&"behind".into()).await.unwrap().expect("there is one");
        assert!(store.open(entity(), Epoch(1)).await.is_err());
        // Who looks through another handle changes nothing for this one.
        let seen = &behind.node.store;
        let lease = seen.lease(&new.node).await.unwrap().expect("it was done");
        assert_eq!((lease.boot_id, lease.seq), (new.boot_id, 1));
        if renews {
            store.renew(&lease, NodeState::Alive).await.unwrap();
        } else {
            assert_eq!(store.lease(&new.node).await.unwrap(), Some(lease));
        }
        let id = entity();
        let at = store.open(id, Epoch(1)).await.unwrap();
        append(&store, &at, entries(1, 2, "kept")).await.unwrap();
        let other = store.join(&new_lease(name)).await;
        assert!(matches!(other, Err(OwnershipError::Refused)), "{other:?}");
    }
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_the_directory_are_found_again() {
    let Some(behind) = Behind::start().await else { return };
    let (store, proxy) = (&behind.store, &behind.proxy);
    let (owner, start) = (Uuid::new_v4(), store.revocations_now().await.unwrap());
    let insert = RowWrite::insert(DirectoryTable::User, "", "a").owned_by(owner).announced();
    for part in ["INSERT INTO directory_row", "INSERT INTO directory_change ("] {
        proxy.lose_answers(part, 1);
        let key = Uuid::new_v4().as_bytes().to_vec();
        let write = RowWrite { key: key.clone().into(), ..insert.clone() };
        assert_eq!(store.compare_and_set(write).await.unwrap(), 1, "{part}");
        let row = Directory::get(store, DirectoryTable::User, &key).await.unwrap().unwrap();
        proxy.lose_answers("UPDATE directory_row", 1);
        assert_eq!(store.compare_and_set(RowWrite::update(&row, "b")).await.unwrap(), 2);
        proxy.lose_answers("DELETE FROM directory_row", 1);
        let gone = Directory::remove(store, DirectoryTable::User, &key, 2, false).await;
        // It is gone, but who took it away nobody knows.
        assert!(matches!(gone, Err(CasError::OutcomeUnknown { .. })), "{gone:?}");
        let row = Directory::get(store, DirectoryTable::User, &key).await.unwrap();
        assert_eq!(row, None);
    }
    assert_eq!(proxy.lost(), 6);
    let told = store.revocations_since(start, 100).await.unwrap().changes;
    let told = told.iter().filter(|change| change.owner == Some(owner));
    assert_eq!(told.count(), 2, "each is told once");
    behind.end().await;
}

/// A write that was on its way while its node lost everything arrives under its old tag, where
/// nobody looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_fenced_writer_are_garbage() {
    let Some(behind) = Behind::start().await else { return };
    let (old, new, id) = (&behind.store, &behind.node.store, entity());
    let at = old.open(id, Epoch(1)).await.unwrap();
    append(old, &at, entries(1, 2, "settled")).await.unwrap();
    behind.proxy.hold("INSERT INTO journal");
    let late = append(old, &at, entries(3, 2, "late"));
    let takes_over = async {
        timeout(WAIT, behind.proxy.held()).await.unwrap();
        let lease = new.lease(&"behind".into()).await.unwrap().unwrap();
        new.kill(&lease).await.unwrap();
        let now = new.open(id, Epoch(2)).await.unwrap();
        assert_eq!(now.tail, entries(1, 2, "settled"));
        append(new, &now, entries(3, 1, "of the new owner")).await.unwrap();
        behind.proxy.release();
    };
    let (late, ()) = tokio::join!(late, takes_over);
    assert!(late.is_err(), "{late:?}");
    let expected = [entries(1, 2, "settled"), entries(3, 1, "of the new owner")].concat();
    let now = new.open(id, Epoch(2)).await.unwrap();
    assert_eq!(now.tail, expected);
    assert!(old.open(id, Epoch(1)).await.is_err(), "the old node knows that it is over");
    assert!(*old.lease_lost().borrow());
    new.snapshot(&now, Seq(3), Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(new.read_archive_entries(id, Seq(1), usize::MAX).await.unwrap(), expected);
    behind.end().await;
}

/// The old owner's create is on its way while the new owner finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_make_an_entity_do_not_mix_their_rows() {
    let Some(behind) = Behind::start().await else { return };
    let (old, new, id) = (&behind.store, &behind.node.store, entity());
    let zombie = old.open(id, Epoch(1)).await.unwrap();
    let at = new.open(id, Epoch(2)).await.unwrap();
    assert_eq!(zombie.fence, at.fence, "the case that this is about");
    behind.proxy.hold("IF fence = null");
    let theirs = append(old, &zombie, entries(1, 1, "old"));
    let ours = async {
        timeout(WAIT, behind.proxy.held()).await.unwrap();
        append(new, &at, entries(1, 1, "new")).await.unwrap();
        behind.proxy.release();
    };
    let (theirs, ()) = tokio::join!(theirs, ours);
    assert!(matches!(theirs, Err(AppendError::Fenced { .. })), "{theirs:?}");
    assert_eq!(new.open(id, Epoch(2)).await.unwrap().tail, entries(1, 1, "new"));
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_is_found_again_and_nothing_is_lost() {
    let Some(behind) = Behind::start().await else { return };
    let (store, id) = (&behind.store, entity());
    let at = store.open(id, Epoch(1)).await.unwrap();
    append(store, &at, entries(1, 3, "acked")).await.unwrap();
    behind.proxy.set_up(false);
    let start = Instant::now();
    let failed = append(store, &at, entries(4, 1, "lost?")).await.unwrap_err();
    assert!(failed.is_transient(), "{failed:?}");
    let closed = store.open(id, Epoch(1)).await.unwrap_err();
    assert!(closed.is_transient(), "{closed:?}");
    assert!(start.elapsed() < Duration::from_secs(30), "nobody waits for ever");
    behind.proxy.set_up(true);
    let back = async {
        let mut again = interval(Duration::from_millis(100));
        loop {
            again.tick().await;
            match store.open(id, Epoch(1)).await {
                Ok(opened) => break opened,
                Err(e) => assert!(e.is_transient(), "{e:?}"),
            }
        }
    };
    let now = timeout(WAIT, back).await.expect("it comes back by itself");
    assert_eq!(now.tail[..3], entries(1, 3, "acked"));
    let next = now.head.next().0;
    append(store, &now, entries(next, 1, "on")).await.unwrap();
    let lease = store.lease(&"behind".into()).await.unwrap().unwrap();
    store.renew(&lease, NodeState::Alive).await.unwrap();
    behind.end().await;
}

/// A removal and a later insert of the same row, in whatever order they are carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_removal_hides_no_newer_wake_row() {
    let Some(behind) = Behind::start().await else { return };
    let (store, id) = (&behind.store, entity());
    let due = Timestamp::from_millis(77);
    let insert = || vec![WakeChange::Insert { due, kind: WakeKind::Run }];
    let at = store.open(id, Epoch(1)).await.unwrap();
    store.append(&at, Seq(1), entries(1, 1, "a"), insert()).await.unwrap();
    behind.proxy.hold("DELETE FROM wake");
    let remove = vec![WakeChange::Remove { due, kind: WakeKind::Run }];
    let removal = store.append(&at, Seq(2), entries(2, 1, "b"), remove);
    let again = async {
        timeout(WAIT, behind.proxy.held()).await.unwrap();
        // Through the other node's connections, as the held ones are blocked: a newer
        // activation writes the same row.
        let other = &behind.node.store;
        let now = other.open(id, Epoch(2)).await.unwrap();
        other.append(&now, now.head.next(), vec![], insert()).await.unwrap();
        behind.proxy.release();
    };
    let (removal, ()) = tokio::join!(removal, again);
    removal.unwrap();
    let rows = store.due(&[id.shard()], due, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "the newer row is there, the older one is gone: {rows:?}");
    behind.end().await;
}

/// Many nodes start at once over an empty keyspace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_make_the_tables_once() {
    let Some(node) = Node::start().await else { return };
    let keyspace = crate::server::fresh_keyspace();
    let options = options(&node.address, &keyspace);
    let (a, b, c) = tokio::join!(
        ScyllaStore::connect(&options),
        ScyllaStore::connect(&options),
        ScyllaStore::connect(&options)
    );
    for store in [a.unwrap(), b.unwrap(), c.unwrap()] {
        store.join(&new_lease("together")).await.unwrap();
    }
    crate::server::drop_keyspace(&node.address, &keyspace).await;
    node.end().await;
}
