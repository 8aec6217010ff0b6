//! What the end of an activation leads to.

use troupe_types::{EntityId, MonoTime};

use super::Table;
use crate::shard::{
    ACTIVATION_TRIES, Aftermath, End,
    slot::{Doing, Trouble},
};

/// Failed activations in a row after which a wake-up alone may be put off. One that nobody is to
/// blame for (the store is away) stays, unless memory is short: its back-off is capped, and a Task
/// that runs must not stand still until the wake index is read again.
const WAKE_TRIES: u32 = 8;

impl Table {
    /// An activation ended.
    pub(crate) fn ended(
        &mut self,
        id: EntityId,
        generation: u64,
        end: End,
        now: MonoTime,
    ) -> Aftermath {
        let (draining, backoff) = (self.draining, self.backoff);
        let is_crowded = self.census.is_crowded();
        let Some(slot) = self.activation(id, generation) else { return Aftermath::default() };
        slot.fed = false;
        slot.asked = false;
        let crash = match end {
            End::Stopped => {
                slot.at_hand = None;
                return self.stopped(id);
            }
            End::Crashed(crash) => crash,
        };
        let mut after = Aftermath::default();
        let trouble = slot.trouble.get_or_insert_with(|| Trouble::new(id, backoff));
        trouble.last_error.clone_from(&crash.reason);
        trouble.restarts += 1;
        after.in_activation = matches!(slot.doing, Doing::Starting);
        if after.in_activation {
            trouble.failures += 1;
            if trouble.failures >= ACTIVATION_TRIES {
                slot.queue.clear();
            }
            if trouble.failures >= WAKE_TRIES && (is_crowded || !crash.blameless) {
                after.wake_later = std::mem::take(&mut slot.wake) && !draining;
            }
        } else {
            after.poison = slot.blame(crash);
        }
        if draining {
            self.entities.remove(&id);
            return after;
        }
        slot.doing = Doing::Resting { over: false };
        after.retry = slot.trouble.as_mut().map(|trouble| trouble.backoff.failed(now));
        after
    }

    fn stopped(&mut self, id: EntityId) -> Aftermath {
        let draining = self.draining;
        let Some(slot) = self.entities.get_mut(&id) else { return Aftermath::default() };
        slot.forget_settled();
        if draining || !slot.has_work() {
            self.entities.remove(&id);
            return Aftermath::default();
        }
        slot.doing = Doing::Wanted;
        self.wanted.push_back(id);
        Aftermath { look: true, ..Aftermath::default() }
    }

    /// The back-off is over; answers whether the entity is wanted.
    pub(crate) fn rested(&mut self, id: EntityId, generation: u64) -> bool {
        let draining = self.draining;
        let Some(slot) = self.activation(id, generation) else { return false };
        if !matches!(slot.doing, Doing::Resting { .. }) || draining {
            return false;
        }
        slot.forget_settled();
        if !slot.has_work() {
            slot.doing = Doing::Resting { over: true };
            return false;
        }
        slot.doing = Doing::Wanted;
        self.wanted.push_back(id);
        true
    }
}
