//! Who waits for a slot of a device, and in which order.
//!
//! Soft: a Task that waits asks again and again, and who has not asked for a while is not in line
//! any more. Executions have ids that rise with the time they were made at, so that the order is the
//! same after the loss of all of it, and at every device: who waits longest goes first.

use std::{collections::BTreeMap, time::Duration};

use troupe_types::{ExecutionId, MonoTime};

/// How long a place is kept for who does not ask again.
pub const PLACE_KEPT: Duration = Duration::from_secs(6);
/// Most places of a line; whoever comes later asks again until there is one.
pub const PLACES_MAX: usize = 4_096;

/// The line before a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    places: BTreeMap<ExecutionId, MonoTime>,
}

impl Line {
    /// Takes or keeps a place; answers how many are before it.
    pub fn wait(&mut self, execution: ExecutionId, now: MonoTime) -> usize {
        self.places.retain(|_, until| *until > now);
        if self.places.len() < PLACES_MAX || self.places.contains_key(&execution) {
            self.places.insert(execution, now.plus(PLACE_KEPT));
        }
        self.places.range(..execution).count()
    }

    /// Gives a place back.
    pub fn leave(&mut self, execution: ExecutionId) {
        self.places.remove(&execution);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self, now: MonoTime) -> usize {
        self.places.values().filter(|until| **until > now).count()
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::Uuid;

    use super::*;

    fn execution(n: u128) -> ExecutionId {
        ExecutionId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn the_oldest_goes_first_whoever_asks_first() {
        let (mut line, now) = (Line::default(), MonoTime::default());
        assert_eq!(line.wait(execution(3), now), 0);
        assert_eq!(line.wait(execution(1), now), 0);
        assert_eq!(line.wait(execution(2), now), 1);
        assert_eq!(line.wait(execution(3), now), 2);
        line.leave(execution(1));
        assert_eq!((line.wait(execution(3), now), line.len(now)), (1, 2));
    }

    #[test]
    fn who_does_not_ask_again_loses_the_place_and_gets_it_back() {
        let (mut line, begin) = (Line::default(), MonoTime::default());
        line.wait(execution(1), begin);
        let soon = begin.plus(PLACE_KEPT / 2);
        line.wait(execution(2), soon);
        assert_eq!(line.wait(execution(3), soon), 2);
        let later = begin.plus(PLACE_KEPT);
        assert_eq!((line.len(later), line.wait(execution(3), later)), (2, 1));
        assert_eq!(line.wait(execution(1), later), 0, "it is older than all of them");
        assert_eq!(line.wait(execution(3), later), 2);
    }

    #[test]
    fn a_line_has_an_end() {
        let (mut line, now) = (Line::default(), MonoTime::default());
        for n in 0..=PLACES_MAX as u128 {
            line.wait(execution(n), now);
        }
        assert_eq!(line.len(now), PLACES_MAX);
        assert_eq!(line.wait(execution(u128::from(u32::MAX)), now), PLACES_MAX);
        assert_eq!(line.len(now), PLACES_MAX);
    }
}
