//! I2 and I3: what once counted in a journal counts for ever, and fences follow one another.

use std::collections::BTreeMap;

use troupe_store::effective::{Starts, drop_partial, effective_log};
use troupe_types::{Fence, Seq, Uuid};

use super::{Invariant, Violation};

/// Kind and id.
pub(crate) type Entity = (i8, Uuid);

/// What a row of a journal says besides its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Seq of the last entry of the append that it came with.
    pub(crate) append_last: u64,
    pub(crate) crc: i32,
    pub(crate) first_frame: i64,
    pub(crate) frames: i64,
}

/// A journal as it was read: no row is younger than what stands above them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) epoch: i64,
    pub(crate) fence: u64,
    pub(crate) starts: BTreeMap<u64, u64>,
    pub(crate) snapshot_seq: u64,
    pub(crate) rows: BTreeMap<(u64, u64), Row>,
}

/// All journals at one time.
pub(crate) type Look = BTreeMap<Entity, Journal>;

impl Journal {
    /// Seq, fence and row of what counts. `None` while a claim is under way: what counts is not
    /// settled then.
    fn settled(&self) -> Option<BTreeMap<u64, (u64, Row)>> {
        let starts: Starts = self.starts.iter().map(|(f, s)| (Fence(*f), Seq(*s))).collect();
        if starts.keys().next_back() != Some(&Fence(self.fence)) {
            return None;
        }
        let rows = self.rows.iter().map(|((s, f), row)| ((Seq(*s), Fence(*f)), *row)).collect();
        let above = Seq(self.snapshot_seq);
        let mut log = effective_log(rows, &starts, above);
        drop_partial(&mut log, above, |row: &Row| Seq(row.append_last));
        let first = self.snapshot_seq + 1;
        Some((first..).zip(log).map(|(seq, (fence, row))| (seq, (fence.0, row))).collect())
    }
}

/// What went wrong between an earlier look and a later one.
pub(crate) fn check(earlier: &Look, later: &Look) -> Vec<Violation> {
    let mut found = Vec::new();
    for (entity, now) in later {
        within(*entity, now, &mut found);
        if let Some(before) = earlier.get(entity) {
            between(*entity, before, now, &mut found);
        }
    }
    for entity in earlier.keys().filter(|entity| !later.contains_key(entity)) {
        found.push(Violation::new(Invariant::I2, format!("{entity:?}: its journal is gone")));
    }
    found
}

fn within(entity: Entity, now: &Journal, found: &mut Vec<Violation>) {
    let mut bad = |what: String| {
        found.push(Violation::new(Invariant::I3, format!("{entity:?}: {what}")));
    };
    for ((fence, start), (next, begins)) in now.starts.iter().zip(now.starts.iter().skip(1)) {
        if begins < start {
            bad(format!("fence {next} starts at {begins}, before {start} of fence {fence}"));
        }
    }
    let settled = now.settled().unwrap_or_default();
    let mut expected: Option<i64> = None;
    for (seq, (fence, row)) in &settled {
        if row.frames > 0 {
            if expected.is_some_and(|expected| expected != row.first_frame) {
                let first = row.first_frame;
                bad(format!("entry {seq} of fence {fence} has frame {first}, not {expected:?}"));
            }
            expected = Some(row.first_frame + row.frames);
        }
    }
}

fn between(entity: Entity, before: &Journal, now: &Journal, found: &mut Vec<Violation>) {
    let mut bad = |invariant, what: String| {
        found.push(Violation::new(invariant, format!("{entity:?}: {what}")));
    };
    if now.fence < before.fence || now.epoch < before.epoch {
        let (old, new) = ((before.epoch, before.fence), (now.epoch, now.fence));
        bad(Invariant::I3, format!("epoch and fence fell from {old:?} to {new:?}"));
    }
    let (Some(old), Some(new)) = (before.settled(), now.settled()) else { return };
    for (seq, (fence, row)) in old.range(now.snapshot_seq + 1..) {
        match new.get(seq) {
            Some(found) if found == &(*fence, *row) => {}
            Some((other, _)) => {
                bad(Invariant::I2, format!("entry {seq} of fence {fence} is now of {other}"));
            }
            None => bad(Invariant::I2, format!("entry {seq} of fence {fence} is gone")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTITY: Entity = (1, Uuid::nil());

    /// (seq, fence) with a body of their own; two frames each.
    fn journal(fence: u64, starts: &[(u64, u64)], rows: &[(u64, u64)]) -> Look {
        let row = |&(seq, fence): &(u64, u64)| {
            let (number, f) = (i64::try_from(seq).unwrap(), i32::try_from(fence).unwrap());
            (
                (seq, fence),
                Row { append_last: seq, crc: f * 100, first_frame: number * 2 - 1, frames: 2 },
            )
        };
        let rows = rows.iter().map(row).collect();
        let starts = starts.iter().copied().collect();
        let journal = Journal { epoch: 1, fence, starts, snapshot_seq: 0, rows };
        BTreeMap::from([(ENTITY, journal)])
    }

    #[test]
    fn a_journal_that_grows_and_changes_hands_is_well() {
        let one = journal(1, &[(1, 1)], &[(1, 1), (2, 1)]);
        // A late row of the fenced writer is garbage.
        let two = journal(2, &[(1, 1), (2, 3)], &[(1, 1), (2, 1), (3, 1), (3, 2)]);
        assert_eq!(check(&one, &two), []);
        let mut three = two.clone();
        three.get_mut(&ENTITY).unwrap().snapshot_seq = 2;
        three.get_mut(&ENTITY).unwrap().rows.retain(|(seq, _), _| *seq > 2);
        assert_eq!(check(&two, &three), []);
    }

    #[test]
    fn an_entry_that_vanishes_or_changes_is_found() {
        let one = journal(1, &[(1, 1)], &[(1, 1), (2, 1)]);
        let gone = journal(1, &[(1, 1)], &[(1, 1)]);
        assert_eq!(check(&one, &gone).len(), 1);
        // The next owner did not see the second entry and wrote its own.
        let other = journal(2, &[(1, 1), (2, 2)], &[(1, 1), (2, 1), (2, 2)]);
        assert_eq!(check(&one, &other)[0].invariant, Invariant::I2);
        let mut rewritten = one.clone();
        rewritten.get_mut(&ENTITY).unwrap().rows.get_mut(&(2, 1)).unwrap().crc = 5;
        assert_eq!(check(&one, &rewritten).len(), 1);
        assert_eq!(check(&one, &Look::new()).len(), 1);
    }

    #[test]
    fn while_a_claim_is_under_way_nothing_is_settled() {
        let claimed = journal(2, &[(1, 1)], &[(1, 1), (2, 1), (3, 1)]);
        let after = journal(2, &[(1, 1), (2, 3)], &[(1, 1), (2, 1), (3, 1), (3, 2)]);
        assert_eq!(check(&claimed, &after), []);
    }

    #[test]
    fn frames_with_a_hole_and_fences_that_fall_are_found() {
        let mut holed = journal(1, &[(1, 1)], &[(1, 1), (2, 1)]);
        holed.get_mut(&ENTITY).unwrap().rows.get_mut(&(2, 1)).unwrap().first_frame = 4;
        assert_eq!(check(&Look::new(), &holed)[0].invariant, Invariant::I3);
        let newer = journal(2, &[(1, 1), (2, 2)], &[(1, 1)]);
        let older = journal(1, &[(1, 1)], &[(1, 1)]);
        assert_eq!(check(&newer, &older)[0].invariant, Invariant::I3);
        let crossed = journal(3, &[(1, 1), (2, 4), (3, 3)], &[(1, 1)]);
        assert_eq!(check(&Look::new(), &crossed)[0].invariant, Invariant::I3);
    }
}
