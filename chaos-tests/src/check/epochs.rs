//! I1: epochs of a shard rise, and each has one owner.

use std::collections::BTreeMap;

use super::{Invariant, Violation};

/// A row of `shard` or `shard_log`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) shard: i32,
    pub(crate) epoch: i64,
    pub(crate) owner: String,
    pub(crate) inc: i64,
}

/// `looks` are the rows of `shard` as they were at one time after the other, `log` is `shard_log`
/// at the end. A hole in the log is no violation: a node may die between its claim and its note.
pub(crate) fn check(looks: &[Vec<Grant>], log: &[Grant]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut bad = |what: String| found.push(Violation::new(Invariant::I1, what));
    let mut owners: BTreeMap<(i32, i64), (&str, i64)> = BTreeMap::new();
    for grant in log.iter().chain(looks.iter().flatten()) {
        let owner = (grant.owner.as_str(), grant.inc);
        let known = *owners.entry((grant.shard, grant.epoch)).or_insert(owner);
        if known != owner {
            let Grant { shard, epoch, .. } = grant;
            bad(format!("shard {shard}: epoch {epoch} was given to {known:?} and to {owner:?}"));
        }
    }
    let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
    for grant in looks.iter().flatten() {
        let before = newest.entry(grant.shard).or_insert(grant.epoch);
        if grant.epoch < *before {
            bad(format!("shard {}: epoch {} follows {before}", grant.shard, grant.epoch));
        }
        *before = grant.epoch.max(*before);
    }
    // The log is written after the row: it never knows more than the last look, unless that look
    // was earlier. The caller looks last.
    for grant in log {
        if newest.get(&grant.shard).is_some_and(|epoch| *epoch < grant.epoch) {
            let Grant { shard, epoch, .. } = grant;
            bad(format!("shard {shard}: epoch {epoch} was given, yet its row is older"));
        }
    }
    found.sort_by(|a, b| a.what.cmp(&b.what));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(epoch: i64, owner: &str, inc: i64) -> Grant {
        Grant { shard: 7, epoch, owner: owner.to_owned(), inc }
    }

    #[test]
    fn a_shard_that_moves_on_is_well() {
        let looks = [vec![grant(1, "n1", 1)], vec![grant(2, "n2", 1)], vec![grant(4, "n1", 2)]];
        let log = [grant(1, "n1", 1), grant(2, "n2", 1), grant(4, "n1", 2)];
        assert_eq!(check(&looks, &log), []);
    }

    #[test]
    fn two_owners_of_one_epoch_are_found() {
        let looks = [vec![grant(2, "n2", 1)]];
        let log = [grant(1, "n1", 1), grant(2, "n2", 1), grant(2, "n1", 1)];
        assert_eq!(check(&looks, &log).len(), 1);
        // The same node in another life is another owner.
        let log = [grant(2, "n2", 1), grant(2, "n2", 2)];
        assert_eq!(check(&looks, &log).len(), 1);
        // One of them seen only in passing.
        assert_eq!(check(&[vec![grant(2, "n3", 1)], vec![grant(2, "n2", 1)]], &[]).len(), 1);
    }

    #[test]
    fn an_epoch_that_falls_is_found() {
        let looks = [vec![grant(3, "n1", 1)], vec![grant(2, "n2", 1)]];
        assert_eq!(check(&looks, &[]).len(), 1);
        let looks = [vec![grant(3, "n1", 1)]];
        assert_eq!(check(&looks, &[grant(4, "n2", 1)]).len(), 1);
    }
}
