//! Which entities are looked at closely: some that have something to do, some in memory, and some
//! of all that there are, from a place by chance on.

use std::collections::BTreeSet;

use troupe_types::{EntityId, EntityKind, Timestamp, Uuid};

use super::STORE_TIMEOUT;
use crate::admin::{Operations, in_time};

/// Journals that are looked at.
pub(super) const JOURNALS_MAX: usize = 64;
/// Of them, those of entities that have something to do.
const DUE_JOURNALS_MAX: usize = 24;
/// Entities whose homes are asked for them.
pub(super) const HOMES_MAX: usize = 256;

/// Entities to look at.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// At most [`JOURNALS_MAX`]; those that have something to do come first.
    pub(super) journals: Vec<EntityId>,
    /// At most [`HOMES_MAX`]; the journals' are among them.
    pub(super) homes: Vec<EntityId>,
}

impl Operations {
    /// `nodes`: who is asked which entities are busy.
    pub(super) async fn sample(&self, nodes: &[String]) -> Result<Sample, String> {
        let all = Timestamp::from_millis(i64::MAX);
        let due = self.wakes(all, HOMES_MAX).await?;
        let due: BTreeSet<EntityId> = due.iter().map(|row| row.entity).collect();
        let stored = self.stored().await?;
        let mut journals: Vec<EntityId> = due.iter().copied().take(DUE_JOURNALS_MAX).collect();
        let others: Vec<EntityId> =
            stored.into_iter().filter(|entity| !journals.contains(entity)).collect();
        journals.extend(others);
        journals.truncate(JOURNALS_MAX);
        let mut homes: BTreeSet<EntityId> = journals.iter().copied().collect();
        let busy = self.busy(nodes).await;
        for entity in busy.into_iter().chain(due) {
            if homes.len() < HOMES_MAX {
                homes.insert(entity);
            }
        }
        Ok(Sample { journals, homes: homes.into_iter().collect() })
    }

    /// Some of all journals. The places of a store are in an order of its own, and a name by
    /// chance lies somewhere in it.
    async fn stored(&self) -> Result<Vec<EntityId>, String> {
        let inventory = &self.parts.stores.inventory;
        let from = EntityId { kind: EntityKind::Task, id: Uuid::new_v4() };
        let list = inventory.entities(Some(from), JOURNALS_MAX);
        let mut found = in_time(STORE_TIMEOUT, list).await?;
        if found.len() < JOURNALS_MAX {
            let list = inventory.entities(None, JOURNALS_MAX - found.len());
            let first = in_time(STORE_TIMEOUT, list).await?;
            let new: Vec<_> = first.into_iter().filter(|entity| !found.contains(entity)).collect();
            found.extend(new);
        }
        Ok(found)
    }

    /// What the nodes name as their busiest; one that does not answer names none.
    async fn busy(&self, nodes: &[String]) -> Vec<EntityId> {
        let asked = nodes.iter().map(|node| self.operator().queues(Some(node)));
        let told = futures::future::join_all(asked).await;
        let deepest = told.into_iter().filter_map(Result::ok).flat_map(|queues| queues.deepest);
        deepest.filter_map(|view| view.entity.parse().ok()).collect()
    }
}
