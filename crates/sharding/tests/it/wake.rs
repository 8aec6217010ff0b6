//! The wake loop.

use std::{num::NonZeroU32, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;
use troupe_sharding::HostOptions;
use troupe_store::{MemoryStore, Stores, WakeChange, WakeKind};
use troupe_types::{EntityId, EntityKind, Seq, Timestamp};

use crate::counter::{START, entity, quick, start, start_with};

async fn write_wake(stores: &Stores, id: EntityId, due: Timestamp) {
    let opened = stores.journal.open(id, stores.boot_epoch).await.unwrap();
    let wake = vec![WakeChange::Insert { due, kind: WakeKind::Run }];
    stores.journal.append(&opened, Seq(1), vec![], wake).await.unwrap();
}

#[tokio::test]
async fn what_is_due_at_the_start_is_woken_and_what_is_not_is_not() {
    let stores = MemoryStore::new().stores();
    for n in 0..1_500 {
        write_wake(&stores, entity(n), START).await;
    }
    write_wake(&stores, entity(5_000), START.plus(Duration::from_secs(60))).await;
    // Nobody here knows devices; it is passed over.
    let device = EntityId { kind: EntityKind::Device, id: entity(1).id };
    write_wake(&stores, device, START).await;
    let f = start_with(quick(), stores).await;
    f.until("all were woken", |f| f.world.wakes() == 1_500).await;
    assert_eq!(f.world.activations(entity(5_000)), 0);
    f.clock.advance(Duration::from_secs(60));
    f.until("the late one too", |f| f.world.activations(entity(5_000)) == 1).await;
}

#[tokio::test]
async fn wake_ups_are_paced() {
    let stores = MemoryStore::new().stores();
    for n in 0..60 {
        write_wake(&stores, entity(n), START).await;
    }
    let begun = Instant::now();
    let options = HostOptions { wakes_per_second: NonZeroU32::new(200).unwrap(), ..quick() };
    let f = start_with(options, stores).await;
    f.until("all were woken", |f| f.world.wakes() == 60).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(190), "{took:?}");
}

#[tokio::test]
async fn a_noted_wake_up_needs_no_reading() {
    let f = start().await;
    f.host.note_wake(entity(1), START.plus(Duration::from_secs(30)));
    f.router.note_wake(entity(2), START);
    // Beyond the horizon: only a later reading finds it, and there is no row.
    f.router.note_wake(entity(3), START.plus(Duration::from_secs(3_600)));
    f.until("the second is woken", |f| f.world.wakes() == 1).await;
    assert_eq!(f.world.activations(entity(1)), 0);
    f.clock.advance(Duration::from_secs(3_600));
    f.until("the first is woken", |f| f.world.activations(entity(1)) == 1).await;
    assert_eq!(f.world.activations(entity(3)), 0);
}

#[tokio::test]
async fn the_index_is_read_again_and_again() {
    let stores = MemoryStore::new().stores();
    let f = start_with(quick(), stores.clone()).await;
    f.ask(entity(9), "get").await.unwrap();
    write_wake(&stores, entity(1), START).await;
    f.clock.advance(Duration::from_secs(301));
    f.until("it is found", |f| f.world.activations(entity(1)) == 1).await;
}

#[tokio::test]
async fn an_index_that_cannot_be_read_is_read_later() {
    let memory = MemoryStore::new();
    write_wake(&memory.stores(), entity(1), START).await;
    memory.set_replica_down(0, true);
    memory.set_replica_down(1, true);
    let f = start_with(quick(), memory.stores()).await;
    f.router.note_wake(entity(2), START);
    f.until("what is known is woken", |f| {
        f.world.wakes.lock().unwrap().contains(&entity(2)) || f.world.activations(entity(2)) > 0
    })
    .await;
    memory.set_replica_down(0, false);
    memory.set_replica_down(1, false);
    f.until("the rest follows", |f| f.world.wakes.lock().unwrap().contains(&entity(1))).await;
}

/// Whoever cannot be activated for want of the store is woken as soon as it is back, however long
/// that took; not only by the next reading of the index.
#[tokio::test]
async fn a_wake_up_outlives_failures_that_nobody_is_to_blame_for() {
    let f = start().await;
    f.world.fail_activations.store(12, Ordering::SeqCst);
    f.router.note_wake(entity(1), START);
    f.until("it is woken", |f| f.world.wakes() == 1).await;
    assert_eq!(f.world.activations(entity(1)), 13);
}

#[tokio::test]
async fn a_wake_up_that_memory_is_too_short_for_comes_back_by_itself() {
    let options = HostOptions { activations_max: 1, ..quick() };
    let f = start_with(options, MemoryStore::new().stores()).await;
    f.world.fail_activations.store(usize::MAX, Ordering::SeqCst);
    let both = [entity(1), entity(2)];
    both.iter().for_each(|id| f.router.note_wake(*id, START));
    f.until("both are put off", |f| {
        let failed = |id: &EntityId| f.host.watch().entity(*id).map_or(0, |info| info.restarts);
        both.iter().all(|id| failed(id) >= 8)
    })
    .await;
    f.world.fail_activations.store(0, Ordering::SeqCst);
    assert_eq!(f.world.wakes(), 0);
    f.clock.advance(Duration::from_secs(31));
    f.until("both are woken", |f| f.world.wakes() == 2).await;
}
