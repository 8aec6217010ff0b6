//! Activation limits, passivation by time and by number.

use std::{num::NonZeroU32, sync::atomic::Ordering, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use troupe_sharding::{AskError, HostOptions};
use troupe_store::MemoryStore;
use troupe_types::EntityKind;

use crate::counter::{Fixture, entity, quick, start, start_with};

async fn ask_all(f: &Fixture, count: u128, command: &str) {
    let mut asks = JoinSet::new();
    for n in 0..count {
        let (router, body) = (f.router.clone(), bytes::Bytes::from(command.to_owned()));
        asks.spawn(async move { router.ask(entity(n), body, crate::counter::LONG).await });
    }
    while let Some(answer) = asks.join_next().await {
        answer.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_passivated_entities_leave_nothing_behind() {
    let f = start().await;
    ask_all(&f, 10_000, "add a").await;
    assert_eq!(f.stats().kinds[&EntityKind::Task].live, 10_000);
    assert_eq!(f.stats().entities, 10_000);
    f.clock.advance(Duration::from_secs(119));
    f.ask(entity(7), "get").await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    f.until("all but one are gone", |f| f.stats().entities == 1).await;
    assert_eq!(f.world.closes.load(Ordering::SeqCst), 9_999);
    f.clock.advance(Duration::from_secs(120));
    f.until("all are gone", |f| f.stats().entities == 0).await;
    assert_eq!(f.host.entities(10), []);
    assert_eq!(f.stats().shards, 0);
    // And they are there when they are asked for.
    assert_eq!(f.ask(entity(9_999), "get").await.unwrap(), "a");
    assert_eq!(f.world.activations(entity(9_999)), 2);
    f.no_overlap();
}

#[tokio::test]
async fn one_that_is_not_idle_stays() {
    let f = start().await;
    let held = f.ask_later(entity(1), "hold");
    f.until("it is held", |f| f.world.handled.lock().unwrap().len() == 1).await;
    f.ask(entity(2), "get").await.unwrap();
    f.clock.advance(Duration::from_secs(300));
    f.until("the other one goes", |f| f.stats().entities == 1).await;
    f.ask(entity(1), "release").await.unwrap();
    held.await.unwrap().unwrap();
    f.clock.advance(Duration::from_secs(300));
    f.until("it goes too", |f| f.stats().entities == 0).await;
}

#[tokio::test]
async fn above_the_bound_the_least_recently_used_go() {
    let options = HostOptions { activations_max: 10, ..quick() };
    let f = start_with(options, MemoryStore::new().stores()).await;
    for n in 0..20 {
        f.clock.advance(Duration::from_millis(10));
        f.ask(entity(n), "get").await.unwrap();
    }
    f.until("the bound holds", |f| f.stats().entities == 10).await;
    let mut left: Vec<_> = f.host.entities(100).into_iter().map(|info| info.entity).collect();
    left.sort();
    let mut newest: Vec<_> = (10..20).map(entity).collect();
    newest.sort();
    assert_eq!(left, newest);
}

#[tokio::test]
async fn with_twice_too_many_in_memory_others_are_told_to_back_off() {
    let options = HostOptions { activations_max: 4, ..quick() };
    let f = start_with(options, MemoryStore::new().stores()).await;
    f.world.busy.store(true, Ordering::SeqCst);
    for n in 0..8 {
        f.ask(entity(n), "get").await.unwrap();
    }
    assert_eq!(f.ask(entity(8), "get").await, Err(AskError::Overloaded));
    f.ask(entity(7), "get").await.unwrap();
    f.world.busy.store(false, Ordering::SeqCst);
    f.clock.advance(Duration::from_secs(150));
    f.until("there is room", |f| f.stats().entities == 0).await;
    f.ask(entity(8), "get").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passivation_and_messages_race_without_a_loss() {
    let options = HostOptions { sweep_every: Duration::from_millis(1), ..quick() };
    let f = start_with(options, MemoryStore::new().stores()).await;
    let mut sent = 0;
    while f.world.activations(entity(1)) < 30 {
        sent += 1;
        assert!(sent < 100_000, "it was never passivated in between");
        // Now and then one sweep finds it idle while the next message is on its way.
        // A hundred words come again and again, each at the place it was given first.
        let ask = f.ask_later(entity(1), &format!("add {}", sent % 100));
        f.clock.advance(Duration::from_secs(121));
        let place = (sent - 1) % 100 + 1;
        assert_eq!(ask.await.unwrap().unwrap(), place.to_string());
    }
    f.no_overlap();
}

#[tokio::test]
async fn activations_are_paced() {
    let number = |n| NonZeroU32::new(n).unwrap();
    let options = HostOptions {
        activations_per_second: number(200),
        activations_burst: number(10),
        ..quick()
    };
    let f = start_with(options, MemoryStore::new().stores()).await;
    let start = Instant::now();
    ask_all(&f, 60, "get").await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(240), "{took:?}");
}

#[tokio::test]
async fn an_activation_that_nobody_waits_for_any_more_is_not_made() {
    let number = |n| NonZeroU32::new(n).unwrap();
    let options =
        HostOptions { activations_per_second: number(1), activations_burst: number(1), ..quick() };
    let f = start_with(options, MemoryStore::new().stores()).await;
    f.ask(entity(0), "get").await.unwrap();
    let time = Duration::from_millis(50);
    assert!(f.ask_within(entity(1), "get", time).await.is_err());
    f.until("it is forgotten", |f| f.stats().entities == 1).await;
    assert_eq!(f.world.activations(entity(1)), 0);
}
