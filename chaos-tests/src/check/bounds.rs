//! I7: memory of every node grows by less than its limit.

use std::collections::BTreeMap;

use super::{Invariant, Violation};
use crate::history::{Record, What};

/// KiB by which each process of a node grew at most, from its first sample in the span on.
pub(crate) fn growth<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    span: std::ops::Range<u64>,
) -> BTreeMap<(String, u32), u64> {
    let mut first: BTreeMap<(String, u32), (u64, u64)> = BTreeMap::new();
    for record in records.into_iter().filter(|record| span.contains(&record.at)) {
        if let What::Memory { node, pid, kib } = &record.what {
            let seen = first.entry((node.clone(), *pid)).or_insert((*kib, *kib));
            seen.1 = seen.1.max(*kib);
        }
    }
    first.into_iter().map(|(who, (first, most))| (who, most - first)).collect()
}

/// Nodes beyond `kib_max`; those of `except` may.
pub(crate) fn check(
    growth: &BTreeMap<(String, u32), u64>,
    kib_max: u64,
    except: &str,
) -> Vec<Violation> {
    let beyond = growth.iter().filter(|((node, _), kib)| **kib >= kib_max && node != except);
    let what = |((node, pid), kib): (&(String, u32), &u64)| {
        format!("{node} (process {pid}) grew by {kib} KiB, at most {kib_max} are allowed")
    };
    beyond.map(|seen| Violation::new(Invariant::I7, what(seen))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, node: &str, pid: u32, kib: u64) -> Record {
        Record { at, what: What::Memory { node: node.to_owned(), pid, kib } }
    }

    #[test]
    fn growth_beyond_the_limit_is_found() {
        let history = [
            sample(0, "n1", 1, 10),
            sample(5, "n1", 1, 100),
            sample(6, "n1", 1, 190),
            sample(7, "n1", 1, 120),
            sample(6, "n2", 2, 100),
            sample(8, "n2", 2, 110),
            sample(8, "n1", 9, 500),
        ];
        let growth = growth(&history, 5..10);
        assert_eq!(growth[&("n1".to_owned(), 1)], 90);
        assert_eq!(growth[&("n1".to_owned(), 9)], 0, "another process begins anew");
        assert_eq!(check(&growth, 91, ""), []);
        assert_eq!(check(&growth, 90, "").len(), 1);
        assert_eq!(check(&growth, 5, "n1").len(), 1);
    }
}
