//! The contract of `Ownership`, and what it means for the journals of several nodes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;
use troupe_types::{
    EntityKind, Epoch, Incarnation, LeaseRow, NodeName, NodeState, Roles, Seq, ShardId, ShardRow,
    Timestamp, Uuid,
};

use super::{entities_of_shards, entity, entries, seen};
use crate::{
    AppendError, JournalStore, NewLease, OpenError, Ownership, OwnershipError, WakeChange, WakeKind,
};

/// A clustered store under test.
#[async_trait]
pub trait Cluster: Send {
    /// Another node over the same rows: a handle with nothing in its process yet.
    async fn node(&self) -> (Arc<dyn Ownership>, Arc<dyn JournalStore>);
}

fn new_lease(node: &str) -> NewLease {
    NewLease {
        node: NodeName::from(node),
        boot_id: Uuid::new_v4(),
        addr: "127.0.0.1:1".to_owned(),
        build: "test".to_owned(),
        roles: Roles::ALL,
        weight: 100,
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, OwnershipError>) {
    assert!(matches!(outcome, Err(OwnershipError::Refused)), "{outcome:?}");
}

/// All cases.
pub async fn ownership(cluster: &dyn Cluster) {
    leases(cluster).await;
    superseded(cluster).await;
    shards(cluster).await;
    one_claim_wins(cluster).await;
    lost_lease(cluster).await;
    handed_over(cluster).await;
    both_found_nothing(cluster).await;
}

async fn leases(cluster: &dyn Cluster) {
    let (store, _) = cluster.node().await;
    let new = new_lease("leases-1");
    assert_eq!(store.lease(&new.node).await.unwrap(), None);
    let joined = store.join(&new).await.unwrap();
    assert_eq!(joined, new.row(Incarnation(1)));
    assert_eq!(store.join(&new).await.unwrap(), joined, "the same boot joins once");
    let renewed = store.renew(&joined, NodeState::Alive).await.unwrap();
    assert_eq!(renewed, LeaseRow { seq: 2, ..joined.clone() });
    assert_eq!(store.renew(&joined, NodeState::Alive).await.unwrap(), renewed, "repeated");
    refused(store.kill(&joined).await);
    let draining = store.renew(&renewed, NodeState::Draining).await.unwrap();
    assert_eq!((draining.seq, draining.state), (3, NodeState::Draining));
    refused(store.renew(&joined, NodeState::Alive).await);
    assert_eq!(store.lease(&new.node).await.unwrap().as_ref(), Some(&draining));
    let (second, _) = cluster.node().await;
    let other = second.join(&new_lease("leases-2")).await.unwrap();
    refused(second.join(&new_lease("leases-3")).await);
    let mut listed = store.leases().await.unwrap();
    listed.retain(|row| row.node.as_str().starts_with("leases-"));
    assert_eq!(listed, [draining.clone(), other]);
    store.kill(&draining).await.unwrap();
    store.kill(&draining).await.expect("repeated");
    refused(store.renew(&draining, NodeState::Alive).await);
    let dead = store.lease(&new.node).await.unwrap().unwrap();
    assert_eq!(dead, LeaseRow { state: NodeState::Dead, ..draining });
    refused(store.join(&new).await);
}

async fn superseded(cluster: &dyn Cluster) {
    let (old, _) = cluster.node().await;
    let (new, _) = cluster.node().await;
    let first = old.join(&new_lease("twins")).await.unwrap();
    let second = new.join(&new_lease("twins")).await.unwrap();
    assert_eq!(second.inc, first.inc.next());
    refused(old.renew(&first, NodeState::Alive).await);
    refused(old.kill(&first).await);
    assert_eq!(new.renew(&second, NodeState::Alive).await.unwrap().seq, 2);
}

async fn shards(cluster: &dyn Cluster) {
    let (store, _) = cluster.node().await;
    let shard = ShardId(17);
    let (a, b) = (NodeName::from("a"), NodeName::from("b"));
    assert_eq!(store.shard(shard).await.unwrap(), None);
    let first = store.claim(shard, None, (&a, Incarnation(1))).await.unwrap();
    let row = |owner: &NodeName, inc, epoch| ShardRow {
        shard,
        owner: owner.clone(),
        owner_inc: Incarnation(inc),
        epoch: Epoch(epoch),
    };
    assert_eq!(first, row(&a, 1, 1));
    assert_eq!(store.claim(shard, None, (&a, Incarnation(1))).await.unwrap(), first, "repeated");
    refused(store.claim(shard, None, (&b, Incarnation(1))).await);
    let second = store.claim(shard, Some(&first), (&b, Incarnation(4))).await.unwrap();
    assert_eq!(second, row(&b, 4, 2));
    refused(store.hand_over(&first, (&a, Incarnation(2))).await);
    let third = store.bump(&second).await.unwrap();
    assert_eq!(third, row(&b, 4, 3));
    refused(store.bump(&first).await);
    let fourth = store.hand_over(&third, (&a, Incarnation(2))).await.unwrap();
    assert_eq!(store.shard(shard).await.unwrap(), Some(fourth.clone()));
    let listed = store.shards().await.unwrap();
    assert_eq!(listed.iter().filter(|row| row.shard == shard).collect::<Vec<_>>(), [&fourth]);
    assert_eq!(store.grants(shard).await.unwrap(), [first, second, third, fourth]);
}

/// Many nodes want every epoch of a shard: one gets it.
async fn one_claim_wins(cluster: &dyn Cluster) {
    let shard = ShardId(18);
    let mut claims = JoinSet::new();
    for n in 0..6u64 {
        let (store, _) = cluster.node().await;
        claims.spawn(async move {
            let me = NodeName::from(format!("racer-{n}").as_str());
            let mut won = 0;
            while won < 4 {
                let now = store.shard(shard).await.unwrap();
                match store.claim(shard, now.as_ref(), (&me, Incarnation(n))).await {
                    Ok(_) => won += 1,
                    Err(OwnershipError::Refused) => {}
                    Err(e) => panic!("{e:?}"),
                }
            }
        });
    }
    claims.join_all().await;
    let (store, _) = cluster.node().await;
    let grants = store.grants(shard).await.unwrap();
    let epochs: Vec<u64> = grants.iter().map(|row| row.epoch.0).collect();
    assert_eq!(epochs, (1..=24).collect::<Vec<_>>(), "every epoch once");
}

async fn lost_lease(cluster: &dyn Cluster) {
    let (old_rows, old) = cluster.node().await;
    let (new_rows, new) = cluster.node().await;
    let lease = old_rows.join(&new_lease("lost-1")).await.unwrap();
    new_rows.join(&new_lease("lost-2")).await.unwrap();
    let id = entity(EntityKind::Task);
    let at = old.open(id, Epoch(5)).await.unwrap();
    old.append(&at, Seq(1), entries(1, 2, 1, 1), vec![]).await.unwrap();
    new_rows.kill(&lease).await.unwrap();
    // Nobody opened the entity yet: the lease alone stops the old node.
    let refused = old.append(&at, Seq(3), entries(3, 1, 3, 1), vec![]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    let refused = old.snapshot(&at, Seq(2), Bytes::from_static(b"two")).await;
    assert!(refused.is_err(), "{refused:?}");
    let now = new.open(id, Epoch(6)).await.unwrap();
    assert_eq!(seen(&now).1[..2], entries(1, 2, 1, 1));
    let next = now.head.next();
    new.append(&now, next, entries(next.0, 1, next.0, 1), vec![]).await.unwrap();
    let refused = old.open(id, Epoch(5)).await;
    assert!(refused.is_err(), "{refused:?}");
    let settled = new.open(id, Epoch(6)).await.unwrap();
    assert_eq!(settled.head, next);
}

/// Both nodes are alive, so no lease tells them apart.
async fn handed_over(cluster: &dyn Cluster) {
    let (from_rows, from) = cluster.node().await;
    let (to_rows, to) = cluster.node().await;
    let giver = from_rows.join(&new_lease("giver")).await.unwrap();
    let taker = to_rows.join(&new_lease("taker")).await.unwrap();
    let shard = ShardId(300);
    let id = entities_of_shards(&[shard], 1)[0];
    let mine = from_rows.claim(shard, None, (&giver.node, giver.inc)).await.unwrap();
    let at = from.open(id, mine.epoch).await.unwrap();
    from.append(&at, Seq(1), entries(1, 1, 1, 1), vec![]).await.unwrap();
    let theirs = from_rows.hand_over(&mine, (&taker.node, taker.inc)).await.unwrap();
    // The new owner has not opened it yet; the old one must not go on all the same.
    let refused = from.append(&at, Seq(2), entries(2, 1, 2, 1), vec![]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    let refused = from.open(id, mine.epoch).await;
    assert!(matches!(refused, Err(OpenError::Fenced { .. })), "{refused:?}");
    let now = to.open(id, theirs.epoch).await.unwrap();
    assert_eq!(now.head, Seq(1));
    to.append(&now, Seq(2), entries(2, 1, 2, 1), vec![]).await.unwrap();
    // And back again.
    let back = to_rows.hand_over(&theirs, (&giver.node, giver.inc)).await.unwrap();
    let again = from.open(id, back.epoch).await.unwrap();
    from.append(&again, Seq(3), entries(3, 1, 3, 1), vec![]).await.unwrap();
    assert!(to.append(&now, Seq(3), entries(3, 1, 3, 1), vec![]).await.is_err());
}

/// Two nodes that both find no rows choose the same fence. The rows of the one that lost its
/// shard must not end up under the tag of the other.
async fn both_found_nothing(cluster: &dyn Cluster) {
    let (old_rows, old) = cluster.node().await;
    let (new_rows, new) = cluster.node().await;
    let lease = old_rows.join(&new_lease("nothing-1")).await.unwrap();
    new_rows.join(&new_lease("nothing-2")).await.unwrap();
    let theirs = |body: &'static [u8]| {
        let mut new = entries(1, 1, 1, 1);
        new[0].body = Bytes::from_static(body);
        new
    };
    for first_to_write in ["old", "new"] {
        let id = entity(EntityKind::Namespace);
        let zombie = old.open(id, Epoch(1)).await;
        let at = new.open(id, Epoch(2)).await.unwrap();
        if first_to_write == "old" {
            // It is still alive, so its entry counts, and the other one must notice it.
            let zombie = zombie.unwrap();
            assert_eq!(zombie.fence, at.fence, "the case that this is about");
            old.append(&zombie, Seq(1), theirs(b"old"), vec![]).await.unwrap();
            new_rows.kill(&lease).await.unwrap();
            let refused = new.append(&at, Seq(1), theirs(b"new"), vec![]).await;
            assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
            assert_eq!(seen(&new.open(id, Epoch(2)).await.unwrap()).1, theirs(b"old"));
        } else {
            let due = Timestamp::from_millis(1);
            let wake = vec![WakeChange::Insert { due, kind: WakeKind::Run }];
            new.append(&at, Seq(1), theirs(b"new"), wake).await.unwrap();
            if let Ok(zombie) = zombie {
                assert!(old.append(&zombie, Seq(1), theirs(b"old"), vec![]).await.is_err());
            }
            assert_eq!(seen(&new.open(id, Epoch(2)).await.unwrap()).1, theirs(b"new"));
        }
    }
}
