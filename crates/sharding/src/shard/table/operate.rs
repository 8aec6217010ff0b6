//! What an operator wants of one entity.

use troupe_types::EntityId;

use super::Table;
use crate::shard::{Nudge, slot::Doing};

impl Table {
    /// Has an entity begun anew. `None`: it is not in memory, or nothing new begins here.
    pub(crate) fn restart(&mut self, id: EntityId) -> Option<Nudge> {
        if self.draining {
            return None;
        }
        let slot = self.entities.get_mut(&id)?;
        match &slot.doing {
            Doing::Live { .. } => slot.begin_again(),
            Doing::Closing => slot.wake = true,
            Doing::Resting { .. } => {
                slot.wake = true;
                slot.doing = Doing::Wanted;
                self.wanted.push_back(id);
                return Some(self.look());
            }
            // It begins anew as it is.
            Doing::New | Doing::Wanted | Doing::Starting => {}
        }
        Some(Nudge::Nothing)
    }

    /// Asks one entity to passivate; `false`: something waits for it.
    pub(crate) fn passivate_now(&mut self, id: EntityId) -> bool {
        self.passivate(id);
        self.entities.get(&id).is_none_or(|slot| slot.asked || matches!(slot.doing, Doing::Closing))
    }
}
