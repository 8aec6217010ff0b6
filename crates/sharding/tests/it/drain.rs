//! Ending a host.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use troupe_actor::spawn_task;
use troupe_sharding::AskError;

use crate::counter::{LONG, entity, start};

#[tokio::test]
async fn a_quiet_host_drains_cleanly_and_takes_nothing_more() {
    let f = start().await;
    for n in 0..50 {
        f.ask(entity(n), "add a").await.unwrap();
    }
    let outcome = f.host.drain(LONG).await;
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!(f.world.drains.load(Ordering::SeqCst), 50);
    assert_eq!(f.world.closes.load(Ordering::SeqCst), 50);
    let fate = f.router.ask(entity(1), Bytes::from_static(b"get"), LONG).await;
    assert_eq!(fate, Err(AskError::NotDelivered));
}

#[tokio::test]
async fn what_was_admitted_is_still_handled_and_nothing_else() {
    let f = start().await;
    let (router, world) = (f.router.clone(), f.world.clone());
    let first = f.ask_later(entity(1), "block");
    f.until("it blocks", |f| f.world.handled.lock().unwrap().len() == 1).await;
    let second = f.ask_later(entity(1), "add a");
    f.until("it waits", |f| f.unanswered() == 2).await;
    let host = f.host;
    let drain = spawn_task("drain", async move { host.drain(LONG).await });
    let refused = loop {
        // Until the drain has begun these are admitted, and handled like the second one.
        let ask = router.ask(entity(2), Bytes::from_static(b"get"), LONG).await;
        if ask != Ok(Bytes::new()) {
            break ask;
        }
    };
    assert_eq!(refused, Err(AskError::NotDelivered));
    assert!(!drain.is_finished());
    world.gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), "");
    assert_eq!(second.await.unwrap().unwrap(), "1");
    let outcome = drain.await.unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
}

#[tokio::test]
async fn an_entity_reaches_another_one_while_both_drain() {
    let f = start().await;
    let (router, world) = (f.router.clone(), f.world.clone());
    f.ask(entity(2), "add a").await.unwrap();
    world.busy.store(true, Ordering::SeqCst);
    let blocked = f.ask_later(entity(1), "block");
    f.until("it blocks", |f| f.world.handled.lock().unwrap().len() == 2).await;
    let asked = f.ask_later(entity(1), &format!("ask {}", entity(2).id));
    f.until("it waits", |f| f.unanswered() == 2).await;
    let host = f.host;
    let drain = spawn_task("drain", async move { host.drain(LONG).await });
    while router.ask(entity(3), Bytes::from_static(b"get"), LONG).await.is_ok() {}
    world.gate.add_permits(1);
    blocked.await.unwrap().unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), "a");
    world.busy.store(false, Ordering::SeqCst);
    assert!(drain.await.unwrap().is_clean());
}

#[tokio::test]
async fn what_is_not_idle_at_the_deadline_is_closed_all_the_same() {
    let f = start().await;
    f.ask(entity(1), "get").await.unwrap();
    f.ask(entity(2), "get").await.unwrap();
    let held = f.ask_later(entity(1), "hold");
    f.until("it is held", |f| f.world.handled.lock().unwrap().len() == 3).await;
    let outcome = f.host.drain(Duration::from_millis(100)).await;
    assert_eq!((outcome.forced, outcome.dropped), (1, 0));
    assert_eq!(f.world.closes.load(Ordering::SeqCst), 2);
    assert_eq!(held.await.unwrap(), Err(AskError::OutcomeUnknown));
}

/// A Shard that moves waits for a step; once that took too long it does not wait for it again.
/// What else is under way in the Shard has its time.
#[tokio::test]
async fn a_step_that_takes_too_long_is_interrupted_at_once() {
    let f = start().await;
    let runs = entity(1);
    let other = (2..).map(entity).find(|other| other.shard() == runs.shard()).unwrap();
    let held = f.ask_later(runs, "hold");
    f.ask(other, "get").await.unwrap();
    f.until("it is held", |f| f.world.handled.lock().unwrap().len() == 2).await;
    f.world.busy.store(true, Ordering::SeqCst);
    let (host, world) = (f.host, f.world);
    let shard = runs.shard();
    let moving =
        spawn_task(
            "move",
            async move { host.hand_over(shard, Duration::from_millis(100), LONG).await },
        );
    assert_eq!(
        tokio::time::timeout(LONG / 2, held).await.unwrap().unwrap(),
        Err(AskError::OutcomeUnknown)
    );
    assert_eq!(world.closes.load(Ordering::SeqCst), 1, "the other one writes still");
    world.busy.store(false, Ordering::SeqCst);
    let outcome = moving.await.unwrap();
    assert_eq!((outcome.forced, outcome.dropped), (1, 0));
    assert_eq!(world.closes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_host_that_is_dropped_answers_everyone() {
    let f = start().await;
    let first = f.ask_later(entity(1), "block");
    f.until("it blocks", |f| f.world.handled.lock().unwrap().len() == 1).await;
    let second = f.ask_later(entity(1), "get");
    f.until("it waits", |f| f.unanswered() == 2).await;
    drop(f.host);
    assert_eq!(first.await.unwrap(), Err(AskError::OutcomeUnknown));
    assert_eq!(second.await.unwrap(), Err(AskError::NotDelivered));
    // The next host over the same stores begins where this one ended.
    let again = crate::counter::start_with(crate::counter::quick(), f.stores.clone()).await;
    assert_eq!(again.ask(entity(1), "add a").await.unwrap(), "1");
}
