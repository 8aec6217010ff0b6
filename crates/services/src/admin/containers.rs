//! Containers as administrators see them.

use std::time::Duration;

use troupe_api::admin::{ContainerView, ContainersView, PoolView};
use troupe_entities::device::container::{ContainerRow, ContainerState, Containers};
use troupe_types::Timestamp;

/// How long the store may take.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn view(all: &Containers, now: Timestamp) -> ContainersView {
    let live: Vec<&str> = all.live_pools(now).map(|pool| pool.node.as_str()).collect();
    let used = |node: &str| {
        all.tasks.iter().filter(|(_, row)| row.state.node().is_some_and(|of| of == node)).count()
    };
    let pools = all.pools.iter().map(|(_, pool)| PoolView {
        node: pool.node.clone(),
        max: pool.max,
        used: u32::try_from(used(&pool.node)).unwrap_or(u32::MAX),
        live: live.contains(&pool.node.as_str()),
    });
    let mut items: Vec<ContainerView> = all.tasks.iter().map(|(_, row)| one(row)).collect();
    items.sort_by_key(|item| (item.since, item.task_id));
    ContainersView { pools: pools.collect(), items }
}

fn one(row: &ContainerRow) -> ContainerView {
    let (state, name, error) = match &row.state {
        ContainerState::Wanted => ("wanted", None, None),
        ContainerState::Starting { .. } => ("starting", None, None),
        ContainerState::Running { name, .. } => ("running", Some(name.clone()), None),
        ContainerState::Failed { text } => ("failed", None, Some(text.clone())),
    };
    ContainerView {
        task_id: row.task,
        state: state.to_owned(),
        name,
        node: row.state.node().map(str::to_owned),
        image: row.image.clone(),
        since: row.since,
        error,
    }
}
