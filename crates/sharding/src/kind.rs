//! A kind of entity as the host sees it: its factory behind one object-safe trait.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use ractor::{Actor, ActorCell, ActorId, SpawnErr};
use troupe_types::EntityKind;

use crate::{
    activation::{EntityActor, Place},
    entity::EntityFactory,
    metrics::KindMetrics,
};

/// Spawns the actors of one kind.
#[async_trait]
pub(crate) trait KindHost: fmt::Debug + Send + Sync {
    fn kind(&self) -> EntityKind;

    fn idle_for(&self) -> Duration;

    /// Starts the actor of an entity; the activation goes on in there.
    async fn spawn(&self, place: Place, supervisor: ActorCell) -> Result<ActorId, SpawnErr>;
}

/// A factory, ready to be given to [`ShardHost::start`](crate::ShardHost::start).
#[derive(Clone, Debug)]
pub struct RegisteredKind(pub(crate) Arc<dyn KindHost>);

impl RegisteredKind {
    /// Registers a factory for its kind.
    #[must_use]
    pub fn new(factory: impl EntityFactory) -> Self {
        Self(Arc::new(FactoryHost(Arc::new(factory))))
    }
}

#[derive(Debug)]
struct FactoryHost<F>(Arc<F>);

#[async_trait]
impl<F: EntityFactory> KindHost for FactoryHost<F> {
    fn kind(&self) -> EntityKind {
        self.0.kind()
    }

    fn idle_for(&self) -> Duration {
        self.0.idle_for()
    }

    async fn spawn(&self, place: Place, supervisor: ActorCell) -> Result<ActorId, SpawnErr> {
        let actor = EntityActor { factory: Arc::clone(&self.0), place };
        let (actor, _) = Actor::spawn_linked(None, actor, (), supervisor).await?;
        Ok(actor.get_id())
    }
}

/// A registered kind with its numbers.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) host: Arc<dyn KindHost>,
    pub(crate) metrics: KindMetrics,
    /// Activations that were started again after a crash.
    pub(crate) restarts: AtomicU64,
}

impl Kind {
    pub(crate) fn new(registered: RegisteredKind) -> Self {
        let metrics = KindMetrics::new(registered.0.kind());
        Self { host: registered.0, metrics, restarts: AtomicU64::new(0) }
    }
}
