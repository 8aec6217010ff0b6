//! Links that break, nodes that die, freeze, come back or are somebody else by now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};
use troupe_actor::settle;
use troupe_link::MemoryHub;
use troupe_sharding::{AskError, NodeOptions, StreamItem};
use troupe_types::limits::ENTRY_BYTES_MAX;

use crate::{
    counter::{LONG, entity},
    nodes::{Cluster, Node, brisk, first, name, pair},
};

/// What was asked while the link was cut is done once when it is back, and meanwhile nobody is
/// told anything wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_and_back_loses_and_doubles_nothing() {
    let (cluster, a, b) = pair().await;
    let (_, mut stream) = a.router.subscribe(first(), Bytes::new(), 16, LONG).await.unwrap();
    for round in 0..2 {
        cluster.cut("node-1", "node-2", true);
        let mut asking = JoinSet::new();
        for n in 0..20 {
            let (router, body) = (a.router.clone(), Bytes::from(format!("add {round}-{n}")));
            asking.spawn(async move { router.ask(first(), body, LONG).await });
        }
        a.until("the link is seen down", |a| a.linked() == 0).await;
        b.until("by the other one too", |b| b.linked() == 0).await;
        cluster.cut("node-1", "node-2", false);
        while let Some(answer) = asking.join_next().await {
            answer.unwrap().unwrap();
        }
        for n in 0..20 {
            let times = b.handled(&format!("add {round}-{n}"));
            assert_eq!(times, 1, "handled once, however often it was sent");
        }
    }
    let ended = timeout(LONG, stream.recv()).await.unwrap();
    assert!(ended.is_none(), "a stream ends with its link: {ended:?}");
    assert_eq!(a.ask(first(), "get").await.unwrap().split(' ').count(), 40);
}

/// Rules 8, 9 and 13: a process that is gone is noticed, what it may have done is called
/// unknown, and its Shard works on elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_dies_leaves_unknown_outcomes_and_nothing_else() {
    let cluster = Cluster::new("node-3");
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let c = cluster.node("node-3").await;
    cluster.owners.set(first(), "node-2", 1);
    cluster.join(&[&a, &b, &c]).await;
    a.ask(first(), "add x").await.unwrap();
    let (router, repeating) = (a.router.clone(), a.router.clone());
    let mut once = JoinSet::new();
    once.spawn(async move { router.ask(first(), Bytes::from_static(b"block"), LONG).await });
    b.until("it is being handled", |b| b.handled("block") == 1).await;
    let mut repeatable = JoinSet::new();
    repeatable.spawn(async move {
        repeating.ask_repeatable(first(), Bytes::from_static(b"add y"), LONG).await
    });
    cluster.isolate("node-2", true);
    drop(b);
    a.until("it is seen", |a| a.linked() == 1).await;
    cluster.owners.set(first(), "node-3", 2);
    let answer = timeout(LONG, once.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Err(AskError::OutcomeUnknown));
    let answer = timeout(LONG, repeatable.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Ok(Bytes::from_static(b"2")));
    assert_eq!(a.ask(first(), "get").await.unwrap(), "x y");
    assert_eq!(c.handled("add y"), 1);
}

/// Nobody to wait for: what never left is certain not to have happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ask_to_a_node_that_never_came_is_not_delivered() {
    let cluster = Cluster::new("node-9");
    let a = cluster.node("node-1").await;
    let answer = a.ask_within(first(), "get", Duration::from_millis(300)).await;
    assert_eq!(answer, Err(AskError::NotDelivered));
}

/// Thaws a node, also if the test fails.
struct Thaws<'a>(&'a Node);

impl Drop for Thaws<'_> {
    fn drop(&mut self) {
        self.0.ear.freeze(false);
    }
}

/// Rule 3: a peer that takes nothing stalls what is meant for it alone, with bounded memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_frozen_peer_stalls_alone_and_within_bounds() {
    let options = NodeOptions { credit_bytes: 1024 * 1024, ..brisk() };
    let cluster = Cluster::with("node-2", options.clone());
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let c = cluster.node("node-3").await;
    let other = entity(7);
    cluster.owners.set(other, "node-3", 1);
    cluster.join(&[&a, &b, &c]).await;
    b.ear.freeze(true);
    // A node that is frozen for good could not end either.
    let _thaws = Thaws(&b);
    b.until("it is frozen", |b| b.ear.is_frozen.load(Ordering::SeqCst)).await;
    let pad = "p".repeat(ENTRY_BYTES_MAX - 16);
    let mut asking = JoinSet::new();
    let time = Duration::from_secs(30);
    for n in 0..200_u128 {
        let (router, body) = (a.router.clone(), Bytes::from(format!("add {n}{pad}")));
        asking.spawn(async move { router.ask(entity(100 + n), body, time).await });
    }
    let begun = Instant::now();
    for _ in 0..20 {
        a.ask(other, "get").await.unwrap();
    }
    // What is meant for the frozen one still waits.
    assert!(begun.elapsed() < time, "{:?}", begun.elapsed());
    let info = a.peer("node-2");
    assert!(info.queued_bytes <= options.queue_bytes_max, "{info:?}");
    let most_are_refused = async {
        let mut refused = 0;
        while refused < 150 {
            match asking.join_next().await.expect("most are refused at once").unwrap() {
                Err(AskError::Overloaded) => refused += 1,
                Err(AskError::OutcomeUnknown | AskError::NotDelivered) | Ok(_) => {}
                Err(fate) => panic!("{fate:?}"),
            }
        }
    };
    timeout(time, most_are_refused).await.unwrap();
    asking.shutdown().await;
    b.ear.freeze(false);
    b.until("it thaws", |b| !b.ear.is_frozen.load(Ordering::SeqCst)).await;
    a.until("what waited is gone", |a| a.peer("node-2").queued == 0).await;
    assert_eq!(a.ask(entity(400), "add z").await.unwrap(), "1");
}

/// Rule 8: a node that starts again under its name has a new boot; its new link takes the place
/// of the old one at once, and the old process gets no link any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_under_the_same_name_replaces_the_old_process() {
    let (cluster, a, old) = pair().await;
    a.ask(first(), "add x").await.unwrap();
    let new = cluster.node("node-2").await;
    let begun = Instant::now();
    cluster.dial(&[&a, &new]).await;
    a.until("the new one is linked", |a| a.peer("node-2").boot == Some(new.boot)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(a.ask(first(), "add y").await.unwrap(), "2");
    assert_eq!((old.handled("add y"), new.handled("add y")), (0, 1));
    // The old one is dialled once more, by somebody who knows no better.
    cluster.dial(&[&a, &old]).await;
    let flapped = settle(Duration::from_secs(1), || a.peer("node-2").boot == Some(old.boot)).await;
    assert!(!flapped, "an older boot came back");
    cluster.dial(&[&a, &new]).await;
    a.until("the new one again", |a| a.peer("node-2").boot == Some(new.boot)).await;
    assert_eq!(a.ask(first(), "get").await.unwrap(), "x y");
}

/// Whoever comes last is not the newest for that: the lease tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_process_that_comes_last_does_not_keep_its_successor_out() {
    let mut cluster = Cluster::new("node-2");
    cluster.hub = Some(MemoryHub::new());
    let (a, old) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let new = cluster.node("node-2").await;
    let linked_with = |boot| move |a: &Node| a.peer("node-2").boot == Some(boot);
    cluster.dial(&[&a, &new]).await;
    a.until("the new one is linked", linked_with(new.boot)).await;
    // No lease is known yet, so the older one gets the seat of a process that it cannot judge.
    cluster.dial(&[&a, &old]).await;
    a.until("the old one is linked", linked_with(old.boot)).await;
    a.ear.leases.lock().unwrap().insert(name("node-2"), new.boot);
    cluster.dial(&[&a, &new]).await;
    a.until("the leased one is back", linked_with(new.boot)).await;
    assert_eq!(a.ask(first(), "add x").await.unwrap(), "1");
    assert_eq!((old.handled("add x"), new.handled("add x")), (0, 1));
    cluster.dial(&[&a, &old]).await;
    let flapped = settle(Duration::from_secs(1), || a.peer("node-2").boot == Some(old.boot)).await;
    assert!(!flapped, "the older boot came back");
    assert_eq!(a.ask(first(), "get").await.unwrap(), "x");
}

/// The same with the lease known from the start, as a process sees it that started after both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_process_does_not_get_the_seat_of_the_leased_one() {
    let mut cluster = Cluster::new("node-2");
    cluster.hub = Some(MemoryHub::new());
    let (a, old) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let new = cluster.node("node-2").await;
    a.ear.leases.lock().unwrap().insert(name("node-2"), new.boot);
    cluster.dial(&[&a, &new]).await;
    a.until("the new one is linked", |a| a.peer("node-2").boot == Some(new.boot)).await;
    cluster.dial(&[&a, &old]).await;
    let taken = settle(Duration::from_secs(1), || a.peer("node-2").boot != Some(new.boot)).await;
    assert!(!taken, "{:?}", a.link.peers());
}

/// A wrong owner names the right one; the sender goes there and remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn not_the_owner_says_who_is() {
    let cluster = Cluster::new("node-3");
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let c = cluster.node("node-3").await;
    a.view.believe(first(), "node-2", 1);
    cluster.owners.set(first(), "node-3", 2);
    cluster.join(&[&a, &b, &c]).await;
    let begun = Instant::now();
    assert_eq!(a.ask(first(), "add x").await.unwrap(), "1");
    for _ in 0..20 {
        a.ask(first(), "get").await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((b.handled("add x"), c.handled("add x")), (0, 1));
    let (_, mut stream) = a.router.subscribe(first(), Bytes::new(), 16, LONG).await.unwrap();
    c.ask(first(), "frames").await.unwrap();
    let item = timeout(LONG, stream.recv()).await.unwrap();
    assert!(matches!(item, Some(StreamItem::Frames(_))), "{item:?}");
}

/// Two nodes that point at each other end in time, not in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shard_that_nobody_owns_ends_in_time() {
    let cluster = Cluster::new("node-2");
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    a.view.believe(first(), "node-2", 1);
    b.view.believe(first(), "node-1", 1);
    cluster.join(&[&a, &b]).await;
    let begun = Instant::now();
    let answer = a.ask_within(first(), "get", Duration::from_millis(600)).await;
    assert_eq!(answer, Err(AskError::NotDelivered));
    assert!(begun.elapsed() < Duration::from_secs(2));
    a.view.believe(first(), "node-1", 2);
    assert_eq!(a.ask(first(), "get").await.unwrap(), "");
}

/// Two nodes that cannot reach each other go through a third one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_between_two_nodes_is_gone_around() {
    let options = NodeOptions { relay_after: Duration::from_millis(100), ..brisk() };
    let cluster = Cluster::with("node-2", options);
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let c = cluster.node("node-3").await;
    cluster.join(&[&a, &b, &c]).await;
    cluster.cut("node-1", "node-2", true);
    a.until("the link is seen down", |a| a.linked() == 1).await;
    assert_eq!(a.ask(first(), "add x").await.unwrap(), "1");
    assert_eq!(b.handled("add x"), 1);
    let (_, mut stream) = a.router.subscribe(first(), Bytes::new(), 16, LONG).await.unwrap();
    b.ask(first(), "frames").await.unwrap();
    let item = timeout(LONG, stream.recv()).await.unwrap();
    assert!(matches!(item, Some(StreamItem::Frames(_))), "{item:?}");
}

/// Rule 10: when a node stops, nothing of its sessions stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stopped_node_is_gone_and_its_callers_have_their_fates() {
    let (_cluster, a, b) = pair().await;
    let router = a.router.clone();
    let mut asking = JoinSet::new();
    asking.spawn(async move {
        router.ask(first(), Bytes::from_static(b"block"), Duration::from_secs(3)).await
    });
    b.until("it is being handled", |b| b.handled("block") == 1).await;
    b.link.stop().await;
    let answer = timeout(LONG, asking.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Err(AskError::OutcomeUnknown));
    a.until("the link is gone", |a| a.linked() == 0).await;
    a.link.stop().await;
    assert_eq!(a.ask(first(), "get").await, Err(AskError::NotDelivered));
}

/// Short and long cuts at any moment, over slow links that reorder streams: whatever is asked is
/// done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cuts_at_any_moment_lose_and_double_nothing() {
    let mut options = brisk();
    options.link.idle = Duration::from_millis(60);
    options.link.ready_deadline = Duration::from_millis(500);
    let mut cluster = Cluster::with("node-2", options);
    let hub = MemoryHub::new();
    let (delay, jitter) = (Duration::from_micros(300), Duration::from_millis(3));
    hub.delay("node-1", "node-2", delay, jitter, 11);
    cluster.hub = Some(hub.clone());
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    cluster.join(&[&a, &b]).await;
    let mut asking = JoinSet::new();
    for caller in 0..8_u128 {
        let router = a.router.clone();
        asking.spawn(async move {
            for n in 0..30 {
                let body = Bytes::from(format!("add {caller}-{n}"));
                let place = router.ask(entity(caller), body, LONG).await.unwrap();
                assert_eq!(place, Bytes::from((n + 1).to_string()), "{caller}-{n}");
            }
        });
    }
    let mut dice: u64 = 42;
    let mut cuts = 0;
    loop {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let wait = Duration::from_millis(5 + (dice >> 33) % 150);
        cuts += 1;
        hub.cut("node-1", "node-2", cuts % 2 == 1);
        match timeout(wait, asking.join_next()).await {
            Ok(Some(done)) => done.unwrap(),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    assert!(cuts >= 8, "{cuts}");
    let doubled: Vec<_> = (0..8)
        .flat_map(|caller| (0..30).map(move |n| format!("add {caller}-{n}")))
        .filter(|command| b.handled(command) != 1)
        .collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}

/// A Shard goes there and back while it is asked without a pause: everyone is answered, in
/// order, and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shard_that_is_handed_over_keeps_everyone_waiting_and_loses_nobody() {
    let (cluster, a, b) = pair().await;
    let mut asking = JoinSet::new();
    let enough = Arc::new(AtomicBool::new(false));
    for (caller, router) in [(1_u32, a.router.clone()), (2, b.router.clone())] {
        let enough = Arc::clone(&enough);
        asking.spawn(async move {
            let mut n = 0;
            while !enough.load(Ordering::SeqCst) {
                let body = Bytes::from(format!("add {caller}-{n}"));
                // Nothing happened: whoever waited in the queue of a Shard that moves asks again.
                let begun = Instant::now();
                while let Err(fate) = router.ask(first(), body.clone(), LONG).await {
                    assert_eq!(fate, AskError::NotDelivered, "{caller}-{n}");
                    assert!(begun.elapsed() < LONG, "{caller}-{n}");
                    tokio::task::yield_now().await;
                }
                n += 1;
            }
            (caller, n)
        });
    }
    let mut epoch = 1;
    for (from, to) in [(&b, "node-1"), (&a, "node-2"), (&b, "node-1")] {
        let before = from.world.handled.lock().unwrap().len();
        from.until("it works", |from| from.world.handled.lock().unwrap().len() > before).await;
        let outcome = from.host.release(first().shard(), LONG).await;
        assert!(outcome.is_clean(), "{outcome:?}");
        epoch += 1;
        cluster.owners.set(first(), to, epoch);
    }
    enough.store(true, Ordering::SeqCst);
    let mut counts = Vec::new();
    while let Some(done) = timeout(LONG, asking.join_next()).await.unwrap() {
        counts.push(done.unwrap());
    }
    let words = a.ask(first(), "get").await.unwrap();
    for (caller, count) in counts {
        let mine = words.split(' ').filter(|word| word.starts_with(&format!("{caller}-")));
        let expected: Vec<_> = (0..count).map(|n| format!("{caller}-{n}")).collect();
        assert_eq!(mine.collect::<Vec<_>>(), expected);
        let handled = |n| a.handled(&format!("add {n}")) + b.handled(&format!("add {n}"));
        assert!(expected.iter().all(|n| handled(n) == 1), "done twice");
    }
}

/// A Shard that was let go of and not moved goes on; a newer claim of the same node closes what
/// the older one had.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancelled_hand_over_goes_on_and_a_new_claim_begins_anew() {
    let (cluster, a, b) = pair().await;
    a.ask(first(), "add x").await.unwrap();
    assert!(b.host.release(first().shard(), LONG).await.is_clean());
    let short = Duration::from_millis(300);
    assert_eq!(a.ask_within(first(), "add y", short).await, Err(AskError::NotDelivered));
    b.host.claimed(first().shard());
    assert_eq!(a.ask(first(), "add y").await.unwrap(), "2");
    assert_eq!(b.world.activations(first()), 2);
    cluster.owners.set(first(), "node-2", 2);
    assert_eq!(a.ask(first(), "add z").await.unwrap(), "3");
    assert_eq!(b.world.activations(first()), 3);
}

/// A lease that ends while an entity is being activated: what comes up is gone at once, and does
/// not stand in the way of the next claim until it was idle for long enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_activation_under_way_when_its_shard_is_lost_holds_up_nobody() {
    let (cluster, a, b) = pair().await;
    let held = Arc::new(Semaphore::new(0));
    *b.world.hold_activations.lock().unwrap() = Some(Arc::clone(&held));
    let router = a.router.clone();
    let mut asked = JoinSet::new();
    asked.spawn(async move { router.ask(first(), "get".into(), LONG).await });
    b.until("the activation is under way", |b| b.world.activations(first()) == 1).await;
    b.host.lost(first().shard());
    *b.world.hold_activations.lock().unwrap() = None;
    held.add_permits(1);
    cluster.owners.set(first(), "node-2", 2);
    b.host.claimed(first().shard());
    let (short, begun) = (Duration::from_secs(5), Instant::now());
    while a.ask_within(first(), "add x", short).await.is_err() {
        assert!(begun.elapsed() < LONG, "what came up too late is in the way");
        tokio::task::yield_now().await;
    }
    assert_eq!(b.handled("add x"), 1);
}

/// The target of a planned move leaves, so that the Shard stays: a run whose step was to end
/// ahead of the move ends it in peace, and what it belongs to begins anew after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_move_that_is_called_off_lets_a_step_end() {
    let (_cluster, a, b) = pair().await;
    let router = a.router.clone();
    let mut step = JoinSet::new();
    step.spawn(async move { router.ask(first(), "hold".into(), LONG).await });
    b.until("the step is under way", |b| b.handled("hold") == 1).await;
    let moving = b.host.hand_over(first().shard(), LONG, LONG);
    let told = b.until("it is told to drain", |b| b.world.drains.load(Ordering::SeqCst) == 1);
    tokio::select! {
        outcome = moving => panic!("the step is not over: {outcome:?}"),
        () = told => {}
    }
    b.host.claimed(first().shard());
    assert_eq!(a.ask(first(), "add x").await.unwrap(), "1");
    assert_eq!(b.world.activations(first()), 1, "the step goes on");
    a.ask(first(), "release").await.unwrap();
    let released = step.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(released, Bytes::from_static(b"released"));
    b.until("it begins anew", |b| b.world.activations(first()) == 2).await;
    assert_eq!(a.ask(first(), "add y").await.unwrap(), "2");
}
