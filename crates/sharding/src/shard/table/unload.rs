//! Unloading: by idle time, by number, by drain.

use std::time::Duration;

use ractor::ActorRef;
use troupe_types::{EntityId, MonoTime};

use super::{ShardActorState, Table};
use crate::{
    activation::Tell,
    shard::{
        actor::ShardMsg,
        slot::{Doing, Slot},
    },
};

/// How long an activation that is not idle is left alone.
const NOT_IDLE_PAUSE: Duration = Duration::from_secs(30);

impl Table {
    /// Whether the activation may close now. If so, whatever comes waits for the next one.
    pub(crate) fn begin_close(&mut self, id: EntityId, generation: u64, force: bool) -> bool {
        let Some(slot) = self.activation(id, generation) else { return true };
        if !force && (slot.fed || slot.has_work()) {
            slot.asked = false;
            return false;
        }
        slot.doing = Doing::Closing;
        slot.fed = false;
        slot.wake |= std::mem::take(&mut slot.again);
        true
    }

    /// It is not idle: leave it alone for a while.
    pub(crate) fn not_idle(&mut self, id: EntityId, generation: u64, now: MonoTime) {
        if let Some(slot) = self.activation(id, generation) {
            slot.asked = false;
            slot.look_after = now.plus(NOT_IDLE_PAUSE);
        }
    }

    /// Forgets what is over, asks those to passivate that were idle long enough, and lists the
    /// other idle ones with their last use.
    pub(crate) fn sweep(
        &mut self,
        now: MonoTime,
        idle_for: impl Fn(EntityId) -> Duration,
        idle: &mut Vec<(MonoTime, EntityId)>,
    ) {
        self.entities.retain(|_, slot| {
            if !matches!(slot.doing, Doing::Live { .. }) {
                slot.forget_settled();
            }
            !slot.is_over(now)
        });
        for (id, slot) in &mut self.entities {
            if !slot.may_be_idle() || now < slot.look_after {
                continue;
            }
            if now.since(slot.last_used) >= idle_for(*id) {
                slot.ask_to_passivate();
            } else {
                idle.push((slot.last_used, *id));
            }
        }
        if self.entities.capacity() > 64 && self.entities.len() * 4 < self.entities.capacity() {
            self.entities.shrink_to_fit();
        }
    }

    /// Asks one entity to passivate if nothing waits for it.
    pub(crate) fn passivate(&mut self, id: EntityId) {
        if let Some(slot) = self.entities.get_mut(&id)
            && slot.may_be_idle()
        {
            slot.ask_to_passivate();
        }
    }

    /// The Shard's actor, if it has had nothing to do for two sweeps; it is to stop.
    pub(crate) fn retire(&mut self) -> Option<ActorRef<ShardMsg>> {
        let quiet = self.entities.is_empty() && self.wanted.is_empty();
        self.quiet_sweeps = if quiet { self.quiet_sweeps + 1 } else { 0 };
        let ShardActorState::Running(actor) = &self.actor else { return None };
        if self.quiet_sweeps < 2 {
            return None;
        }
        let actor = actor.clone();
        self.actor = ShardActorState::Absent;
        Some(actor)
    }

    /// Takes nothing new and tells every activation to drain.
    pub(crate) fn begin_drain(&mut self) {
        self.draining = true;
        self.wanted.clear();
        self.entities.retain(|_, slot| match &slot.doing {
            Doing::New | Doing::Wanted | Doing::Resting { .. } => false,
            Doing::Live { actor, .. } => {
                actor.tell(Tell::Drain);
                true
            }
            Doing::Starting | Doing::Closing => true,
        });
    }

    /// Has runs end with their step, while messages are answered as ever; answers whether none
    /// is under way any more. Call it again until then.
    pub(crate) fn settle(&mut self) -> bool {
        self.settling = true;
        let mut settled = true;
        for slot in self.entities.values() {
            match &slot.doing {
                Doing::Live { actor, .. } if !slot.settled => {
                    settled = false;
                    actor.tell(Tell::Settle);
                }
                Doing::Starting => settled = false,
                _ => {}
            }
        }
        settled
    }

    /// What an entity says about its run after it was told to drain.
    pub(crate) fn settled(&mut self, id: EntityId, generation: u64, settled: bool) {
        let moves = self.settling;
        let Some(slot) = self.activation(id, generation) else { return };
        slot.settled = settled;
        if settled && !moves && std::mem::take(&mut slot.renews) {
            slot.begin_again();
        }
    }

    /// The Shard stays after all: what was told to drain begins anew, a run when its step is over.
    pub(crate) fn unsettle(&mut self) {
        if !std::mem::replace(&mut self.settling, false) || self.released {
            return;
        }
        for slot in self.entities.values_mut() {
            match &slot.doing {
                Doing::Live { .. } if !slot.settled => slot.renews = true,
                Doing::Live { actor, .. } => {
                    actor.tell(Tell::Close);
                }
                _ => {}
            }
        }
    }

    /// Drains, and sends what comes from now on to the next owner.
    pub(crate) fn release(&mut self) {
        self.released = true;
        self.settling = false;
        self.begin_drain();
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released
    }

    /// Takes messages again, unless something is still active.
    pub(crate) fn resume(&mut self, draining: bool) -> bool {
        if !self.entities.is_empty() {
            return false;
        }
        self.released = false;
        self.draining = draining;
        true
    }

    /// Asks all that have nothing to do to close; answers how many activations are left.
    pub(crate) fn drain_step(&mut self) -> usize {
        for slot in self.entities.values_mut().filter(|slot| slot.may_be_idle()) {
            slot.ask_to_passivate();
        }
        self.entities.len()
    }

    /// Closes those whose runs are under way; answers how many.
    pub(crate) fn close_unsettled(&mut self) -> usize {
        let runs = |slot: &Slot| matches!(slot.doing, Doing::Live { .. }) && !slot.settled;
        self.close(runs)
    }

    /// Closes all that are left, idle or not.
    pub(crate) fn close_all(&mut self) {
        self.close(|_| true);
    }

    fn close(&mut self, which: impl Fn(&Slot) -> bool) -> usize {
        let mut closed = 0;
        for slot in self.entities.values_mut().filter(|slot| which(slot)) {
            slot.queue.clear();
            slot.wake = false;
            if let Doing::Live { actor, .. } = &slot.doing {
                actor.tell(Tell::Close);
            }
            closed += 1;
        }
        closed
    }
}
