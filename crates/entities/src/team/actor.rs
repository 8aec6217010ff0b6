//! The live activation of a Team's slots.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_actor::spawn_task;
use troupe_domain::slots::{Slot, TeamSlots};
use troupe_sharding::{AskError, Crash, Entity, EntityContext, EntityFactory, FrameSink, Reply};
use troupe_types::{EntityKind, TaskId};

use super::address::{SlotAnswer, TeamAsk};
use crate::task::TaskAddress;

/// Makes activations of Teams' slots.
#[derive(Clone, Copy, Debug, Default)]
pub struct TeamFactory;

#[async_trait]
impl EntityFactory for TeamFactory {
    type Entity = TeamActor;

    fn kind(&self) -> EntityKind {
        EntityKind::Team
    }

    fn idle_for(&self) -> Duration {
        Duration::from_secs(300)
    }

    async fn activate(&self, context: EntityContext<TeamInternal>) -> Result<TeamActor, Crash> {
        Ok(TeamActor { slots: TeamSlots::new(1), context, timer: false, draining: false })
    }
}

/// What a Team's own timer tells it.
#[derive(Clone, Copy, Debug)]
pub enum TeamInternal {
    /// A lease may have ended.
    Expiry,
}

/// The slots of one Team for one owner, live.
#[derive(Debug)]
pub struct TeamActor {
    slots: TeamSlots,
    context: EntityContext<TeamInternal>,
    timer: bool,
    draining: bool,
}

impl TeamActor {
    fn tell(&self, granted: Vec<TaskId>) {
        for task in granted {
            let address = TaskAddress::new(self.context.router.clone(), task);
            spawn_task("team-slot-notice", async move { address.slot_changed().await });
        }
    }

    fn arm_timer(&mut self) {
        let Some(at) = self.slots.next_expiry().filter(|_| !self.timer) else { return };
        self.timer = true;
        let wait = at.since(self.context.clock.mono());
        let (me, stop) = (self.context.me.clone(), self.context.stop.clone());
        spawn_task("team-expiry", async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => { let _ = me.send(TeamInternal::Expiry); }
                () = stop.cancelled() => {}
            }
        });
    }
}

#[async_trait]
impl Entity for TeamActor {
    type Internal = TeamInternal;

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        let now = self.context.clock.mono();
        let mut granted = Vec::new();
        match serde_json::from_slice(&body) {
            Ok(TeamAsk::Acquire { task, owner, slots, running }) => {
                self.slots.set_limit(slots);
                let answer = if running {
                    self.slots.renew(task, owner, now);
                    SlotAnswer::Granted
                } else {
                    answer_of(&self.slots.acquire(task, owner, now, &mut granted))
                };
                reply.ok(serde_json::to_vec(&answer).map(Bytes::from).unwrap_or_default());
                granted.retain(|other| *other != task);
            }
            Ok(TeamAsk::Release { task }) => {
                self.slots.release(task, now, &mut granted);
                reply.ok(Bytes::new());
            }
            Err(_) => reply.fail(AskError::NotDelivered),
        }
        self.tell(granted);
        self.arm_timer();
        Ok(())
    }

    async fn subscribe(
        &mut self,
        _body: Bytes,
        _sink: FrameSink,
        reply: Reply,
    ) -> Result<(), Crash> {
        reply.fail(AskError::NotDelivered);
        Ok(())
    }

    async fn internal(&mut self, message: TeamInternal) -> Result<(), Crash> {
        match message {
            TeamInternal::Expiry => {
                self.timer = false;
                let mut granted = Vec::new();
                self.slots.expire(self.context.clock.mono(), &mut granted);
                self.tell(granted);
                self.arm_timer();
            }
        }
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        // Grants are soft: they come back by the Tasks that hold them, wherever those are.
        self.draining || self.slots.is_empty()
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        self.draining = true;
        Ok(())
    }

    async fn close(&mut self) {}
}

fn answer_of(slot: &Slot) -> SlotAnswer {
    let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    match *slot {
        Slot::Granted => SlotAnswer::Granted,
        Slot::Queued { position, .. } => SlotAnswer::Queued { position: place(position) },
        Slot::Full => SlotAnswer::Queued { position: place(troupe_domain::slots::WAITING_MAX) },
    }
}
