//! Tells to entities of other nodes, and messages of peers that take too long.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use troupe_actor::settle;
use troupe_sharding::{AskError, NodeOptions};

use crate::{
    counter::{LONG, entity},
    nodes::{Cluster, Node, brisk, first, pair},
};

impl Node {
    fn tell(&self, n: u128, command: String) -> Result<(), AskError> {
        self.router.tell(entity(n), Bytes::from(command), LONG)
    }

    async fn until_rest(&self, peer: &str) {
        self.until("nothing waits, nothing is handled", |node| {
            let info = node.peer(peer);
            (info.asks, info.handled, info.queued) == (0, 0, 0)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tells_are_each_done_once_and_leave_nothing_behind() {
    let (_cluster, a, b) = pair().await;
    for n in 0..2_000_u128 {
        a.tell(n % 50 + 1, format!("add {n}")).unwrap();
    }
    b.until("all were told", |b| b.world.handled.lock().unwrap().len() >= 2_000).await;
    a.until_rest("node-2").await;
    b.until_rest("node-1").await;
    for n in [0, 999, 1_999] {
        assert_eq!(b.handled(&format!("add {n}")), 1);
    }
    assert_eq!(b.world.handled.lock().unwrap().len(), 2_000);
}

/// Their number is bounded, and one that is over makes room, whatever became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_so_many_tells_are_under_way() {
    let cluster = Cluster::with("node-2", NodeOptions { tells_max: 4, ..brisk() });
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    cluster.join(&[&a, &b]).await;
    for n in 1..=4 {
        a.tell(n, "block".to_owned()).unwrap();
    }
    assert_eq!(a.tell(5, "block".to_owned()), Err(AskError::Overloaded));
    b.world.gate.add_permits(4);
    a.until_rest("node-2").await;
    for n in 1..=4 {
        a.until("there is room again", |a| a.tell(n, "refuse".to_owned()).is_ok()).await;
    }
    a.until_rest("node-2").await;
    a.until("a refusal is an end too", |a| a.tell(1, "add x".to_owned()).is_ok()).await;
}

/// A handler that takes longer than the first repeats of a tell sees it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tell_that_takes_long_is_handled_once() {
    let (_cluster, a, b) = pair().await;
    a.tell(1, "block".to_owned()).unwrap();
    b.until("it is being handled", |b| b.handled("block") == 1).await;
    // The tell behind it waits in the queue, and is sent again as well.
    a.tell(1, "add x".to_owned()).unwrap();
    settle(Duration::from_millis(1_000), || false).await;
    b.world.gate.add_permits(1);
    assert_eq!(a.ask(first(), "get").await.unwrap(), "x");
    a.until_rest("node-2").await;
    assert_eq!((b.handled("block"), b.handled("add x")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tell_outlives_its_link_and_is_done_once() {
    let (cluster, a, b) = pair().await;
    cluster.cut("node-1", "node-2", true);
    for n in 0..20 {
        a.tell(1, format!("add {n}")).unwrap();
    }
    a.until("the link is seen down", |a| a.linked() == 0).await;
    a.tell(1, "add late".to_owned()).unwrap();
    b.until("by the other one too", |b| b.linked() == 0).await;
    cluster.cut("node-1", "node-2", false);
    b.until("all were told", |b| b.world.handled.lock().unwrap().len() >= 21).await;
    a.until_rest("node-2").await;
    assert_eq!(b.world.handled.lock().unwrap().len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tell_goes_on_to_whoever_owns_its_entity_by_now() {
    let cluster = Cluster::new("node-2");
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let c = cluster.node("node-3").await;
    cluster.join(&[&a, &b, &c]).await;
    cluster.owners.set(first(), "node-3", 2);
    a.view.believe(first(), "node-2", 1);
    a.tell(1, "add x".to_owned()).unwrap();
    c.until("it was told", |c| c.handled("add x") == 1).await;
    assert_eq!(b.handled("add x"), 0);
    a.until_rest("node-2").await;
    a.until_rest("node-3").await;
}

/// What a peer asks is withdrawn where it waits once its time is up, and is not counted any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_nobody_waits_for_any_more_is_not_handled() {
    let (_cluster, a, b) = pair().await;
    let router = a.router.clone();
    let mut asking = JoinSet::new();
    asking.spawn(async move { router.ask(first(), Bytes::from_static(b"block"), LONG).await });
    b.until("it is being handled", |b| b.handled("block") == 1).await;
    let short = Duration::from_millis(50);
    a.ask_within(first(), "add late", short).await.unwrap_err();
    a.router.tell(first(), Bytes::from_static(b"add too late"), short).unwrap();
    b.until("only the first one is left", |b| b.peer("node-1").handled == 1).await;
    b.world.gate.add_permits(1);
    asking.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(a.ask(first(), "get").await.unwrap(), "");
    a.until_rest("node-2").await;
}
