//! Asks and streams between nodes, when nothing is wrong.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use troupe_actor::settle;
use troupe_sharding::{AskError, StreamItem};
use troupe_types::{EntityId, EntityKind, Epoch, Incarnation, ShardId, limits::ENTRY_BYTES_MAX};
use troupe_wire::{Handoff, HandoffStep};

use crate::{
    counter::{LONG, entity},
    nodes::{Cluster, Node, first, name, pair},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ask_reaches_an_entity_of_another_node_and_its_answer_comes_back() {
    let (_cluster, a, b) = pair().await;
    assert_eq!(a.ask(first(), "add x").await.unwrap(), "1");
    assert_eq!(a.ask(first(), "add y").await.unwrap(), "2");
    assert_eq!(b.ask(first(), "get").await.unwrap(), "x y");
    assert_eq!(a.ask(first(), "get").await.unwrap(), "x y");
    assert_eq!(a.stats_entities(), 0, "it lives on its owner alone");
    let begun = Instant::now();
    for _ in 0..50 {
        a.ask(first(), "get").await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "at once when idle: {:?}", begun.elapsed());
}

impl Node {
    fn stats_entities(&self) -> usize {
        self.host.stats().entities
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fates_are_the_same_as_within_a_node() {
    let (_cluster, a, _b) = pair().await;
    let Err(AskError::Failed(why)) = a.ask(first(), "refuse").await else { panic!() };
    assert_eq!(why.code, "no");
    assert_eq!(a.ask(first(), "drop").await, Err(AskError::OutcomeUnknown));
    let short = Duration::from_millis(100);
    assert_eq!(a.ask_within(first(), "hold", short).await, Err(AskError::OutcomeUnknown));
    let device = EntityId { kind: EntityKind::Device, id: first().id };
    assert_eq!(a.ask(device, "get").await, Err(AskError::NotDelivered), "no such kind there");
    let large = Bytes::from(vec![b'x'; ENTRY_BYTES_MAX + 1]);
    let Err(AskError::Failed(why)) = a.router.ask(first(), large, LONG).await else { panic!() };
    assert_eq!(why.code, "too_large", "rule 4: looked at before it is sent");
}

/// Rule 4 again: what is as large as it may be goes through and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_largest_message_goes_through() {
    let (_cluster, a, _b) = pair().await;
    let word = "w".repeat(ENTRY_BYTES_MAX - 4);
    assert_eq!(a.ask(first(), &format!("add {word}")).await.unwrap(), "1");
    assert_eq!(a.ask(first(), "get").await.unwrap(), word);
}

/// A handler that takes longer than the first repeats of its envelope sees it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_envelope_that_is_sent_again_is_handled_once() {
    let (_cluster, a, b) = pair().await;
    let router = a.router.clone();
    let mut asking = JoinSet::new();
    asking.spawn(async move { router.ask(first(), Bytes::from_static(b"block"), LONG).await });
    b.until("it is being handled", |b| b.handled("block") == 1).await;
    let begun = Instant::now();
    // Three repeats are due by then.
    settle(Duration::from_millis(1_900), || begun.elapsed() > Duration::from_millis(1_800)).await;
    b.world.gate.add_permits(1);
    timeout(LONG, asking.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(b.handled("block"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_asks_at_once_are_all_answered_within_the_window() {
    let (_cluster, a, b) = pair().await;
    let mut asking = JoinSet::new();
    let pad = "p".repeat(6_000);
    for n in 0..2_000_u128 {
        let router = a.router.clone();
        let body = Bytes::from(format!("add {n}{pad}"));
        asking.spawn(async move { router.ask(entity(n), body, LONG).await });
    }
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap();
        // More than the queue holds is refused at once, never lost.
        assert!(matches!(&answer, Ok(_) | Err(AskError::Overloaded)), "{answer:?}");
    }
    a.until("nothing waits any more", |a| {
        let info = a.peer("node-2");
        (info.asks, info.queued, info.queued_bytes) == (0, 0, 0)
    })
    .await;
    b.until("nothing is handled any more", |b| b.peer("node-1").handled == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tell_is_done_without_anybody_waiting() {
    let (_cluster, a, b) = pair().await;
    a.router.tell(first(), Bytes::from_static(b"add told"), LONG).unwrap();
    b.until("it was told", |b| b.handled("add told") == 1).await;
    assert_eq!(a.ask(first(), "get").await.unwrap(), "told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entities_of_two_nodes_reach_each_other() {
    let cluster = Cluster::new("node-2");
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let (near, far) = (entity(5), entity(6));
    cluster.owners.set(near, "node-1", 1);
    cluster.join(&[&a, &b]).await;
    assert_eq!(a.ask(far, "add there").await.unwrap(), "1");
    // `near` asks `far`, from its own node.
    assert_eq!(b.ask(near, &format!("ask {}", far.id)).await.unwrap(), "there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heartbeats_and_hand_off_words_arrive_in_order() {
    let (_cluster, a, b) = pair().await;
    b.until("heartbeats", |b| b.ear.beats.load(std::sync::atomic::Ordering::SeqCst) >= 3).await;
    let steps = [HandoffStep::Prepare, HandoffStep::Committed, HandoffStep::FlushMarker];
    let words = steps.map(|step| Handoff {
        shard: ShardId(3),
        epoch: Epoch(4),
        source_inc: Incarnation(2),
        count: 1,
        target_inc: Incarnation::ZERO,
        step,
    });
    for word in words {
        assert!(a.link.send_handoff(&name("node-2"), word));
    }
    b.until("the words", |b| b.ear.handoffs.lock().unwrap().len() == 3).await;
    assert_eq!(*b.ear.handoffs.lock().unwrap(), words);
    assert!(!a.link.send_handoff(&name("nobody"), words[0]));
}

/// An answer has up to 8 MiB, and comes whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn long_answers_come_in_parts() {
    let (_cluster, a, b) = pair().await;
    for n in 0..16 {
        let word = n.to_string().repeat(100 * 1024 / n.to_string().len());
        b.ask(first(), &format!("add {word}")).await.unwrap();
    }
    let here = b.ask(first(), "get").await.unwrap();
    assert!(here.len() > 1_500_000);
    for _ in 0..3 {
        assert!(a.ask(first(), "get").await.unwrap() == here, "another answer");
    }
}

async fn subscribe(node: &Node, capacity: usize) -> tokio::sync::mpsc::Receiver<StreamItem> {
    let (reply, stream) =
        node.router.subscribe(first(), Bytes::new(), capacity, LONG).await.unwrap();
    assert_eq!(reply, Bytes::from_static(b"0"));
    stream
}

async fn next(stream: &mut tokio::sync::mpsc::Receiver<StreamItem>) -> Option<StreamItem> {
    timeout(LONG, stream.recv()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_reach_followers_on_other_nodes() {
    let (_cluster, a, b) = pair().await;
    let (mut far, mut near) = (subscribe(&a, 16).await, subscribe(&b, 16).await);
    for _ in 0..5 {
        assert_eq!(b.ask(first(), "frames").await.unwrap(), "2");
    }
    for _ in 0..5 {
        assert!(matches!(next(&mut far).await, Some(StreamItem::Frames(_))));
        assert!(matches!(next(&mut near).await, Some(StreamItem::Frames(_))));
    }
    drop(far);
    // The owner hears of it and lets go.
    left(&b, "1", &mut near).await;
}

/// A viewer that leaves before its subscription was answered leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_leaves_early_is_followed_by_nothing() {
    let (_cluster, a, b) = pair().await;
    let (router, mut blocking) = (b.router.clone(), JoinSet::new());
    blocking.spawn(async move { router.ask(first(), Bytes::from_static(b"block"), LONG).await });
    b.until("it is busy", |b| b.handled("block") == 1).await;
    let router = a.router.clone();
    let mut leaving = JoinSet::new();
    leaving.spawn(async move { router.subscribe(first(), Bytes::new(), 16, LONG).await });
    b.until("the subscription waits for it", |b| b.peer("node-1").handled == 1).await;
    leaving.shutdown().await;
    b.until("it is withdrawn", |b| b.peer("node-1").handled == 0).await;
    b.world.gate.add_permits(1);
    blocking.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(b.ask(first(), "frames").await.unwrap(), "0", "nobody follows");
}

/// Sends frames until only so many follow.
async fn left(node: &Node, count: &str, near: &mut tokio::sync::mpsc::Receiver<StreamItem>) {
    let end = Instant::now() + LONG;
    while node.ask(first(), "frames").await.unwrap() != count {
        assert!(Instant::now() < end, "still more than {count} follow");
        while near.try_recv().is_ok() {}
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_follower_on_another_node_is_told_and_left_behind() {
    let (_cluster, a, b) = pair().await;
    let (mut slow, mut near) = (subscribe(&a, 3).await, subscribe(&b, 64).await);
    left(&b, "1", &mut near).await;
    let mut got = 0;
    let last = loop {
        match next(&mut slow).await {
            Some(StreamItem::Frames(_)) => got += 1,
            other => break other,
        }
    };
    assert!(matches!(last, Some(StreamItem::Lagged)), "{last:?} after {got}");
    assert!(got >= 3, "{got}");
    assert!(next(&mut slow).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_planned_end_is_told_and_a_crash_closes() {
    let (_cluster, a, b) = pair().await;
    let mut stream = subscribe(&a, 16).await;
    a.ask(first(), "answer-crash").await.unwrap();
    assert!(next(&mut stream).await.is_none(), "a crash closes it");
    let mut stream = subscribe(&a, 16).await;
    b.host.drain(Duration::from_millis(50)).await;
    assert!(matches!(next(&mut stream).await, Some(StreamItem::Ended)));
    assert!(next(&mut stream).await.is_none());
}

/// Rules 7 and 1: nothing of a node link is in the registry of names.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_remotable_actor_has_a_name() {
    let (_cluster, a, _b) = pair().await;
    a.ask(first(), "get").await.unwrap();
    assert_eq!(ractor::registry::registered(), Vec::<String>::new());
}
