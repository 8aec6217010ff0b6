//! The actor of one entity: activates it, feeds it, closes it.

use std::{fmt, future::Future, pin::pin, sync::Arc};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster_derive::RactorMessage;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug_span};
use troupe_actor::catch_panic;
use troupe_telemetry::{TraceParent, trace};
use troupe_types::{EntityId, Epoch};

use crate::{
    entity::{Crash, Entity, EntityContext, EntityFactory, InternalSender},
    host::shared::HostShared,
    letter::Content,
    shard::{Shard, Work},
};

/// Messages handled before the entity's own ones get their turn.
const FEED_BURST: usize = 16;

/// Where an activation belongs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) host: Arc<HostShared>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) id: EntityId,
    pub(crate) generation: u64,
    pub(crate) epoch: Epoch,
}

/// What an entity's actor is told by its Shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// There is work in the queue.
    Feed,
    /// Close if idle.
    Passivate,
    /// Take on no more work.
    Drain,
    /// The same, and say whether a run is still under way.
    Settle,
    /// Close, idle or not.
    Close,
}

/// A live activation, whatever its kind.
pub(crate) trait Live: fmt::Debug + Send + Sync {
    /// `false`: it is gone.
    fn tell(&self, what: Tell) -> bool;
}

/// The messages of an entity's actor. Local only.
#[derive(Debug, RactorMessage)]
pub(crate) enum EntityMsg<M: Send + 'static> {
    /// From its Shard.
    Tell(Tell),
    /// From its own tasks.
    Internal(M),
}

impl<M: Send + 'static> Live for ActorRef<EntityMsg<M>> {
    fn tell(&self, what: Tell) -> bool {
        self.send_message(EntityMsg::Tell(what)).is_ok()
    }
}

type InternalOf<F> = <<F as EntityFactory>::Entity as Entity>::Internal;

/// The actor of one activation.
#[derive(Debug)]
pub(crate) struct EntityActor<F> {
    pub(crate) factory: Arc<F>,
    pub(crate) place: Place,
}

/// The entity, and what ends with it.
pub(crate) struct EntityState<E> {
    entity: Option<Box<E>>,
    life: Life,
}

/// Stops an entity's own tasks when it goes, however it goes.
struct Life {
    stop: CancellationToken,
    permits: Arc<Semaphore>,
    /// It was told to drain ahead of a planned move.
    settling: bool,
}

impl Life {
    fn new(permits: Arc<Semaphore>) -> Self {
        Self { stop: CancellationToken::new(), permits, settling: false }
    }

    fn end(&self) {
        self.stop.cancel();
        self.permits.close();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

impl<E> EntityState<E> {
    /// The entity goes first, so that nothing of it is left when its Shard hears of the end.
    fn end(&mut self) {
        self.entity = None;
        self.life.end();
    }
}

impl<F: EntityFactory> Actor for EntityActor<F> {
    type Msg = EntityMsg<InternalOf<F>>;
    type State = EntityState<F::Entity>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let permits = Arc::new(Semaphore::new(InternalSender::<()>::PERMITS));
        Ok(EntityState { entity: None, life: Life::new(permits) })
    }

    /// The activation; here and not in `pre_start`, so that the Shard's actor need not wait.
    async fn post_start(
        &self,
        me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Place { host, shard, id, generation, .. } = &self.place;
        let _pass = host.gate.pass().await;
        if !shard.lock().still_wanted(*id, *generation) {
            me.stop(None);
            return Ok(());
        }
        let begun = host.clock.mono();
        let deadline = host.options.activation_deadline;
        let entity = match timeout(deadline, self.activate(&me, &state.life)).await {
            Ok(entity) => entity.inspect_err(|_| state.end())?,
            Err(_) => {
                state.end();
                let reason = "the activation took too long".to_owned();
                return Err(Box::new(Crash { reason, blameless: true }));
            }
        };
        state.entity = Some(entity);
        let now = host.clock.mono();
        if let Some(kind) = host.kind(id.kind) {
            kind.metrics.activations.increment(1);
            kind.metrics.activation_seconds.record(now.since(begun).as_secs_f64());
        }
        let activated = shard.lock().activated(*id, *generation, Box::new(me.clone()), now);
        let Some((feed, drain)) = activated else {
            me.stop(None);
            return Ok(());
        };
        for (wanted, what) in [(feed, Tell::Feed), (drain, Tell::Drain)] {
            if wanted {
                me.tell(what);
            }
        }
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(entity) = state.entity.as_deref_mut() else { return Ok(()) };
        let outcome = match message {
            EntityMsg::Internal(message) => self.watched(entity.internal(message)).await,
            EntityMsg::Tell(Tell::Feed) => self.feed(&me, entity).await,
            EntityMsg::Tell(Tell::Drain) => self.watched(entity.drain()).await,
            EntityMsg::Tell(Tell::Settle) => {
                let first = !std::mem::replace(&mut state.life.settling, true);
                if first { self.watched(entity.drain()).await } else { Ok(()) }
            }
            EntityMsg::Tell(what @ (Tell::Passivate | Tell::Close)) => {
                if self.close(entity, what == Tell::Close).await {
                    state.end();
                    me.stop(None);
                }
                Ok(())
            }
        };
        // The move may be called off meanwhile, so that nobody asks for it any more.
        if let (true, Some(entity)) = (state.life.settling, state.entity.as_deref()) {
            let Place { shard, id, generation, .. } = &self.place;
            shard.lock().settled(*id, *generation, !entity.is_running());
        }
        outcome.map_err(|crash| {
            state.end();
            ActorProcessingErr::from(crash)
        })
    }
}

impl<F: EntityFactory> EntityActor<F> {
    async fn activate(
        &self,
        me: &ActorRef<EntityMsg<InternalOf<F>>>,
        life: &Life,
    ) -> Result<Box<F::Entity>, Crash> {
        let Place { host, id, epoch, .. } = &self.place;
        let to = me.clone();
        let mut sender = InternalSender::new(move |message| {
            to.send_message(EntityMsg::Internal(message)).is_ok()
        });
        sender.permits = Arc::clone(&life.permits);
        let context = EntityContext {
            id: *id,
            epoch: *epoch,
            clock: Arc::clone(&host.clock),
            stores: host.stores.clone(),
            router: host.router.inside(),
            me: sender,
            stop: life.stop.clone(),
        };
        match catch_panic(self.factory.activate(context)).await {
            Ok(entity) => entity.map(Box::new),
            Err(panic) => Err(Crash { reason: panic.to_string(), blameless: false }),
        }
    }

    /// Hands the entity what its queue holds, one after the other.
    async fn feed(
        &self,
        me: &ActorRef<EntityMsg<InternalOf<F>>>,
        entity: &mut F::Entity,
    ) -> Result<(), Crash> {
        let Place { host, shard, id, generation, .. } = &self.place;
        for _ in 0..FEED_BURST {
            if !host.may_handle(shard.id, self.place.epoch) {
                // The lease ran out while this process slept, say.
                shard.lock().disown(*id, *generation);
                return Ok(());
            }
            let now = host.clock.mono();
            let next = shard.lock().next_work(*id, *generation, now);
            match next {
                None => return Ok(()),
                Some(Work::Wake) => {
                    if let Some(kind) = host.kind(id.kind) {
                        kind.metrics.wakes.increment(1);
                    }
                    self.watched(entity.wake()).await?;
                }
                Some(Work::Letter(Content::Ask(body), reply, trace)) => {
                    let span = self.span(trace, "ask");
                    self.watched(entity.ask(body, reply).instrument(span)).await?;
                }
                Some(Work::Letter(Content::Subscribe(body, sink), reply, trace)) => {
                    let span = self.span(trace, "subscribe");
                    self.watched(entity.subscribe(body, sink, reply).instrument(span)).await?;
                }
            }
        }
        if shard.lock().rest(*id, *generation) {
            me.tell(Tell::Feed);
        }
        Ok(())
    }

    /// The span of a handler, below the one that sent the message.
    fn span(&self, trace: Option<TraceParent>, what: &'static str) -> Span {
        let Place { id, epoch, .. } = &self.place;
        trace::child_of(trace, || {
            debug_span!("entity handle", otel.kind = "consumer", what, kind = id.kind.name(),
                entity = %id, epoch = epoch.0)
        })
    }

    /// Runs a handler to its end. Its deadline is a matter of notice: to end it in the middle
    /// would leave the entity in any state.
    async fn watched(
        &self,
        handler: impl Future<Output = Result<(), Crash>> + Send,
    ) -> Result<(), Crash> {
        let Place { host, shard, id, .. } = &self.place;
        let mut run = pin!(catch_panic(handler));
        let deadline = host.options.handler_deadline;
        let outcome = match timeout(deadline, run.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let deadline_ms = deadline.as_millis();
                tracing::warn!(shard = %shard.id, entity = %id, deadline_ms, "handler is overdue");
                if let Some(kind) = host.kind(id.kind) {
                    kind.metrics.overdue.increment(1);
                }
                run.await
            }
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(panic) => Err(Crash { reason: panic.to_string(), blameless: false }),
        }
    }

    /// Closes the entity if it is idle or must; answers whether it is closed.
    async fn close(&self, entity: &mut F::Entity, force: bool) -> bool {
        let Place { host, shard, id, generation, .. } = &self.place;
        if !force && !entity.is_idle() {
            shard.lock().not_idle(*id, *generation, host.clock.mono());
            return false;
        }
        if !shard.lock().begin_close(*id, *generation, force) {
            return false;
        }
        match timeout(host.options.close_deadline, catch_panic(entity.close())).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                tracing::warn!(shard = %shard.id, entity = %id, %panic, "close panicked");
            }
            Err(_) => tracing::warn!(shard = %shard.id, entity = %id, "close took too long"),
        }
        if let Some(kind) = host.kind(id.kind) {
            kind.metrics.passivations.increment(1);
        }
        true
    }
}
