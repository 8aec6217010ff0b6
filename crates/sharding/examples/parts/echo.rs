//! An entity that answers with what it is asked, and tasks that ask.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;
use troupe_sharding::{Crash, Entity, EntityContext, EntityFactory, FrameSink, Reply, Router};
use troupe_types::{EntityId, EntityKind, Uuid};

pub(crate) const ENTITIES: u128 = 10_000;
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct EchoFactory;

pub(crate) struct Echo;

#[async_trait]
impl EntityFactory for EchoFactory {
    type Entity = Echo;

    fn kind(&self) -> EntityKind {
        EntityKind::Task
    }

    fn idle_for(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    async fn activate(&self, _: EntityContext<()>) -> Result<Echo, Crash> {
        Ok(Echo)
    }
}

#[async_trait]
impl Entity for Echo {
    type Internal = ();

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        reply.ok(body);
        Ok(())
    }

    async fn subscribe(&mut self, _: Bytes, _: FrameSink, _: Reply) -> Result<(), Crash> {
        Ok(())
    }

    async fn internal(&mut self, (): ()) -> Result<(), Crash> {
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    async fn close(&mut self) {}
}

pub(crate) fn entity(n: u128) -> EntityId {
    let id = Uuid::from_u128((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
    EntityId { kind: EntityKind::Task, id }
}

/// `callers` tasks ask one after the other; answers asks per second and sorted latencies.
pub(crate) async fn run(router: &Router, callers: u128, asks: u128) -> (f64, Vec<Duration>) {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let router = router.clone();
        tasks.spawn(async move {
            let each = asks / callers;
            let mut latencies = Vec::with_capacity(usize::try_from(each).unwrap_or(0));
            for n in 0..each {
                let to = entity((caller * each + n) % ENTITIES);
                let asked = Instant::now();
                let answer = router.ask(to, Bytes::from_static(b"hello"), TIMEOUT).await;
                latencies.push(asked.elapsed());
                assert!(answer.is_ok(), "{answer:?}");
            }
            latencies
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies.unwrap_or_default());
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    all.sort_unstable();
    (rate, all)
}
