//! Which envelopes were here before: per entity 1,024 ids or 10 minutes, with short answers.
//!
//! Pure. It lives with the node that handles, so it covers what is sent again to the same
//! process; what is sent again to another owner is a matter of the entity's journal.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use bytes::Bytes;
use troupe_types::{EntityId, MonoTime, Uuid};
use troupe_wire::Fate;

/// Ids that are remembered of one entity.
pub(crate) const IDS_MAX: usize = 1_024;
/// How long an id is remembered.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(600);
/// Longest answer that is kept.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Ids of all entities together.
const TOTAL_MAX: usize = 262_144;

/// What is known of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Never seen: it is now being handled.
    New,
    /// Being handled.
    Running,
    /// Over; with its answer, if that is kept.
    Over(Option<Fate>),
}

/// Small: there are very many of them, nearly all of tells and commands that were just done.
#[derive(Debug)]
enum Known {
    Running,
    /// Done, and there was nothing to say.
    Done,
    Over(Option<Box<Fate>>),
}

impl Known {
    fn over(kept: Option<&Fate>) -> Self {
        match kept {
            Some(Fate::Done(body)) if body.is_empty() => Self::Done,
            kept => Self::Over(kept.cloned().map(Box::new)),
        }
    }

    fn before(&self) -> Before {
        match self {
            Self::Running => Before::Running,
            Self::Done => Before::Over(Some(Fate::Done(Bytes::new()))),
            Self::Over(fate) => Before::Over(fate.as_deref().cloned()),
        }
    }
}

#[derive(Debug, Default)]
struct Window {
    known: HashMap<Uuid, Known>,
    /// In the order in which they came.
    order: VecDeque<(MonoTime, Uuid)>,
}

/// The windows of all entities.
#[derive(Debug)]
pub(crate) struct Dedupe {
    windows: HashMap<EntityId, Window>,
    total: usize,
    answers_bytes: usize,
    answers_bytes_max: usize,
    swept: MonoTime,
}

fn bytes_of(fate: &Fate) -> usize {
    match fate {
        Fate::Done(body) => body.len(),
        Fate::Failed { code, message, detail } => {
            code.len() + message.len() + detail.as_ref().map_or(0, String::len)
        }
        _ => 0,
    }
}

impl Window {
    /// Forgets the oldest; answers how many bytes of answers went.
    fn forget_oldest(&mut self) -> usize {
        let Some((_, id)) = self.order.pop_front() else { return 0 };
        match self.known.remove(&id) {
            Some(Known::Over(Some(fate))) => bytes_of(&fate),
            _ => 0,
        }
    }
}

impl Dedupe {
    pub(crate) fn new(answers_bytes_max: usize) -> Self {
        Self {
            windows: HashMap::new(),
            total: 0,
            answers_bytes: 0,
            answers_bytes_max,
            swept: MonoTime::ZERO,
        }
    }

    /// An envelope came in.
    pub(crate) fn come(&mut self, entity: EntityId, id: Uuid, now: MonoTime) -> Before {
        self.sweep(now);
        let window = self.windows.entry(entity).or_default();
        match window.known.entry(id) {
            Entry::Occupied(known) => return known.get().before(),
            Entry::Vacant(place) => place.insert(Known::Running),
        };
        window.order.push_back((now, id));
        self.total += 1;
        while window.order.len() > IDS_MAX {
            self.answers_bytes -= window.forget_oldest();
            self.total -= 1;
        }
        if self.total > TOTAL_MAX {
            self.drop_old(now, Duration::ZERO);
        }
        Before::New
    }

    /// It was handled, with this fate. One that leaves nothing behind may come again.
    pub(crate) fn over(&mut self, entity: EntityId, id: Uuid, fate: &Fate) {
        let Some(window) = self.windows.get_mut(&entity) else { return };
        // The first word about an envelope stands.
        let Some(known @ Known::Running) = window.known.get_mut(&id) else { return };
        let nothing_happened = matches!(
            fate,
            Fate::Overloaded | Fate::NotDelivered | Fate::Expired | Fate::NotOwner { .. }
        );
        if nothing_happened {
            window.known.remove(&id);
            window.order.retain(|(_, known)| *known != id);
            self.total -= 1;
            return;
        }
        let bytes = bytes_of(fate);
        let fits =
            bytes <= ANSWER_BYTES_MAX && self.answers_bytes + bytes <= self.answers_bytes_max;
        *known = Known::over(fits.then_some(fate));
        self.answers_bytes += if fits { bytes } else { 0 };
    }

    fn sweep(&mut self, now: MonoTime) {
        if now.since(self.swept) >= Duration::from_secs(10) {
            self.swept = now;
            self.drop_old(now, REMEMBERED);
        }
    }

    /// Forgets what is older, or with zero everything of the fullest half.
    fn drop_old(&mut self, now: MonoTime, age: Duration) {
        let all = age.is_zero();
        let Self { windows, total, answers_bytes, .. } = self;
        windows.retain(|_, window| {
            let keep = if all { window.order.len() / 2 } else { usize::MAX };
            while let Some((came, _)) = window.order.front() {
                let is_old = !all && now.since(*came) >= age;
                if !is_old && window.order.len() <= keep {
                    break;
                }
                *answers_bytes -= window.forget_oldest();
                *total -= 1;
            }
            !window.order.is_empty()
        });
    }

    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        (self.total, self.answers_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use troupe_types::EntityKind;

    use super::*;

    fn entity(n: u128) -> EntityId {
        EntityId { kind: EntityKind::Task, id: Uuid::from_u128(n) }
    }

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn the_same_id_is_handled_once_and_gets_the_same_answer() {
        let mut dedupe = Dedupe::new(1_000_000);
        let id = Uuid::from_u128(1);
        assert_eq!(dedupe.come(entity(1), id, at(1)), Before::New);
        assert_eq!(dedupe.come(entity(1), id, at(2)), Before::Running);
        let done = Fate::Done(Bytes::from_static(b"7"));
        dedupe.over(entity(1), id, &done);
        assert_eq!(dedupe.come(entity(1), id, at(3)), Before::Over(Some(done)));
        assert_eq!(dedupe.come(entity(2), id, at(3)), Before::New, "another entity");
        assert_eq!(dedupe.come(entity(1), id, at(700)), Before::New, "after ten minutes");
    }

    #[test]
    fn what_did_not_happen_may_come_again_and_long_answers_are_not_kept() {
        let mut dedupe = Dedupe::new(1_000_000);
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(dedupe.come(entity(1), one, at(1)), Before::New);
        dedupe.over(entity(1), one, &Fate::Overloaded);
        assert_eq!(dedupe.come(entity(1), one, at(1)), Before::New);
        assert_eq!(dedupe.come(entity(1), two, at(1)), Before::New);
        dedupe.over(entity(1), two, &Fate::Done(Bytes::from(vec![0; 20_000])));
        assert_eq!(dedupe.come(entity(1), two, at(1)), Before::Over(None));
    }

    #[test]
    fn a_window_holds_so_many_ids() {
        let mut dedupe = Dedupe::new(1_000_000);
        let count = u128::try_from(IDS_MAX).unwrap();
        for n in 0..=count {
            assert_eq!(dedupe.come(entity(1), Uuid::from_u128(n), at(1)), Before::New);
        }
        assert_eq!(dedupe.come(entity(1), Uuid::from_u128(1), at(1)), Before::Running);
        assert_eq!(dedupe.come(entity(1), Uuid::from_u128(0), at(1)), Before::New, "forgotten");
    }

    proptest! {
        /// Against a plain list: nothing is handled twice while it is remembered, and the sums
        /// stay what they are.
        #[test]
        fn sums_and_answers_hold(steps in prop::collection::vec((0_u128..3, 0_u128..40, 0_u8..4, 0_u64..30), 1..400)) {
            let mut dedupe = Dedupe::new(600);
            let mut clock = 0;
            let mut running = std::collections::HashSet::new();
            for (of, id, what, later) in steps {
                clock += later;
                let (of, id) = (entity(of), Uuid::from_u128(id));
                match what {
                    0 | 1 => {
                        let before = dedupe.come(of, id, at(clock));
                        if before == Before::New {
                            running.insert((of, id));
                        } else if before == Before::Running {
                            prop_assert!(running.contains(&(of, id)));
                        }
                    }
                    2 => {
                        dedupe.over(of, id, &Fate::Done(Bytes::from(vec![0; 50])));
                        running.remove(&(of, id));
                    }
                    _ => {
                        dedupe.over(of, id, &Fate::Overloaded);
                        running.remove(&(of, id));
                    }
                }
                let (total, bytes) = dedupe.counts();
                let ids: usize = dedupe.windows.values().map(|window| window.known.len()).sum();
                let order: usize = dedupe.windows.values().map(|window| window.order.len()).sum();
                let kept: usize = dedupe.windows.values().flat_map(|window| window.known.values())
                    .map(|known| if let Known::Over(Some(fate)) = known { bytes_of(fate) } else { 0 })
                    .sum();
                prop_assert_eq!((total, total, bytes), (ids, order, kept));
                prop_assert!(bytes <= 600);
            }
        }
    }
}
