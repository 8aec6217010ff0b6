//! Which rows of a replicated journal count: one pure function for the owner, any other
//! reader, and whoever checks a history.

use std::collections::{BTreeMap, HashMap, HashSet};

use troupe_types::{Epoch, Fence, Seq};

/// Where each fence's own entries start. Pruned below the snapshot, but the fence that is in
/// force there stays.
pub type Starts = BTreeMap<Fence, Seq>;

/// The fence whose row counts at `seq`: the greatest one that starts at or below it.
#[must_use]
pub fn fence_at(starts: &Starts, seq: Seq) -> Option<Fence> {
    starts.iter().rev().find(|(_, start)| **start <= seq).map(|(fence, _)| *fence)
}

/// The gapless effective log above `above`: row (s, f) counts if and only if f is the greatest
/// fence with `starts[f] <= s`. Everything else is garbage of a fenced writer.
#[must_use]
pub fn effective_log<T>(
    mut rows: HashMap<(Seq, Fence), T>,
    starts: &Starts,
    above: Seq,
) -> Vec<(Fence, T)> {
    let mut log = Vec::new();
    let mut seq = above.next();
    while let Some(fence) = fence_at(starts, seq) {
        let Some(row) = rows.remove(&(seq, fence)) else { break };
        log.push((fence, row));
        seq = seq.next();
    }
    log
}

/// Drops the last rows of a log if the append that they came with is not there to its end.
///
/// An append is written whole or not at all at each replica, but a read in pages asks another
/// quorum for each page, and what a read repairs is a page. `last` tells the last seq of the
/// append that a row came with. What was acked is at a quorum, so every page shows it.
pub fn drop_partial<T>(log: &mut Vec<(Fence, T)>, above: Seq, last: impl Fn(&T) -> Seq) {
    let end = |log: &[(Fence, T)]| above.plus(log.len() as u64);
    while log.last().is_some_and(|(_, row)| last(row) > end(log)) {
        log.pop();
    }
}

/// What is left of `starts` once everything up to `upto` is in a snapshot.
#[must_use]
pub fn prune(starts: &Starts, upto: Seq) -> Starts {
    let in_force = fence_at(starts, upto).unwrap_or(Fence::ZERO);
    starts.range(in_force..).map(|(fence, start)| (*fence, *start)).collect()
}

/// What guards a journal, and the tags of the rows that lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// The epoch under which it was claimed last.
    pub epoch: Epoch,
    /// The newest fence.
    pub fence: Fence,
    /// Where each fence's own entries start.
    pub starts: Starts,
    /// The end of the current snapshot.
    pub snapshot_seq: Seq,
    /// Rows above the snapshot, of whatever fence, the newest first.
    pub rows: Vec<(Seq, Fence)>,
    /// Whether these are all of them.
    pub is_whole: bool,
}

/// What must never be in a journal (I2). All of it is settled: what is under way makes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A fence above the newest one has a start.
    StartUnclaimed(Fence),
    /// A newer fence starts below an older one: what the older one committed does not count.
    StartsBack(Fence, Fence),
    /// A row of a fence above the newest one.
    RowUnclaimed(Seq, Fence),
    /// Two rows of one number count.
    Twice(Seq),
    /// It was there when a newer fence started behind it, and nothing of this number counts now.
    Missing(Seq),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StartUnclaimed(fence) => write!(f, "fence {fence} starts and was never claimed"),
            Self::StartsBack(older, newer) => write!(f, "fence {newer} starts below fence {older}"),
            Self::RowUnclaimed(seq, fence) => {
                write!(f, "entry {seq} is of fence {fence}, which was never claimed")
            }
            Self::Twice(seq) => write!(f, "entry {seq} counts twice"),
            Self::Missing(seq) => write!(f, "entry {seq} is missing"),
        }
    }
}

impl Tags {
    /// Everything that must not be, in order. Rows must have been read before the rest.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let unclaimed = self.starts.keys().filter(|fence| **fence > self.fence);
        faults.extend(unclaimed.map(|fence| Fault::StartUnclaimed(*fence)));
        let pairs = self.starts.iter().zip(self.starts.iter().skip(1));
        let back = pairs.filter(|((_, older), (_, newer))| newer < older);
        faults.extend(back.map(|((older, _), (newer, _))| Fault::StartsBack(*older, *newer)));
        let above = self.rows.iter().filter(|(_, fence)| *fence > self.fence);
        faults.extend(above.map(|(seq, fence)| Fault::RowUnclaimed(*seq, *fence)));

        let mut counted = HashSet::new();
        for (seq, fence) in &self.rows {
            if fence_at(&self.starts, *seq) == Some(*fence) && !counted.insert(*seq) {
                faults.push(Fault::Twice(*seq));
            }
        }
        // Whoever started last had read everything below its start. If older rows were left out,
        // those of the lowest number may be, too.
        let lowest = self.rows.last().filter(|_| !self.is_whole).map(|(seq, _)| *seq);
        let settled = self.starts.values().max().copied().unwrap_or(Seq::ZERO);
        let mut seq = lowest.map_or(self.snapshot_seq, |seq| seq.max(self.snapshot_seq)).next();
        while seq < settled && counted.contains(&seq) {
            seq = seq.next();
        }
        if seq < settled {
            faults.push(Fault::Missing(seq));
        }
        faults.sort_unstable();
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(pairs: &[(u64, u64)]) -> Starts {
        pairs.iter().map(|&(f, s)| (Fence(f), Seq(s))).collect()
    }

    #[test]
    fn rows_of_a_fenced_writer_do_not_count() {
        let starts = starts(&[(1, 1), (3, 3)]);
        let rows = [(1, 1), (2, 1), (3, 1), (4, 1), (3, 3), (2, 2)];
        let rows = rows.iter().map(|&(s, f)| ((Seq(s), Fence(f)), (s, f))).collect();
        let log = effective_log(rows, &starts, Seq::ZERO);
        assert_eq!(log, [(Fence(1), (1, 1)), (Fence(1), (2, 1)), (Fence(3), (3, 3))]);
    }

    fn tags(fence: u64, pairs: &[(u64, u64)], rows: &[(u64, u64)]) -> Tags {
        Tags {
            epoch: Epoch(1),
            fence: Fence(fence),
            starts: starts(pairs),
            snapshot_seq: Seq(0),
            rows: rows.iter().map(|&(s, f)| (Seq(s), Fence(f))).collect(),
            is_whole: true,
        }
    }

    #[test]
    fn what_fences_and_late_writers_leave_behind_is_no_fault() {
        let rows = [(5, 3), (4, 1), (3, 3), (3, 1), (2, 2), (2, 1), (1, 1)];
        assert_eq!(tags(3, &[(1, 1), (3, 3)], &rows).faults(), [], "garbage and an append alone");
        assert_eq!(tags(7, &[], &[]).faults(), [], "claimed, not started");
        let trimmed = Tags { snapshot_seq: Seq(9), ..tags(4, &[(3, 4), (4, 12)], &[]) };
        let rows = vec![(Seq(11), Fence(3)), (Seq(10), Fence(3))];
        assert_eq!(Tags { rows, ..trimmed.clone() }.faults(), []);
        let cut = Tags { is_whole: false, rows: vec![(Seq(11), Fence(3))], ..trimmed };
        assert_eq!(cut.faults(), [], "what was not read is not missed");
    }

    #[test]
    fn each_fault_of_a_journal_is_named() {
        let whole = [(3, 1), (2, 1), (1, 1)];
        let found = [
            (tags(1, &[(1, 1), (2, 4)], &whole), Fault::StartUnclaimed(Fence(2))),
            (tags(2, &[(1, 3), (2, 1)], &[(2, 2), (1, 2)]), Fault::StartsBack(Fence(1), Fence(2))),
            (tags(1, &[(1, 1)], &[(4, 2), (1, 1)]), Fault::RowUnclaimed(Seq(4), Fence(2))),
            (tags(1, &[(1, 1)], &[(1, 1), (1, 1)]), Fault::Twice(Seq(1))),
            (tags(2, &[(1, 1), (2, 4)], &[(3, 1), (1, 1)]), Fault::Missing(Seq(2))),
            (tags(2, &[(1, 1), (2, 4)], &[(3, 1), (2, 2), (1, 1)]), Fault::Missing(Seq(2))),
        ];
        for (tags, fault) in found {
            assert_eq!(tags.faults(), [fault], "{tags:?}");
        }
    }

    #[test]
    fn an_append_without_its_end_does_not_count() {
        // Each row is the last seq of its append.
        let log = |ends: &[u64]| ends.iter().map(|end| (Fence(1), Seq(*end))).collect::<Vec<_>>();
        for (ends, left) in [
            (&[][..], 0),
            (&[11, 14, 14, 14], 4),
            (&[11, 14, 14], 1),
            (&[11, 14], 1),
            (&[14, 14], 0),
            (&[11, 12, 14], 2),
        ] {
            let mut rows = log(ends);
            drop_partial(&mut rows, Seq(10), |end| *end);
            assert_eq!(rows.len(), left, "{ends:?}");
        }
    }

    #[test]
    fn pruning_keeps_what_the_log_above_needs() {
        let all = starts(&[(1, 1), (2, 5), (4, 5), (5, 9)]);
        let kept = prune(&all, Seq(6));
        assert_eq!(kept, starts(&[(4, 5), (5, 9)]));
        for seq in 7..12 {
            assert_eq!(fence_at(&all, Seq(seq)), fence_at(&kept, Seq(seq)));
        }
    }
}
