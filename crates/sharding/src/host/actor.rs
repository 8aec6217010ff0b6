//! The actor above the Shards.

use std::{collections::HashMap, sync::Arc};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use troupe_actor::{ActorEntry, Backoff, ChildEnd, child_end};
use troupe_types::ShardId;

use super::shared::HostShared;
use crate::shard::actor::ShardActor;

/// What the host's actor is told. Local only.
#[derive(Debug, RactorMessage)]
pub(crate) enum HostMsg {
    /// A Shard has work and no actor.
    Start(ShardId),
}

/// Starts the actors of Shards when they are needed.
#[derive(Debug)]
pub(crate) struct HostActor(pub(crate) Arc<HostShared>);

/// Whom it supervises.
#[derive(Debug)]
pub(crate) struct HostState {
    entry: Arc<ActorEntry>,
    shards: HashMap<ActorId, ShardId>,
    backoff: Backoff,
}

impl Actor for HostActor {
    type Msg = HostMsg;
    type State = HostState;
    type Arguments = Arc<ActorEntry>;

    async fn pre_start(
        &self,
        _: ActorRef<HostMsg>,
        entry: Arc<ActorEntry>,
    ) -> Result<HostState, ActorProcessingErr> {
        let options = &self.0.options;
        let backoff =
            Backoff::bounded(options.backoff_min, options.backoff_max, options.backoff_max, 0);
        Ok(HostState { entry, shards: HashMap::new(), backoff })
    }

    async fn handle(
        &self,
        me: ActorRef<HostMsg>,
        HostMsg::Start(id): HostMsg,
        state: &mut HostState,
    ) -> Result<(), ActorProcessingErr> {
        let Ok(shard) = self.0.shard(id).map(Arc::clone) else { return Ok(()) };
        let entry = self.0.tree.add(format!("shard {id}"), Some(&state.entry));
        let actor = ShardActor { host: Arc::clone(&self.0), shard: Arc::clone(&shard) };
        match Actor::spawn_linked(None, actor, entry, me.get_cell()).await {
            Ok((actor, _)) => {
                state.shards.insert(actor.get_id(), id);
            }
            Err(error) => {
                tracing::error!(shard = %id, %error, "shard did not start");
                shard.lock().actor_gone();
            }
        }
        Ok(())
    }

    /// A Shard's end is not the end of the host: its entities are begun anew.
    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<HostMsg>,
        event: SupervisionEvent,
        state: &mut HostState,
    ) -> Result<(), ActorProcessingErr> {
        let (child, reason) = match child_end(event) {
            Some(ChildEnd::Stopped { id, reason }) => (id, reason),
            Some(ChildEnd::Crashed { id, error }) => (id, Some(error.to_string())),
            None => return Ok(()),
        };
        let Some(id) = state.shards.remove(&child) else { return Ok(()) };
        let Ok(shard) = self.0.shard(id) else { return Ok(()) };
        if shard.lock().actor_ended(child) {
            let reason = reason.unwrap_or_default();
            tracing::error!(shard = %id, reason, "shard went down");
            state.entry.restarted(&reason);
            let wait = state.backoff.failed(self.0.clock.mono());
            // Ends with the actor; the handle is not needed.
            drop(me.send_after(wait, move || HostMsg::Start(id)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use troupe_actor::{ActorTree, settle};
    use troupe_store::MemoryStore;
    use troupe_types::{EntityId, EntityKind, SystemClock, Uuid};

    use crate::{
        AskError, Crash, Entity, EntityContext, EntityFactory, FrameSink, HostParts, OneNode,
        RegisteredKind, Reply, Router, ShardHost,
    };

    const LONG: Duration = Duration::from_secs(10);

    /// Says how often it was woken; answers nothing to an empty message.
    #[derive(Debug)]
    struct Echo(u8);

    #[async_trait]
    impl EntityFactory for Echo {
        type Entity = Self;

        fn kind(&self) -> EntityKind {
            EntityKind::Task
        }

        fn idle_for(&self) -> Duration {
            LONG
        }

        async fn activate(&self, _: EntityContext<()>) -> Result<Self, Crash> {
            Ok(Self(0))
        }
    }

    #[async_trait]
    impl Entity for Echo {
        type Internal = ();

        async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
            if body.is_empty() {
                std::future::pending::<()>().await;
            }
            reply.ok(Bytes::from(vec![self.0]));
            Ok(())
        }

        async fn subscribe(&mut self, _: Bytes, _: FrameSink, _: Reply) -> Result<(), Crash> {
            Ok(())
        }

        async fn internal(&mut self, (): ()) -> Result<(), Crash> {
            Ok(())
        }

        async fn wake(&mut self) -> Result<(), Crash> {
            self.0 += 1;
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

    #[tokio::test]
    async fn a_shard_that_goes_down_begins_anew() {
        let clock = SystemClock::shared();
        let stores = MemoryStore::new().stores();
        let parts = HostParts {
            options: crate::HostOptions::default(),
            placement: std::sync::Arc::new(OneNode(stores.boot_epoch)),
            stores,
            clock: clock.clone(),
            router: Router::new(),
            tree: ActorTree::new(clock),
        };
        let tree = parts.tree.clone();
        let kinds = vec![RegisteredKind::new(Echo(0))];
        let (host, router) = ShardHost::start(parts, kinds).await.unwrap();
        let to = EntityId { kind: EntityKind::Task, id: Uuid::from_u128(7) };
        let word = Bytes::from_static(b"x");
        assert_eq!(router.ask(to, word.clone(), LONG).await.unwrap(), vec![0]);

        let shard = host.shared.shard(to.shard()).unwrap();
        let (handled, queued) = tokio::join!(router.ask(to, Bytes::new(), LONG), async {
            let (asked, _) = tokio::join!(router.ask(to, word, LONG), async {
                let waits = || host.stats().kinds[&EntityKind::Task].unanswered == 2;
                assert!(settle(LONG, waits).await);
                shard.lock().actor().unwrap().kill();
            });
            asked
        });
        assert_eq!(handled, Err(AskError::OutcomeUnknown));
        assert_eq!(queued.unwrap(), vec![1], "a new activation, woken first");
        assert_eq!(tree.list()[0].restarts, 1);
    }
}
