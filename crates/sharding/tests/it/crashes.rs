//! Crashes, strikes, dead letters, failed activations.

use std::{sync::atomic::Ordering, time::Duration};

use troupe_sharding::{AskError, Crash, HostOptions};
use troupe_store::MemoryStore;
use troupe_types::EntityKind;

use crate::counter::{LONG, entity, quick, start, start_with};

#[tokio::test]
async fn a_crash_loses_nothing_that_was_committed() {
    let f = start().await;
    let to = entity(1);
    f.world.fragile.lock().unwrap().insert("b".to_owned(), 2);
    assert_eq!(f.ask(to, "add a").await.unwrap(), "1");
    // The first crash comes after the append, the second before; the caller sees neither.
    assert_eq!(f.ask(to, "fragile b").await.unwrap(), "2");
    assert_eq!(f.ask(to, "get").await.unwrap(), "a b");
    assert_eq!(f.world.activations(to), 3);
    assert_eq!(f.stats().kinds[&EntityKind::Task].restarts, 2);
    f.no_overlap();
}

async fn poisons(command: &str) {
    let f = start().await;
    let to = entity(1);
    assert_eq!(f.ask(to, "add a").await.unwrap(), "1");
    let before = f.ask_later(to, "block");
    f.until("it blocks", |f| f.world.handled.lock().unwrap().len() == 2).await;
    let poison = f.ask_later(to, command);
    f.until("it waits", |f| f.unanswered() == 2).await;
    let behind = f.ask_later(to, "add b");
    f.world.gate.add_permits(1);
    assert_eq!(before.await.unwrap().unwrap(), "");
    let Err(AskError::Failed(why)) = poison.await.unwrap() else { panic!() };
    assert_eq!(why.code, "poisoned");
    assert_eq!(behind.await.unwrap().unwrap(), "2", "the entity lives on");
    let letters = f.stores.dead_letters.list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].entity, letters[0].strikes), (to, 3));
    assert_eq!(letters[0].message, command.as_bytes());
    assert!(letters[0].error.contains("scripted"), "{}", letters[0].error);
    let tries = f.world.handled.lock().unwrap().iter().filter(|c| *c == command).count();
    assert_eq!(tries, 3);
    assert_eq!(f.world.activations(to), 4);
    f.no_overlap();
}

#[tokio::test]
async fn three_crashes_make_a_dead_letter() {
    poisons("crash").await;
}

#[tokio::test]
async fn three_panics_make_a_dead_letter() {
    poisons("panic").await;
}

#[tokio::test]
async fn a_blameless_crash_is_no_strike() {
    let f = start().await;
    f.world.fragile.lock().unwrap().insert("blameless".to_owned(), 5);
    assert_eq!(f.ask(entity(1), "blameless").await.unwrap(), "survived");
    assert_eq!(f.world.activations(entity(1)), 6);
    assert!(f.stores.dead_letters.list(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_whose_caller_left_is_not_fed_again() {
    let f = start().await;
    let to = entity(1);
    f.world.fragile.lock().unwrap().insert("blameless".to_owned(), usize::MAX);
    let time = Duration::from_millis(50);
    assert_eq!(f.ask_within(to, "blameless", time).await, Err(AskError::OutcomeUnknown));
    assert_eq!(f.ask(to, "get").await.unwrap(), "", "it is out of the way");
}

#[tokio::test]
async fn an_answered_message_is_not_fed_again() {
    let f = start().await;
    assert_eq!(f.ask(entity(1), "answer-crash").await.unwrap(), "answered");
    assert_eq!(f.ask(entity(1), "get").await.unwrap(), "");
    assert_eq!(f.world.handled.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn kept_replies_that_go_down_have_an_unknown_outcome() {
    let f = start().await;
    let held = f.ask_later(entity(1), "hold");
    f.until("it is held", |f| f.world.handled.lock().unwrap().len() == 1).await;
    f.ask(entity(1), "answer-crash").await.unwrap();
    assert_eq!(held.await.unwrap(), Err(AskError::OutcomeUnknown));
    assert_eq!(f.ask(entity(1), "leak-crash").await, Err(AskError::OutcomeUnknown));
    let tries = f.world.handled.lock().unwrap().iter().filter(|c| *c == "leak-crash").count();
    assert_eq!(tries, 1);
}

#[tokio::test]
async fn after_a_crash_of_its_own_an_entity_comes_back_and_is_woken() {
    let f = start().await;
    f.ask(entity(1), "internal-crash").await.unwrap();
    f.until("it was woken", |f| f.world.wakes() == 1).await;
    assert_eq!(f.world.activations(entity(1)), 2);
    f.no_overlap();
}

#[tokio::test]
async fn a_failed_activation_is_tried_again_within_the_callers_time() {
    let f = start().await;
    f.world.fail_activations.store(2, Ordering::SeqCst);
    assert_eq!(f.ask(entity(1), "add a").await.unwrap(), "1");
    assert_eq!(f.world.activations(entity(1)), 3);
}

#[tokio::test]
async fn nobody_waits_long_for_an_activation_that_keeps_failing() {
    let options = HostOptions { backoff_max: LONG, ..quick() };
    let f = start_with(options, MemoryStore::new().stores()).await;
    f.world.fail_activations.store(usize::MAX, Ordering::SeqCst);
    let asks: Vec<_> = (0..10).map(|_| f.ask_later(entity(1), "get")).collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap(), Err(AskError::NotDelivered));
    }
    assert!(f.world.activations(entity(1)) >= 3);
    assert!(f.world.handled.lock().unwrap().is_empty());
    f.world.fail_activations.store(0, Ordering::SeqCst);
    f.until("it rests", |f| f.stats().kinds[&EntityKind::Task].starting == 0).await;
    let mut answer = f.ask(entity(1), "get").await;
    for _ in 0..10_000 {
        if answer.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
        answer = f.ask(entity(1), "get").await;
    }
    assert_eq!(answer.as_deref(), Ok(""), "it comes back by itself");
}

#[tokio::test]
async fn a_poisonous_wake_up_is_given_up() {
    let f = start().await;
    f.world.crash_wakes.store(3, Ordering::SeqCst);
    f.ask(entity(1), "internal-crash").await.unwrap();
    f.until("it is given up", |f| f.world.wakes() == 3).await;
    let mut letters = Vec::new();
    for _ in 0..10_000 {
        letters = f.stores.dead_letters.list(None, 10).await.unwrap();
        if !letters.is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(letters.len(), 1);
    assert!(letters[0].message.is_empty() && letters[0].error.starts_with("in wake"));
    assert_eq!(f.ask(entity(1), "get").await.unwrap(), "");
}

#[test]
fn a_crash_tells_its_reason() {
    let crash = Crash { reason: "lost append".to_owned(), blameless: true };
    assert_eq!(crash.to_string(), "lost append");
}
