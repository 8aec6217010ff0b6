use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, Uuid};

use super::*;
use crate::{
    AppendError, JournalStore, Opened,
    conformance::{self, Subject, journal_model},
};

struct Memory(MemoryStore);

#[async_trait]
impl Subject for Memory {
    fn stores(&self) -> Stores {
        self.0.stores()
    }

    async fn restart(&mut self) {
        self.0 = self.0.restart();
    }
}

fn reliable() -> Memory {
    Memory(MemoryStore::new())
}

#[tokio::test]
async fn journal_conforms() {
    conformance::journal(&mut reliable()).await;
}

#[tokio::test]
async fn wake_conforms() {
    conformance::wake(&mut reliable()).await;
}

#[tokio::test]
async fn directory_conforms() {
    conformance::directory(&mut reliable()).await;
}

#[tokio::test]
async fn rows_conform() {
    conformance::projections(&mut reliable()).await;
    conformance::blobs(&mut reliable()).await;
    conformance::dead_letters(&mut reliable()).await;
}

/// With one replica cut off a quorum is left, and everything holds.
#[tokio::test]
async fn all_conform_with_one_replica_down() {
    for replica in 0..REPLICAS {
        let mut subject = reliable();
        subject.0.set_replica_down(replica, true);
        conformance::journal(&mut subject).await;
        conformance::wake(&mut subject).await;
        conformance::directory(&mut subject).await;
    }
}

fn run_model(seed: u64, faults: Faults, ops: &[(bool, journal_model::Op)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let store = MemoryStore::with_faults(StdRng::seed_from_u64(seed), faults);
    runtime.block_on(journal_model::run(&mut Memory(store), ops));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn journal_keeps_to_its_model(ops in journal_model::ops(40)) {
        run_model(0, Faults { interrupted: 0.5, ..Faults::default() }, &ops);
    }

    #[test]
    fn journal_keeps_to_its_model_whatever_replicas_do(
        seed in any::<u64>(),
        p in 0.0..0.3f64,
        ops in journal_model::ops(40),
    ) {
        run_model(seed, Faults::all(p), &ops);
    }
}

async fn opened(store: &MemoryStore) -> Opened {
    let entity = EntityId { kind: EntityKind::Task, id: Uuid::from_u128(1) };
    store.open(entity, store.epoch()).await.unwrap()
}

fn entry(seq: u64) -> Vec<Entry> {
    let body = Bytes::from_static(b"x");
    vec![Entry { seq: Seq(seq), first_frame: FrameSeq(seq), frames: 1, body }]
}

#[tokio::test]
async fn without_a_quorum_nothing_is_acked_and_nothing_is_lost() {
    let store = MemoryStore::new();
    let at = opened(&store).await;
    store.append(&at, Seq(1), entry(1), vec![]).await.unwrap();
    store.set_replica_down(0, true);
    store.set_replica_down(1, true);
    let refused = store.append(&at, Seq(2), entry(2), vec![]).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    assert!(store.open(at.entity(), store.epoch()).await.unwrap_err().is_transient());
    store.set_replica_down(0, false);
    let at = opened(&store).await;
    assert!(at.head >= Seq(1));
    store.append(&at, at.head.next(), entry(at.head.0 + 1), vec![]).await.unwrap();
}

#[tokio::test]
async fn a_node_that_lost_its_lease_appends_nothing() {
    let old = MemoryStore::new();
    let at = opened(&old).await;
    old.append(&at, Seq(1), entry(1), vec![]).await.unwrap();
    let new = old.restart();
    // Nobody opened the entity yet: the lease alone stops the old node.
    let refused = old.append(&at, Seq(2), entry(2), vec![]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    let now = opened(&new).await;
    new.append(&now, now.head.next(), entry(now.head.0 + 1), vec![]).await.unwrap();
    assert!(old.open(at.entity(), old.epoch()).await.is_err());
}

/// Two nodes that both found nothing choose the same fence; the rows of one must not end up
/// under the tag of the other.
#[tokio::test]
async fn nodes_that_both_found_no_rows_do_not_mix_them() {
    let old = MemoryStore::new();
    let zombie = opened(&old).await;
    let new = old.restart();
    let at = opened(&new).await;
    assert_eq!(zombie.fence, at.fence);
    new.set_replica_down(0, true);
    new.append(&at, Seq(1), entry(1), vec![]).await.unwrap();
    new.set_replica_down(0, false);
    let theirs = vec![Entry { body: Bytes::from_static(b"zombie"), ..entry(1)[0].clone() }];
    assert!(old.append(&zombie, Seq(1), theirs, vec![]).await.is_err());
    for replica in 0..REPLICAS {
        new.set_replica_down(replica, true);
        assert_eq!(opened(&new).await.tail, entry(1));
        new.set_replica_down(replica, false);
    }
}

#[tokio::test]
async fn scripted_failures_end_the_activation_and_tell_the_truth() {
    let store = MemoryStore::new();
    for (failure, there) in [
        (ScriptedFailure::Full, 0),
        (ScriptedFailure::Unavailable, 0),
        (ScriptedFailure::OutcomeUnknown { written: false }, 0),
        (ScriptedFailure::OutcomeUnknown { written: true }, 1),
    ] {
        let at = opened(&store).await;
        let next = at.head.next();
        store.fail_next_append(failure);
        let failed = store.append(&at, next, entry(next.0), vec![]).await.unwrap_err();
        let again = store.append(&at, next, entry(next.0), vec![]).await.unwrap_err();
        assert!(!matches!(again, AppendError::Fenced { .. } | AppendError::Invalid(_)));
        assert!(failed.is_transient());
        assert_eq!(opened(&store).await.head.0, at.head.0 + there, "{failure:?}");
    }
}

#[tokio::test]
async fn held_appends_wait() {
    let store = MemoryStore::new();
    let at = opened(&store).await;
    store.hold_appends(true);
    let mut append = Box::pin(store.append(&at, Seq(1), entry(1), vec![]));
    for _ in 0..10 {
        let early = futures_poll(&mut append).await;
        assert!(early.is_none(), "not before it may");
    }
    store.hold_appends(false);
    append.await.unwrap();
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! { biased; out = future => Some(out), () = tokio::task::yield_now() => None }
}

#[async_trait]
impl conformance::Cluster for Memory {
    async fn node(&self) -> (Arc<dyn crate::Ownership>, Arc<dyn JournalStore>) {
        let node = Arc::new(self.0.peer());
        (node.clone(), node)
    }
}

#[tokio::test]
async fn ownership_conforms() {
    conformance::ownership(&reliable()).await;
}

/// An answer that got lost is found by the same call, repeated.
#[tokio::test]
async fn lost_answers_of_ownership_change_nothing_twice() {
    use crate::{NewLease, Ownership, OwnershipError};
    use troupe_types::{Incarnation, NodeState, Roles, ShardId};

    async fn again<T>(call: impl AsyncFn() -> Result<T, OwnershipError>) -> T {
        for _ in 0..200 {
            match call().await {
                Ok(done) => return done,
                Err(e) => assert!(e.is_transient(), "{e:?}"),
            }
        }
        panic!("never answered");
    }
    let faults = Faults { unknown: 0.6, ..Faults::default() };
    let store = MemoryStore::with_faults(StdRng::seed_from_u64(11), faults);
    let new = NewLease {
        node: "n".into(),
        boot_id: Uuid::new_v4(),
        addr: String::new(),
        build: String::new(),
        roles: Roles::ALL,
        weight: 1,
    };
    let mut lease = again(|| store.join(&new)).await;
    assert_eq!(lease.inc, Incarnation(1));
    let mut shard = None;
    for round in 1..=20u64 {
        lease = again(|| store.renew(&lease, NodeState::Alive)).await;
        let me = (&lease.node, lease.inc);
        shard = Some(again(|| store.claim(ShardId(1), shard.as_ref(), me)).await);
        assert_eq!((lease.seq, shard.as_ref().map(|row| row.epoch.0)), (round + 1, Some(round)));
    }
    assert_eq!(store.grants(ShardId(1)).await.unwrap().len(), 20);
}
