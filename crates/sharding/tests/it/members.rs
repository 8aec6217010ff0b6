//! Whole nodes with their membership, in one process: links in memory, one simulated store.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use troupe_actor::{ActorTree, TaskHandle, settle, spawn_task};
use troupe_link::MemoryHub;
use troupe_sharding::{
    AskError, ClusterView, Ended, HostParts, Membership, MembershipParts, NodeIdentity, NodeLink,
    NodeParts, RegisteredKind, Router, ShardHost,
    membership::{Identity, Timings},
};
use troupe_store::{MemoryStore, Ownership};
use troupe_types::{
    EntityId, EntityKind, NodeName, Roles, SHARDS_GENERAL, SHARDS_KNOWLEDGE, SystemClock, Uuid,
};

use crate::{
    counter::{CounterFactory, LONG, World, entity, quick, text},
    nodes::brisk,
};

/// Long enough for an expiry and all that follows.
const PATIENCE: Duration = Duration::from_secs(60);
const SHARDS: usize = SHARDS_GENERAL as usize + SHARDS_KNOWLEDGE as usize;

/// Shorter than the real times, so that an expiry can be waited for, and long enough for a machine
/// that does much else.
fn fast() -> Timings {
    let ms = Duration::from_millis;
    Timings {
        renew_every: ms(300),
        attempt_timeout: ms(1_000),
        retry_after: ms(30),
        validity: ms(3_000),
        expiry: ms(4_000),
        heartbeat_every: ms(50),
        silent_after: ms(400),
        list_leases_every: ms(300),
        list_shards_every: ms(500),
        claim_jitter: ms(10),
        rank_delay: ms(300),
        differs_for: ms(400),
        prepare_max: ms(500),
        step_max: Duration::from_secs(60),
        drain_max: Duration::from_secs(5),
        target_check_every: ms(300),
        leave_max: Duration::from_secs(30),
        claims_max: 128,
        claims_unwanted_max: 128,
        claims_slow_max: 128,
        pause_above: Duration::from_secs(60),
        moves_max: 64,
        ..Timings::default()
    }
}

struct Member {
    name: String,
    store: MemoryStore,
    router: Router,
    world: Arc<World>,
    membership: Membership,
    host: Arc<ShardHost>,
    link: Arc<NodeLink>,
}

/// Starts a node of this name over the rows that all share.
async fn member(hub: &MemoryHub, rows: &MemoryStore, name: &str) -> Member {
    let store = rows.peer();
    let clock = SystemClock::shared();
    let view = ClusterView::new(Arc::clone(&clock));
    let world = Arc::new(World::default());
    let tree = ActorTree::new(Arc::clone(&clock));
    let parts = HostParts {
        options: quick(),
        stores: store.stores(),
        clock: Arc::clone(&clock),
        placement: Arc::clone(&view) as _,
        router: Router::new(),
        tree: tree.clone(),
    };
    let factory = CounterFactory {
        world: Arc::clone(&world),
        kind: EntityKind::Task,
        idle_for: Duration::from_secs(120),
    };
    let (host, router) = ShardHost::start(parts, vec![RegisteredKind::new(factory)]).await.unwrap();
    let (host, boot) = (Arc::new(host), Uuid::new_v4());
    let options = brisk();
    let parts = NodeParts {
        identity: NodeIdentity {
            cluster: "test".to_owned(),
            node: name.to_owned(),
            boot,
            build: "test".to_owned(),
            roles: Vec::new(),
        },
        network: Arc::new(hub.network(name, options.link.clone())),
        options,
        router: router.clone(),
        clock,
        observer: Arc::clone(&view) as _,
        tree,
    };
    let link = Arc::new(NodeLink::start(parts).await.unwrap());
    let parts = MembershipParts {
        identity: Identity {
            node: NodeName::from(name),
            addr: link.local_addr().unwrap().to_string(),
            build: "test".to_owned(),
            roles: Roles::ALL,
            weight: 100,
        },
        boot,
        timings: fast(),
        ownership: Arc::new(store.clone()),
        floors: troupe_store::Floors::default(),
        view,
        host: Arc::clone(&host),
        link: Arc::clone(&link),
    };
    let membership = Membership::start(parts).unwrap();
    Member { name: name.to_owned(), store, router, world, membership, host, link }
}

impl Member {
    fn owned(&self) -> usize {
        self.membership.view().owned()
    }

    async fn ask(&self, to: EntityId, command: &str) -> Result<String, AskError> {
        let body = Bytes::from(command.to_owned());
        self.router.ask(to, body, LONG).await.map(|answer| text(&answer))
    }
}

async fn until(what: &str, members: &[&Member], mut holds: impl FnMut() -> bool) {
    let came = settle(PATIENCE, &mut holds).await;
    let owned: Vec<_> = members.iter().map(|m| (m.name.as_str(), m.owned())).collect();
    assert!(came, "not in time: {what}; shards: {owned:?}");
}

/// Waits until these nodes own everything between them, each its share.
async fn until_shared(members: &[&Member]) {
    until("every shard has one owner, spread over all", members, || {
        let owned: Vec<_> = members.iter().map(|m| m.owned()).collect();
        let linked = members.iter().all(|m| m.link.is_linked());
        let share = SHARDS / members.len() / 2;
        linked && owned.iter().sum::<usize>() == SHARDS && owned.iter().all(|n| *n > share)
    })
    .await;
}

/// Adds words to twenty entities, from one node, again and again until told to stop; a word
/// that was not acknowledged is added again. Answers how many words there are for each.
fn keep_adding(router: &Router) -> (tokio_util::sync::CancellationToken, TaskHandle<usize>) {
    let (router, stop) = (router.clone(), tokio_util::sync::CancellationToken::new());
    let stopped = stop.clone();
    let task = spawn_task("adding", async move {
        let mut n = 0;
        while !stopped.is_cancelled() {
            for id in 0..20 {
                let body = Bytes::from(format!("add {n}"));
                let place = router.ask_repeatable(entity(id), body, LONG).await.unwrap();
                assert_eq!(text(&place), (n + 1).to_string(), "a word was lost or doubled");
            }
            n += 1;
        }
        n
    });
    (stop, task)
}

async fn check_words(from: &Member, count: usize) {
    let all: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    for id in 0..20 {
        assert_eq!(from.ask(entity(id), "get").await.unwrap(), all.join(" "));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_share_the_shards_and_reach_each_other() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let a = member(&hub, &rows, "node-1").await;
    until("one node owns all", &[&a], || a.owned() == SHARDS).await;
    for id in 0..20 {
        a.ask(entity(id), "add x").await.unwrap();
    }
    let (b, c) = (member(&hub, &rows, "node-2").await, member(&hub, &rows, "node-3").await);
    let all = [&a, &b, &c];
    until_shared(&all).await;
    for id in 0..20 {
        let from = all[usize::try_from(id).unwrap() % 3];
        assert_eq!(from.ask(entity(id), "add y").await.unwrap(), "2", "from {}", from.name);
    }
    let here = |m: &Member| m.host.entities(100).len();
    assert!(here(&b) + here(&c) > 0, "what moved is active where it went");
    for shard in [0, 500, 1_100].map(troupe_types::ShardId) {
        let grants = rows.grants(shard).await.unwrap();
        let epochs: Vec<_> = grants.iter().map(|row| row.epoch.0).collect();
        let rising: Vec<_> = (1..=u64::try_from(epochs.len()).unwrap()).collect();
        assert_eq!(epochs, rising, "I1");
    }
    until("operators see all of it", &all, || {
        let status = b.membership.view().status();
        status.leases.len() == 3 && status.shards.iter().all(|shard| shard.owner.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_hands_over_and_nothing_is_lost() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let (a, b) = (member(&hub, &rows, "node-1").await, member(&hub, &rows, "node-2").await);
    until_shared(&[&a, &b]).await;
    let (stop, adding) = keep_adding(&a.router);
    until("work is done on both", &[&a, &b], || {
        [&a, &b].iter().all(|m| !m.world.handled.lock().unwrap().is_empty())
    })
    .await;
    b.membership.leave().await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, b.membership.ended()).await.unwrap(), Ended::Left);
    until("the other one owns all", &[&a], || a.owned() == SHARDS).await;
    stop.cancel();
    let count = adding.await.unwrap();
    check_words(&a, count).await;
    let lease = rows.lease(&NodeName::from("node-2")).await.unwrap().unwrap();
    assert_eq!(lease.state, troupe_types::NodeState::Dead, "it ended its own lease");
    assert!(!b.world.overlap.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_run_ends_its_step_its_shard_answers() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let (a, b) = (member(&hub, &rows, "node-1").await, member(&hub, &rows, "node-2").await);
    until_shared(&[&a, &b]).await;
    let at_b = (0..100).map(entity).find(|id| b.membership.view().epoch(id.shard()).is_some());
    let at_b = at_b.unwrap();
    let held = {
        let router = a.router.clone();
        spawn_task(
            "a run",
            async move { router.ask(at_b, Bytes::from_static(b"hold"), LONG).await },
        )
    };
    until("the run is under way", &[&b], || b.world.handled.lock().unwrap().len() == 1).await;
    b.membership.leave().await.unwrap();
    until("all but its shard has moved", &[&a, &b], || a.owned() == SHARDS - 1).await;
    assert_eq!(a.ask(at_b, "add x").await.unwrap(), "1");
    assert!(b.membership.view().epoch(at_b.shard()).is_some(), "answered where the run is");
    a.ask(at_b, "release").await.unwrap();
    assert_eq!(text(&held.await.unwrap().unwrap()), "released");
    assert_eq!(tokio::time::timeout(PATIENCE, b.membership.ended()).await.unwrap(), Ended::Left);
    // Between the two owners a question may come back undelivered.
    until("its shard has moved, too", &[&a], || a.owned() == SHARDS).await;
    assert_eq!(a.ask(at_b, "get").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_is_replaced_and_comes_back() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let (a, b) = (member(&hub, &rows, "node-1").await, member(&hub, &rows, "node-2").await);
    until_shared(&[&a, &b]).await;
    let (stop, adding) = keep_adding(&a.router);
    until("work is done there", &[&b], || !b.world.handled.lock().unwrap().is_empty()).await;
    // As a crash: nothing is drained, no link is closed in order.
    drop(b);
    until("the other one owns all", &[&a], || a.owned() == SHARDS).await;
    let b = member(&hub, &rows, "node-2").await;
    until_shared(&[&a, &b]).await;
    stop.cancel();
    let count = adding.await.unwrap();
    check_words(&b, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_store_a_node_handles_nothing_and_goes_on_later() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let (a, b) = (member(&hub, &rows, "node-1").await, member(&hub, &rows, "node-2").await);
    until_shared(&[&a, &b]).await;
    assert_eq!(a.ask(entity(1), "add x").await.unwrap(), "1");
    for replica in [0, 1] {
        rows.set_replica_down(replica, true);
    }
    until("both leases are over", &[&a, &b], || a.owned() + b.owned() == 0).await;
    let short = Duration::from_millis(200);
    let asked = a.router.ask(entity(1), Bytes::from_static(b"get"), short).await;
    assert_eq!(asked, Err(AskError::NotDelivered));
    for replica in [0, 1] {
        rows.set_replica_down(replica, false);
    }
    until_shared(&[&a, &b]).await;
    assert_eq!(b.ask(entity(1), "add y").await.unwrap(), "2");
    // Nobody was declared dead for an outage that all had.
    for name in ["node-1", "node-2"] {
        assert_eq!(rows.lease(&NodeName::from(name)).await.unwrap().unwrap().inc.0, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_lease_is_taken_away_ends() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let a = member(&hub, &rows, "node-1").await;
    until("it owns all", &[&a], || a.owned() == SHARDS).await;
    a.ask(entity(1), "add x").await.unwrap();
    while let Some(lease) = rows.lease(&NodeName::from("node-1")).await.unwrap() {
        // It may have renewed in between.
        if rows.kill(&lease).await.is_ok() {
            break;
        }
    }
    assert_eq!(tokio::time::timeout(PATIENCE, a.membership.ended()).await.unwrap(), Ended::Lost);
    assert_eq!(a.owned(), 0);
    until("nothing is active", &[&a], || a.host.entities(10).is_empty()).await;
    assert!(a.store.lease(&NodeName::from("node-1")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_may_leave_at_once() {
    let (hub, rows) = (MemoryHub::new(), MemoryStore::new());
    let (a, b) = (member(&hub, &rows, "node-1").await, member(&hub, &rows, "node-2").await);
    until_shared(&[&a, &b]).await;
    assert_eq!(a.ask(entity(1), "add x").await.unwrap(), "1");
    let (one, two) = tokio::join!(a.membership.leave(), b.membership.leave());
    one.unwrap();
    two.unwrap();
    for member in [&a, &b] {
        let ended = tokio::time::timeout(PATIENCE, member.membership.ended()).await;
        assert_eq!(ended.unwrap(), Ended::Left, "{}", member.name);
    }
    drop((a, b));
    let c = member(&hub, &rows, "node-3").await;
    until("the next one owns all", &[&c], || c.owned() == SHARDS).await;
    assert_eq!(c.ask(entity(1), "get").await.unwrap(), "x");
}
