//! I6: soon after the last fault every shard has a live owner, and every Task that runs moves or
//! says why it does not.

use std::collections::BTreeMap;

use super::{Invariant, Violation, epochs::Grant};

/// A row of `node_lease`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) inc: i64,
    pub(crate) seq: i64,
    pub(crate) state: String,
}

/// Leases by node.
pub(crate) type Leases = BTreeMap<String, Lease>;

/// A Task that was to go on.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) task: String,
    /// As the owner told it last; `None` if nobody could be asked.
    pub(crate) status: Option<String>,
    pub(crate) head_before: u64,
    pub(crate) head_after: u64,
    /// What `why` says.
    pub(crate) why: Option<String>,
}

/// Statuses in which a Task goes on by itself.
const ACTIVE: [&str; 3] = ["PENDING", "RUNNING", "CANCELLING"];

/// Shards without an owner whose lease is alive and was renewed between the two looks.
pub(crate) fn unowned(before: &Leases, after: &Leases, shards: &[Grant]) -> Vec<String> {
    let mut found = Vec::new();
    for grant in shards {
        let Grant { shard, owner, inc, .. } = grant;
        let Some(lease) = after.get(owner) else {
            found.push(format!("shard {shard} belongs to {owner}, who is unknown"));
            continue;
        };
        let renewed = before.get(owner).is_some_and(|b| b.inc == lease.inc && b.seq < lease.seq);
        if lease.inc != *inc || lease.state == "dead" {
            let state = &lease.state;
            found.push(format!(
                "shard {shard} belongs to {owner}/{inc}, whose lease is {}/{state}",
                lease.inc
            ));
        } else if !renewed {
            found.push(format!("shard {shard} belongs to {owner}/{inc}, who does not renew"));
        }
    }
    found
}

/// What does not go on.
pub(crate) fn check(
    before: &Leases,
    after: &Leases,
    shards: &[Grant],
    shards_expected: usize,
    tasks: &[Running],
) -> Vec<Violation> {
    let mut found: Vec<String> = Vec::new();
    let unowned = unowned(before, after, shards);
    if let Some(first) = unowned.first() {
        found.push(format!("{} shards have no live owner: {first}", unowned.len()));
    }
    if shards.len() < shards_expected {
        found.push(format!("{} of {shards_expected} shards are claimed", shards.len()));
    }
    for task in tasks {
        let name = &task.task;
        match &task.status {
            None => found.push(format!("{name}: nobody answers for it")),
            Some(status) if !ACTIVE.contains(&status.as_str()) => {}
            Some(_) if task.head_after > task.head_before => {}
            Some(status) => match task.why.as_deref() {
                Some(why) if !why.is_empty() => {}
                _ => found.push(format!("{name} is {status}, stands still and does not say why")),
            },
        }
    }
    found.into_iter().map(|what| Violation::new(Invariant::I6, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(all: &[(&str, i64, i64, &str)]) -> Leases {
        let lease = |(node, inc, seq, state): &(&str, i64, i64, &str)| {
            let state = (*state).to_owned();
            ((*node).to_owned(), Lease { inc: *inc, seq: *seq, state })
        };
        all.iter().map(lease).collect()
    }

    fn shard(owner: &str, inc: i64) -> Grant {
        Grant { shard: 3, epoch: 1, owner: owner.to_owned(), inc }
    }

    fn running(status: Option<&str>, heads: (u64, u64), why: Option<&str>) -> Running {
        Running {
            task: "tsk_a".to_owned(),
            status: status.map(str::to_owned),
            head_before: heads.0,
            head_after: heads.1,
            why: why.map(str::to_owned),
        }
    }

    #[test]
    fn a_cluster_that_goes_on_is_well() {
        let (before, after) = (leases(&[("n1", 1, 5, "alive")]), leases(&[("n1", 1, 7, "alive")]));
        let tasks = [
            running(Some("RUNNING"), (5, 9), None),
            running(Some("RUNNING"), (5, 5), Some("waits for a slot of the team")),
            running(Some("COMPLETED"), (5, 5), None),
        ];
        assert_eq!(check(&before, &after, &[shard("n1", 1)], 1, &tasks), []);
    }

    #[test]
    fn dead_superseded_silent_and_missing_owners_are_found() {
        let before = leases(&[("n1", 2, 5, "alive"), ("n2", 1, 5, "alive")]);
        let after = leases(&[("n1", 2, 7, "alive"), ("n2", 1, 5, "alive")]);
        for (owner, inc) in [("n1", 1), ("n2", 1), ("n3", 1)] {
            assert_eq!(check(&before, &after, &[shard(owner, inc)], 1, &[]).len(), 1, "{owner}");
        }
        let dead = leases(&[("n1", 2, 7, "dead")]);
        assert_eq!(check(&before, &dead, &[shard("n1", 2)], 1, &[]).len(), 1);
        assert_eq!(check(&before, &after, &[], 1, &[]).len(), 1);
    }

    #[test]
    fn a_task_that_stands_still_without_a_word_is_found() {
        let none = Leases::new();
        for task in [
            running(Some("RUNNING"), (5, 5), None),
            running(Some("PENDING"), (5, 5), Some("")),
            running(None, (5, 5), None),
        ] {
            assert_eq!(check(&none, &none, &[], 0, &[task]).len(), 1);
        }
    }
}
