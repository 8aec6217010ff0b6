//! The four fates, the bounded queue, one at a time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use troupe_actor::ActorTree;
use troupe_sharding::{
    AskError, HostParts, NodeName, Owner, Placement, RegisteredKind, Router, ShardHost,
};
use troupe_store::MemoryStore;
use troupe_types::{
    EntityId, EntityKind, Epoch, ShardId, SystemClock,
    limits::{ENTITY_QUEUE_MAX, ENTRY_BYTES_MAX},
};

use crate::counter::{CounterFactory, LONG, World, entity, quick, start};

const SHORT: Duration = Duration::from_millis(30);

#[tokio::test]
async fn an_answer_comes_back_and_is_in_the_journal() {
    let f = start().await;
    assert_eq!(f.ask(entity(1), "add a").await.unwrap(), "1");
    assert_eq!(f.ask(entity(1), "add b").await.unwrap(), "2");
    assert_eq!(f.ask(entity(1), "get").await.unwrap(), "a b");
    assert_eq!(f.ask(entity(2), "get").await.unwrap(), "");
    assert_eq!(f.world.activations(entity(1)), 1);
}

#[tokio::test]
async fn refusals_are_the_entitys_own() {
    let f = start().await;
    let Err(AskError::Failed(why)) = f.ask(entity(1), "refuse").await else { panic!() };
    assert_eq!(why.code, "no");
}

#[tokio::test]
async fn a_router_without_a_host_delivers_nothing() {
    let router = Router::new();
    let fate = router.ask(entity(1), Bytes::new(), LONG).await;
    assert_eq!(fate, Err(AskError::NotDelivered));
}

#[tokio::test]
async fn an_unknown_kind_is_not_delivered_and_a_large_body_is_refused() {
    let f = start().await;
    let device = EntityId { kind: EntityKind::Device, id: entity(1).id };
    assert_eq!(f.ask(device, "get").await, Err(AskError::NotDelivered));
    let large = Bytes::from(vec![b'x'; ENTRY_BYTES_MAX + 1]);
    let Err(AskError::Failed(why)) = f.router.ask(entity(1), large, LONG).await else { panic!() };
    assert_eq!(why.code, "too_large");
}

#[tokio::test]
async fn the_queue_is_bounded_and_the_rest_is_told_at_once() {
    let f = start().await;
    let to = entity(1);
    let first = f.ask_later(to, "block");
    f.until("the first is in its handler", |f| f.world.handled.lock().unwrap().len() == 1).await;
    let rest: Vec<_> =
        (1..ENTITY_QUEUE_MAX).map(|n| f.ask_later(to, &format!("add {n}"))).collect();
    f.until("the queue is full", |f| f.unanswered() == ENTITY_QUEUE_MAX).await;
    assert_eq!(f.ask(to, "get").await, Err(AskError::Overloaded));
    assert_eq!(f.ask(entity(2), "get").await.unwrap(), "", "others do not care");
    f.world.gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), "");
    for (n, answer) in rest.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().unwrap(), (n + 1).to_string(), "in order");
    }
    assert_eq!(f.unanswered(), 0);
    f.no_overlap();
}

#[tokio::test]
async fn kept_replies_hold_their_places() {
    let f = start().await;
    let to = entity(1);
    let held: Vec<_> = (0..ENTITY_QUEUE_MAX - 1).map(|_| f.ask_later(to, "hold")).collect();
    f.until("all are held", |f| f.world.handled.lock().unwrap().len() == held.len()).await;
    let last = f.ask_later(to, "block");
    f.until("the last one is in", |f| f.unanswered() == ENTITY_QUEUE_MAX).await;
    assert_eq!(f.ask(to, "release").await, Err(AskError::Overloaded));
    f.world.gate.add_permits(1);
    last.await.unwrap().unwrap();
    f.ask(to, "release").await.unwrap();
    for answer in held {
        assert_eq!(answer.await.unwrap().unwrap(), "released");
    }
}

#[tokio::test]
async fn time_up_in_the_queue_is_not_delivered_and_never_handled() {
    let f = start().await;
    let to = entity(1);
    let first = f.ask_later(to, "block");
    f.until("the first is in its handler", |f| f.world.handled.lock().unwrap().len() == 1).await;
    assert_eq!(f.ask_within(to, "add late", SHORT).await, Err(AskError::NotDelivered));
    f.world.gate.add_permits(1);
    first.await.unwrap().unwrap();
    assert_eq!(f.ask(to, "get").await.unwrap(), "");
}

#[tokio::test]
async fn callers_that_went_away_make_room() {
    let f = start().await;
    let to = entity(1);
    let first = f.ask_later(to, "block");
    f.until("the first is in its handler", |f| f.world.handled.lock().unwrap().len() == 1).await;
    for _ in 0..3 {
        let gone: Vec<_> = (1..ENTITY_QUEUE_MAX).map(|_| f.ask_later(to, "add x")).collect();
        f.until("the queue is full", |f| f.unanswered() == ENTITY_QUEUE_MAX).await;
        for ask in &gone {
            ask.abort();
        }
        f.until("their places are free", |f| f.unanswered() == 1).await;
        assert!(f.stats().kinds[&EntityKind::Task].queued <= ENTITY_QUEUE_MAX);
    }
    f.world.gate.add_permits(1);
    first.await.unwrap().unwrap();
    assert_eq!(f.ask(to, "get").await.unwrap(), "");
}

#[tokio::test]
async fn time_up_in_the_handler_is_an_unknown_outcome() {
    let f = start().await;
    assert_eq!(f.ask_within(entity(1), "block", SHORT).await, Err(AskError::OutcomeUnknown));
    assert_eq!(f.ask_within(entity(2), "hold", SHORT).await, Err(AskError::OutcomeUnknown));
}

#[tokio::test]
async fn a_reply_that_is_dropped_is_an_unknown_outcome() {
    let f = start().await;
    assert_eq!(f.ask(entity(1), "drop").await, Err(AskError::OutcomeUnknown));
    assert_eq!(f.ask(entity(1), "get").await.unwrap(), "");
    assert_eq!(f.world.activations(entity(1)), 1);
}

#[tokio::test]
async fn a_slow_handler_is_left_alone() {
    let mut options = quick();
    options.handler_deadline = Duration::from_millis(5);
    let f = crate::counter::start_with(options, MemoryStore::new().stores()).await;
    assert_eq!(f.ask_within(entity(1), "block", SHORT).await, Err(AskError::OutcomeUnknown));
    f.world.gate.add_permits(1);
    assert_eq!(f.ask(entity(1), "add a").await.unwrap(), "1");
    assert_eq!(f.world.activations(entity(1)), 1);
}

#[tokio::test]
async fn an_entitys_own_messages_get_their_turn() {
    let f = start().await;
    f.ask(entity(1), "later a").await.unwrap();
    f.ask(entity(1), "add b").await.unwrap();
    let mut words = String::new();
    for _ in 0..100 {
        words = f.ask(entity(1), "get").await.unwrap();
        if words.contains('a') {
            break;
        }
    }
    assert!(words.contains('a') && words.contains('b'), "{words}");
}

/// Owns the even Shards only.
#[derive(Debug)]
struct Half;

impl Placement for Half {
    fn owner(&self, shard: ShardId) -> Owner {
        if shard.0.is_multiple_of(2) {
            Owner::Here(Epoch(1))
        } else {
            Owner::There(NodeName("other".into()), Epoch(1))
        }
    }
}

#[tokio::test]
async fn a_shard_of_another_node_is_not_delivered() {
    let clock = SystemClock::shared();
    let parts = HostParts {
        options: quick(),
        stores: MemoryStore::new().stores(),
        clock: Arc::clone(&clock),
        placement: Arc::new(Half),
        router: Router::new(),
        tree: ActorTree::new(clock),
    };
    let world = Arc::new(World::default());
    let factory = CounterFactory { world, kind: EntityKind::Task, idle_for: LONG };
    let (_host, router) =
        ShardHost::start(parts, vec![RegisteredKind::new(factory)]).await.unwrap();
    for n in 0..20 {
        let to = entity(n);
        let answer = router.ask(to, Bytes::from_static(b"get"), LONG).await;
        if to.shard().0.is_multiple_of(2) {
            assert_eq!(answer, Ok(Bytes::new()));
        } else {
            assert_eq!(answer, Err(AskError::NotDelivered));
        }
    }
}
