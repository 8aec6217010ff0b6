//! A Task that is to run in a container: `on: container`.

use std::sync::Arc;

use troupe_actor::spawn_task;
use troupe_domain::task::TeamPlan;
use troupe_resources::selector::{Selector, Term};
use troupe_store::{CasError, DirectoryRow};
use troupe_types::{ErrorType, TaskId, Timestamp};

use super::{
    actor::TaskActor,
    job::is_kept,
    place::{Placed, Search},
};
use crate::device::container::{
    self, ContainerRow, ContainerState, Containers, PoolRow, WANT_AGAIN, WANT_STALE,
};

/// Tries to change a row that its pool changes, too.
const KEEP_TRIES: u32 = 5;
/// What a selector calls any container.
const CONTAINER: &str = "container";

/// Whether a selector wants a container, and no device that somebody joined.
pub(super) fn is_wanted(selector: &Selector) -> bool {
    selector.terms().contains(&Term::Device(CONTAINER.to_owned()))
}

impl Search {
    /// There is none yet that could take it: how far is it?
    pub(super) async fn want_container(&self) -> Placed {
        let now = self.clock.now();
        let all = match Containers::read(self.directory.as_ref()).await {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(%error, "containers were not listed");
                return Placed::Unknown;
            }
        };
        let own = all.tasks.iter().find(|(_, row)| row.task == self.task);
        let said = match own {
            None => container::insert(self.directory.as_ref(), &self.wish(now)).await,
            Some((old, row)) => match &row.state {
                ContainerState::Failed { text } => return self.failed(old, text.clone()).await,
                ContainerState::Wanted if now.since(row.asked_at) >= WANT_AGAIN => {
                    let again = ContainerRow { asked_at: now, ..row.clone() };
                    container::change(self.directory.as_ref(), old, &again).await
                }
                ContainerState::Wanted => Ok(true),
                ContainerState::Starting { .. } | ContainerState::Running { .. } => {
                    return self.wait("container_starting", &[]);
                }
            },
        };
        if let Err(error) = said {
            tracing::warn!(%error, "a container was not asked for");
            return Placed::Unknown;
        }
        let since = own.map_or(now, |(_, row)| row.since);
        self.queued(&all, since, now)
    }

    fn wish(&self, now: Timestamp) -> ContainerRow {
        ContainerRow {
            v: 1,
            task: self.task,
            owner: self.owner,
            image: image_of(&self.plan, self.execution.member),
            keep: is_kept(&self.labels),
            since: now,
            asked_at: now,
            state: ContainerState::Wanted,
        }
    }

    /// Its place in the queue.
    fn queued(&self, all: &Containers, since: Timestamp, now: Timestamp) -> Placed {
        let live: Vec<&PoolRow> = all.live_pools(now).collect();
        let max = live.iter().fold(0, |sum: u32, pool| sum.saturating_add(pool.max));
        if max == 0 {
            return self.wait("no_containers", &[]);
        }
        let count = |is: &dyn Fn(&ContainerRow) -> bool| {
            all.tasks.iter().filter(|(_, row)| is(row)).count().to_string()
        };
        // Those of a node that is gone take no place of the others.
        let running = count(&|row| live.iter().any(|pool| row.state.node() == Some(&*pool.node)));
        let ahead = count(&|row| {
            let waits = row.state == ContainerState::Wanted;
            waits && row.since < since && now.since(row.asked_at) < WANT_STALE
        });
        let args = [("running", running), ("max", max.to_string()), ("ahead", ahead)];
        self.wait("container_queued", &args)
    }

    /// Said once: a retry asks anew.
    async fn failed(&self, old: &DirectoryRow, text: String) -> Placed {
        match container::remove(self.directory.as_ref(), old).await {
            Ok(_) | Err(CasError::OutcomeUnknown { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "a failed container's row stays");
                return Placed::Unknown;
            }
        }
        Placed::Failed(ErrorType::ContainerError, text)
    }
}

impl TaskActor {
    /// Its container stays while it idles, or does not any more: best effort, as the pool looks at
    /// the row alone. What is lost with its node is said again by changing the label again.
    pub(super) fn keep_container(&mut self, keep: bool) {
        let directory = Arc::clone(&self.context.stores.directory);
        let task = TaskId::from_uuid(self.context.id.id);
        // The one before must not say the older word after this.
        self.keeping = None;
        let saying = spawn_task("task-keep", async move {
            for _ in 0..KEEP_TRIES {
                let (old, row) = match container::of(directory.as_ref(), task).await {
                    Ok(Some((old, row))) if row.keep != keep => (old, row),
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%task, %error, "whether a container stays was not read");
                        return;
                    }
                };
                let row = ContainerRow { keep, ..row };
                if let Ok(true) = container::change(directory.as_ref(), &old, &row).await {
                    return;
                }
            }
            tracing::warn!(%task, "whether a container stays was not said");
        });
        self.keeping = Some(saying.abort_on_drop());
    }
}

fn image_of(plan: &TeamPlan, member: u32) -> Option<String> {
    plan.member(member).and_then(|member| member.base_image.clone())
}
