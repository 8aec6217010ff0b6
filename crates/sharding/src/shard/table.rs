//! The entities of a Shard and every decision about them: what is admitted, activated, fed.

mod ends;
mod operate;
mod unload;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use ractor::{ActorId, ActorRef};
use tokio::sync::OwnedSemaphorePermit;
use troupe_types::{EntityId, MonoTime};

use super::{
    Nudge, Work,
    actor::ShardMsg,
    slot::{Census, Doing, Slot},
};
use crate::{
    activation::{Live, Tell},
    ask::AskError,
    letter::{AskCell, Content, Letter},
};

/// Whether the actor of the Shard is there.
#[derive(Debug)]
enum ShardActorState {
    Absent,
    Starting,
    Running(ActorRef<ShardMsg>),
}

/// The entities of one Shard.
#[derive(Debug)]
pub(crate) struct Table {
    census: Census,
    backoff: (Duration, Duration),
    draining: bool,
    /// It is about to be handed over: runs end their step, messages are answered meanwhile.
    settling: bool,
    /// It is handed over, or lost: messages wait for the next owner.
    released: bool,
    actor: ShardActorState,
    entities: HashMap<EntityId, Slot>,
    /// Entities to be activated, in order.
    wanted: VecDeque<EntityId>,
    generation: u64,
    quiet_sweeps: u32,
}

impl Table {
    pub(super) fn new(census: Census, backoff: (Duration, Duration)) -> Self {
        Self {
            census,
            backoff,
            draining: false,
            settling: false,
            released: false,
            actor: ShardActorState::Absent,
            entities: HashMap::new(),
            wanted: VecDeque::new(),
            generation: 0,
            quiet_sweeps: 0,
        }
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (&EntityId, &Slot)> {
        self.entities.iter()
    }

    /// Whether a message is for whoever owns the Shard next.
    pub(crate) fn sends_away(&self, id: &EntityId, inside: bool) -> bool {
        self.released && !(inside && self.entities.contains_key(id))
    }

    /// Admits a message. `inside`: it comes from an entity, so a drain does not stop it as long
    /// as its addressee is there. `asker`: who asks, once there is a place in the queue.
    pub(crate) fn post<T>(
        &mut self,
        id: EntityId,
        content: Content,
        inside: bool,
        now: MonoTime,
        asker: impl FnOnce(OwnedSemaphorePermit) -> (Arc<AskCell>, T),
    ) -> Result<(T, Nudge), AskError> {
        let refused = self.draining && !(inside && self.entities.contains_key(&id));
        if refused {
            return Err(AskError::NotDelivered);
        }
        let slot = self.slot(id, now).ok_or(AskError::Overloaded)?;
        if slot.is_hopeless() {
            return Err(AskError::NotDelivered);
        }
        let place = slot.place().ok_or(AskError::Overloaded)?;
        let (cell, answer) = asker(place);
        slot.queue.push_back(Letter::new(content, cell));
        slot.last_used = now;
        Ok((answer, self.stir(id)))
    }

    /// Has an entity woken.
    pub(crate) fn wake(&mut self, id: EntityId, now: MonoTime) -> Nudge {
        // Whoever has the Shard next reads the wake index.
        if self.draining || self.settling {
            return Nudge::Nothing;
        }
        // With too many in memory it is left to the next reading of the wake index.
        let Some(slot) = self.slot(id, now) else { return Nudge::Nothing };
        slot.wake = true;
        slot.last_used = now;
        self.stir(id)
    }

    /// The entity, in memory from now on; `None`: there are too many.
    fn slot(&mut self, id: EntityId, now: MonoTime) -> Option<&mut Slot> {
        match self.entities.entry(id) {
            Entry::Occupied(slot) => Some(slot.into_mut()),
            Entry::Vacant(place) => Some(place.insert(Slot::new(&self.census, now)?)),
        }
    }

    /// Gets an entity going that has something to do.
    fn stir(&mut self, id: EntityId) -> Nudge {
        let Some(slot) = self.entities.get_mut(&id) else { return Nudge::Nothing };
        match &slot.doing {
            Doing::Live { actor, .. } if !slot.fed => {
                // A dead actor takes nothing; its end is on the way and stirs again.
                slot.fed = actor.tell(Tell::Feed);
                Nudge::Nothing
            }
            Doing::New | Doing::Resting { over: true } => {
                slot.doing = Doing::Wanted;
                self.wanted.push_back(id);
                self.look()
            }
            _ => Nudge::Nothing,
        }
    }

    fn look(&mut self) -> Nudge {
        match &self.actor {
            ShardActorState::Absent => {
                self.actor = ShardActorState::Starting;
                Nudge::Start
            }
            ShardActorState::Starting => Nudge::Nothing,
            ShardActorState::Running(actor) => Nudge::Look(actor.clone()),
        }
    }

    /// The Shard's actor is there. What an earlier one left behind is begun anew.
    pub(crate) fn actor_started(&mut self, actor: ActorRef<ShardMsg>) {
        self.actor = ShardActorState::Running(actor);
        self.wanted.clear();
        for slot in self.entities.values_mut() {
            // A message in its handler went down with the earlier actors: outcome unknown.
            slot.at_hand = None;
            slot.forget_settled();
            slot.begin_anew();
        }
        self.entities.retain(|_, slot| slot.has_work());
        self.wanted.extend(self.entities.keys());
    }

    /// The Shard's actor could not be started, or is gone for good.
    pub(crate) fn actor_gone(&mut self) {
        self.actor = ShardActorState::Absent;
        self.wanted.clear();
        self.entities.clear();
    }

    /// An actor of the Shard ended: whether another one is needed. One that was retired is not.
    pub(crate) fn actor_ended(&mut self, actor: ActorId) -> bool {
        match &self.actor {
            ShardActorState::Running(running) if running.get_id() == actor => {}
            _ => return false,
        }
        let needed = !self.entities.is_empty() && !self.draining;
        self.actor = if needed { ShardActorState::Starting } else { ShardActorState::Absent };
        needed
    }

    #[cfg(test)]
    pub(crate) fn actor(&self) -> Option<ActorRef<ShardMsg>> {
        match &self.actor {
            ShardActorState::Running(actor) => Some(actor.clone()),
            _ => None,
        }
    }

    /// The next entity to activate, with the generation of its activation.
    pub(crate) fn next_wanted(&mut self) -> Option<(EntityId, u64)> {
        while let Some(id) = self.wanted.pop_front() {
            let Some(slot) = self.entities.get_mut(&id) else { continue };
            if !matches!(slot.doing, Doing::Wanted) {
                continue;
            }
            self.generation += 1;
            slot.generation = self.generation;
            slot.doing = Doing::Starting;
            return Some((id, self.generation));
        }
        None
    }

    fn activation(&mut self, id: EntityId, generation: u64) -> Option<&mut Slot> {
        self.entities.get_mut(&id).filter(|slot| slot.generation == generation)
    }

    /// Whether anybody still waits for this activation; if not, it is to end.
    pub(crate) fn still_wanted(&mut self, id: EntityId, generation: u64) -> bool {
        let Some(slot) = self.activation(id, generation) else { return false };
        slot.forget_settled();
        let wanted = slot.has_work();
        if !wanted {
            slot.doing = Doing::Closing;
        }
        wanted
    }

    /// The activation is done. `None`: it is not wanted any more; else whether to feed it and
    /// whether to drain it.
    pub(crate) fn activated(
        &mut self,
        id: EntityId,
        generation: u64,
        actor: Box<dyn Live>,
        now: MonoTime,
    ) -> Option<(bool, bool)> {
        // Nothing closes what comes up in a Shard that is let go of: it would stand in the way of
        // the next claim until it is idle for long enough.
        if self.released {
            return None;
        }
        let draining = self.draining || self.settling;
        let slot = self.activation(id, generation)?;
        slot.doing = Doing::Live { actor, since: now };
        // It begins no run, so there is none to wait for.
        slot.settled = draining;
        slot.last_used = now;
        slot.look_after = now;
        slot.asked = false;
        slot.fed = slot.has_work();
        if let Some(trouble) = &mut slot.trouble {
            trouble.failures = 0;
        }
        Some((slot.fed, draining))
    }

    /// Settles the message at hand and hands out the next one. `None`: nothing to do.
    pub(crate) fn next_work(
        &mut self,
        id: EntityId,
        generation: u64,
        now: MonoTime,
    ) -> Option<Work> {
        let slot = self.activation(id, generation)?;
        slot.handled();
        if !matches!(slot.doing, Doing::Live { .. }) {
            return None;
        }
        slot.last_used = now;
        if slot.wake {
            slot.wake = false;
            slot.wake_at_hand = true;
            return Some(Work::Wake);
        }
        while let Some(letter) = slot.queue.pop_front() {
            if let Some((content, reply)) = letter.hand_over() {
                let trace = letter.trace();
                slot.at_hand = Some(letter);
                return Some(Work::Letter(content, reply, trace));
            }
        }
        slot.fed = false;
        None
    }

    /// The Shard is not this node's any more: what waits is for its next owner.
    pub(crate) fn disown(&mut self, id: EntityId, generation: u64) {
        if let Some(slot) = self.activation(id, generation) {
            slot.handled();
            slot.queue.clear();
            (slot.wake, slot.fed) = (false, false);
        }
    }

    /// Settles the message at hand; answers whether there is more.
    pub(crate) fn rest(&mut self, id: EntityId, generation: u64) -> bool {
        let Some(slot) = self.activation(id, generation) else { return false };
        slot.handled();
        slot.fed = slot.has_work();
        slot.fed
    }
}
