//! Which rows of a replicated journal count: one pure function for the owner, any other
//! reader, and whoever checks a history.

use std::collections::{BTreeMap, HashMap};

use troupe_types::{Fence, Seq};

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
