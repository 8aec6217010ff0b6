//! The actor of a Shard: spawns and supervises the actors of its entities.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use troupe_actor::{ActorEntry, ChildEnd, child_end, spawn_task};
use troupe_store::DeadLetter;
use troupe_types::{EntityId, Uuid, uuid};

use super::{Aftermath, End, Poison, Shard};
use crate::{
    activation::Place,
    ask::{AskError, FailedAsk},
    entity::Crash,
    host::shared::HostShared,
};

/// Tries to write one dead letter, and the time for each.
const BURY_TRIES: u32 = 3;
const BURY_DEADLINE: Duration = Duration::from_secs(5);

/// When a wake-up that was put off is tried again.
const WAKE_AGAIN: Duration = Duration::from_secs(30);

/// What a Shard's actor is told. Local only.
#[derive(Debug, RactorMessage)]
pub(crate) enum ShardMsg {
    /// Something is wanted.
    Look,
    /// The back-off of an entity is over.
    Rested(EntityId, u64),
}

/// The actor of one Shard.
#[derive(Debug)]
pub(crate) struct ShardActor {
    pub(crate) host: Arc<HostShared>,
    pub(crate) shard: Arc<Shard>,
}

/// Whom it supervises.
#[derive(Debug)]
pub(crate) struct ShardState {
    children: HashMap<ActorId, (EntityId, u64)>,
    entry: Arc<ActorEntry>,
}

impl Actor for ShardActor {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = Arc<ActorEntry>;

    async fn pre_start(
        &self,
        _: ActorRef<ShardMsg>,
        entry: Arc<ActorEntry>,
    ) -> Result<ShardState, ActorProcessingErr> {
        Ok(ShardState { children: HashMap::new(), entry })
    }

    async fn post_start(
        &self,
        me: ActorRef<ShardMsg>,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        self.shard.lock().actor_started(me.clone());
        self.look(&me, state).await;
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<ShardMsg>,
        message: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMsg::Look => self.look(&me, state).await,
            ShardMsg::Rested(id, generation) => {
                let wanted = self.shard.lock().rested(id, generation);
                if wanted {
                    self.look(&me, state).await;
                }
            }
        }
        Ok(())
    }

    /// An entity's end is not the end of its Shard.
    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<ShardMsg>,
        event: SupervisionEvent,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        let (child, end) = match child_end(event) {
            Some(ChildEnd::Stopped { id, .. }) => (id, End::Stopped),
            Some(ChildEnd::Crashed { id, error }) => (id, End::Crashed(crash_of(error))),
            None => return Ok(()),
        };
        if let Some((id, generation)) = state.children.remove(&child) {
            self.ended(&me, state, id, generation, end).await;
        }
        Ok(())
    }
}

impl ShardActor {
    /// Spawns an actor for everything that is wanted. The activations themselves run in those.
    async fn look(&self, me: &ActorRef<ShardMsg>, state: &mut ShardState) {
        loop {
            let next = self.shard.lock().next_wanted();
            let Some((id, generation)) = next else { return };
            let Some(kind) = self.host.kind(id.kind) else { continue };
            let place = Place {
                host: Arc::clone(&self.host),
                shard: Arc::clone(&self.shard),
                id,
                generation,
                epoch: self.shard.epoch(),
            };
            match kind.host.spawn(place, me.get_cell()).await {
                Ok(child) => {
                    state.children.insert(child, (id, generation));
                }
                Err(error) => {
                    let reason = format!("the actor did not start: {error}");
                    let end = End::Crashed(Crash { reason, blameless: true });
                    self.settle_end(me, state, id, generation, end);
                }
            }
        }
    }

    async fn ended(
        &self,
        me: &ActorRef<ShardMsg>,
        state: &mut ShardState,
        id: EntityId,
        generation: u64,
        end: End,
    ) {
        if self.settle_end(me, state, id, generation, end) {
            self.look(me, state).await;
        }
    }

    /// Answers whether something is wanted at once.
    fn settle_end(
        &self,
        me: &ActorRef<ShardMsg>,
        state: &ShardState,
        id: EntityId,
        generation: u64,
        end: End,
    ) -> bool {
        let crash = match &end {
            End::Crashed(crash) => Some((crash.reason.clone(), crash.blameless)),
            End::Stopped => None,
        };
        let now = self.host.clock.mono();
        let after = self.shard.lock().ended(id, generation, end, now);
        if let Some((reason, blameless)) = crash {
            self.report(state, id, &reason, blameless, &after);
        }
        if let Some(poison) = after.poison {
            self.bury(id, poison);
        }
        if after.wake_later {
            self.host.note_wake(id, self.host.clock.now().plus(WAKE_AGAIN));
        }
        if let Some(wait) = after.retry {
            // Ends with the actor; the handle is not needed.
            drop(me.send_after(wait, move || ShardMsg::Rested(id, generation)));
        }
        after.look
    }

    fn report(
        &self,
        state: &ShardState,
        id: EntityId,
        reason: &str,
        blameless: bool,
        after: &Aftermath,
    ) {
        state.entry.restarted(reason);
        let shard = self.shard.id;
        let retry_ms = after.retry.map_or(0, |wait| wait.as_millis());
        if let Some(kind) = self.host.kind(id.kind) {
            kind.restarts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let metrics = &kind.metrics;
            match (after.in_activation, blameless) {
                (true, _) => metrics.activation_failures.increment(1),
                (false, true) => metrics.crashes_blameless.increment(1),
                (false, false) => metrics.crashes.increment(1),
            }
        }
        if after.in_activation {
            tracing::warn!(%shard, entity = %id, reason, retry_ms, "activation failed");
        } else {
            tracing::warn!(%shard, entity = %id, reason, blameless, retry_ms, "entity crashed");
        }
    }

    /// Writes a dead letter, then tells the caller.
    fn bury(&self, id: EntityId, poison: Poison) {
        if let Some(kind) = self.host.kind(id.kind) {
            kind.metrics.dead_letters.increment(1);
        }
        let host = Arc::clone(&self.host);
        drop(spawn_task("dead letter", async move {
            let Poison { letter, strikes, reason } = poison;
            let at = host.clock.now();
            let error = if letter.is_some() { reason } else { format!("in wake: {reason}") };
            let message = letter.as_ref().map_or_else(Bytes::new, |letter| letter.body().clone());
            let record = DeadLetter { id: letter_id(at), entity: id, message, error, strikes, at };
            tracing::error!(entity = %id, letter = %record.id, strikes, "message given up");
            put(&host, record).await;
            if let Some(letter) = letter {
                letter.answer(Err(AskError::Failed(FailedAsk {
                    code: "poisoned".to_owned(),
                    message: "the message was given up: its handler crashed every time".to_owned(),
                    detail: None,
                })));
            }
        }));
    }
}

async fn put(host: &HostShared, record: DeadLetter) {
    for _ in 0..BURY_TRIES {
        let put = host.stores.dead_letters.put(record.clone());
        match tokio::time::timeout(BURY_DEADLINE, put).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if !error.is_transient() => {
                tracing::error!(entity = %record.entity, %error, "dead letter refused");
                return;
            }
            Ok(Err(_)) | Err(_) => tokio::time::sleep(host.options.backoff_min).await,
        }
    }
    tracing::error!(entity = %record.entity, letter = %record.id, "dead letter not written");
}

fn letter_id(at: troupe_types::Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millis()).unwrap_or(0);
    let nanos = u32::try_from(millis % 1_000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, millis / 1_000, nanos))
}

/// The entity's own words, or a panic's.
fn crash_of(error: ActorProcessingErr) -> Crash {
    match error.downcast::<Crash>() {
        Ok(crash) => *crash,
        Err(error) => Crash { reason: error.to_string(), blameless: false },
    }
}
