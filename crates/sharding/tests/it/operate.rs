//! What an operator may want of a host: a look, one entity begun anew, one unloaded.

use std::{sync::atomic::Ordering, time::Duration};

use troupe_actor::settle;
use troupe_sharding::{Owner, Passivation};
use troupe_types::EntityKind;

use crate::counter::{LONG, entity, start};

#[tokio::test]
async fn an_entity_is_begun_anew_and_nothing_of_it_is_lost() {
    let f = start().await;
    let watch = f.host.watch();
    assert!(!watch.restart(entity(1)), "what is not in memory is not begun");
    f.ask(entity(1), "add a").await.unwrap();
    f.ask(entity(2), "add b").await.unwrap();
    assert!(watch.restart(entity(1)));
    f.until("it is there again", |f| f.world.activations(entity(1)) == 2).await;
    f.until("and was woken", |f| f.world.wakes() == 1).await;
    assert_eq!(f.ask(entity(1), "get").await.unwrap(), "a");
    assert_eq!(f.world.activations(entity(2)), 1, "the others stay as they are");
    f.no_overlap();
}

/// A message in its handler is waited for; those behind it are handled by the next activation.
#[tokio::test]
async fn an_entity_is_begun_anew_after_its_handler() {
    let f = start().await;
    let blocked = f.ask_later(entity(1), "block");
    f.until("its handler runs", |f| f.world.handled.lock().unwrap().len() == 1).await;
    let behind = f.ask_later(entity(1), "add later");
    f.until("one waits", |f| {
        f.host.watch().entity(entity(1)).is_some_and(|info| info.unanswered == 2)
    })
    .await;
    assert!(f.host.watch().restart(entity(1)));
    assert_eq!(f.world.activations(entity(1)), 1);
    f.world.gate.add_permits(1);
    blocked.await.unwrap().unwrap();
    behind.await.unwrap().unwrap();
    f.until("it is there again", |f| f.world.activations(entity(1)) == 2).await;
    assert_eq!(f.ask(entity(1), "get").await.unwrap(), "later");
    f.no_overlap();
}

#[tokio::test]
async fn one_that_rests_after_a_crash_is_tried_at_once() {
    let f = start().await;
    f.world.fail_activations.store(usize::MAX, Ordering::SeqCst);
    let waiting = f.ask_later(entity(1), "get");
    f.until("it rests", |f| {
        let info = f.host.watch().entity(entity(1));
        info.is_some_and(|info| info.state == "resting" && info.restarts >= 3)
    })
    .await;
    waiting.await.unwrap().unwrap_err();
    f.world.fail_activations.store(0, Ordering::SeqCst);
    assert!(f.host.watch().restart(entity(1)));
    f.until("it lives", |f| {
        f.host.watch().entity(entity(1)).is_some_and(|info| info.state == "live")
    })
    .await;
}

#[tokio::test]
async fn an_idle_entity_is_unloaded_and_a_busy_one_stays() {
    let f = start().await;
    let watch = f.host.watch();
    assert_eq!(watch.passivate(entity(1)).await, Passivation::Gone, "it was not there");
    f.ask(entity(1), "add a").await.unwrap();
    assert_eq!(watch.passivate(entity(1)).await, Passivation::Gone);
    assert_eq!(watch.entity(entity(1)), None);
    f.ask(entity(1), "get").await.unwrap();
    f.world.busy.store(true, Ordering::SeqCst);
    assert_eq!(watch.passivate(entity(1)).await, Passivation::NotIdle);
    assert!(watch.entity(entity(1)).is_some());
}

#[tokio::test]
async fn a_look_shows_shards_and_numbers_and_keeps_nothing() {
    let f = start().await;
    let watch = f.host.watch();
    f.ask(entity(1), "add a").await.unwrap();
    let shards = watch.shards();
    assert_eq!(shards.len(), 1_280);
    let of = &shards[usize::from(entity(1).shard().0)];
    assert_eq!((of.entities, of.is_released), (1, false));
    assert!(shards.iter().all(|shard| matches!(shard.owner, Owner::Here(_))));
    f.host.release(entity(1).shard(), Duration::from_secs(1)).await;
    assert!(watch.shards()[usize::from(entity(1).shard().0)].is_released);
    assert!(watch.actors().iter().any(|actor| actor.name == "shard host"));
    // More than its queue holds.
    let waiting: Vec<_> = (0..300).map(|_| f.ask_later(entity(2), "block")).collect();
    f.until("some are refused", |f| f.stats().kinds[&EntityKind::Task].overloaded > 0).await;
    f.world.gate.add_permits(400);
    for ask in waiting {
        let _ = ask.await.unwrap();
    }
    drop(f);
    let gone = settle(LONG, || watch.shards().is_empty() && watch.actors().is_empty()).await;
    assert!(gone, "a look does not keep its host");
}
