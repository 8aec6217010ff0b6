//! I8, as far as rows tell: containers whose Task is gone.

use std::{collections::HashSet, time::Duration};

use troupe_api::admin::Check;
use troupe_entities::device::container::{ContainerRow, ContainerState, Containers};
use troupe_types::{TaskId, Timestamp};

use super::{STORE_TIMEOUT, Verdict, check, some};
use crate::admin::{Operations, in_time};

/// A list may be that much behind; a container that has been there for longer belongs to a Task
/// that the list shows.
const LIST_BEHIND: Duration = Duration::from_secs(600);

impl Operations {
    /// Rows that are looked at: the first 1,000.
    pub(super) async fn check_orphans(&self) -> Check {
        let check = check("orphans", "No container outlives its Task").of("I8");
        let read = Containers::read(self.parts.stores.directory.as_ref());
        let all = match in_time(STORE_TIMEOUT, read).await {
            Ok(all) => all,
            Err(why) => return check.unknown(why),
        };
        let ids: Vec<TaskId> = all.tasks.iter().map(|(_, row)| row.task).collect();
        let known = in_time(STORE_TIMEOUT, self.parts.stores.projections.get_tasks(&ids)).await;
        let known = match known {
            Ok(rows) => rows,
            Err(why) => return check.unknown(why),
        };
        let there = known.into_iter().filter(|row| !row.deleted).map(|row| row.task).collect();
        verdict(check, &all, &there, self.parts.clock.now())
    }
}

fn is_there(row: &ContainerRow) -> bool {
    matches!(row.state, ContainerState::Starting { .. } | ContainerState::Running { .. })
}

fn verdict(check: Check, all: &Containers, tasks: &HashSet<TaskId>, now: Timestamp) -> Check {
    let held: Vec<&ContainerRow> =
        all.tasks.iter().map(|(_, row)| row).filter(|row| is_there(row)).collect();
    let lost = held.iter().filter(|row| {
        !tasks.contains(&row.task) && now.since(row.asked_at.max(row.since)) > LIST_BEHIND
    });
    let lost: Vec<TaskId> = lost.map(|row| row.task).collect();
    if !lost.is_empty() {
        let fix = "Their Tasks are gone and their pools keep them: look at them with troupe admin \
                   containers, and remove them by name in the engine of that node.";
        return check.fail(format!("{} of Tasks that are gone: {}", lost.len(), some(&lost)), fix);
    }
    let live: HashSet<&str> = all.live_pools(now).map(|pool| pool.node.as_str()).collect();
    let node = |row: &&ContainerRow| row.state.node().map(str::to_owned);
    let silent: HashSet<String> =
        held.iter().filter_map(node).filter(|node| !live.contains(node.as_str())).collect();
    if !silent.is_empty() {
        let silent: Vec<String> = silent.into_iter().collect();
        let fix = "What runs there is seen and removed once its pool is back: start the node, or \
                   remove its containers by hand.";
        return check.warn(format!("not checked: the pools of {} are silent", some(&silent)), fix);
    }
    check.ok(format!("{} containers, each of a Task that is there", held.len()))
}

#[cfg(test)]
mod tests {
    use troupe_api::admin::CheckState;
    use troupe_entities::device::container::PoolRow;
    use troupe_store::{DirectoryRow, DirectoryTable};
    use troupe_types::{DeviceId, UserId};

    use super::*;

    fn row() -> DirectoryRow {
        DirectoryRow {
            table: DirectoryTable::Container,
            key: "k".into(),
            owner: None,
            version: 1,
            body: "".into(),
        }
    }

    /// A container of a pool at `a`; the pool said something at 0.
    fn containers(since: i64) -> (Containers, TaskId) {
        let task = TaskId::derived(&["x"]);
        let device = DeviceId::derived(&["d"]);
        let at = Timestamp::from_millis;
        let state = ContainerState::Running { node: "a".into(), name: "c".into(), device };
        let container = ContainerRow {
            v: 1,
            task,
            owner: UserId::derived(&["ann"]),
            image: None,
            keep: false,
            since: at(since),
            asked_at: at(since),
            state,
        };
        let pool = PoolRow { v: 1, node: "a".into(), max: 3, at: at(0) };
        (Containers { tasks: vec![(row(), container)], pools: vec![(row(), pool)] }, task)
    }

    #[test]
    fn a_container_without_its_task_is_found_once_lists_must_have_caught_up() {
        let (all, task) = containers(-900_000);
        let now = Timestamp::from_millis(1_000);
        let verdict = |all: &Containers, tasks: &[TaskId], now| {
            let tasks = tasks.iter().copied().collect();
            super::verdict(check("orphans", "."), all, &tasks, now)
        };
        assert_eq!(verdict(&all, &[task], now).state, CheckState::Ok);
        let lost = verdict(&all, &[], now);
        assert_eq!(lost.state, CheckState::Fail);
        assert!(lost.found.contains(&task.to_string()) && lost.fix.is_some(), "{lost:?}");
        assert_eq!(verdict(&containers(0).0, &[], now).state, CheckState::Ok, "a list is behind");
        let later = Timestamp::from_millis(100_000);
        let silent = verdict(&all, &[task], later);
        assert_eq!(silent.state, CheckState::Warn);
        assert!(silent.found.contains("not checked: the pools of a"), "{silent:?}");
    }
}
