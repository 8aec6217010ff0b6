//! Which entities are looked at closely: some that have something to do, some in memory, and some
//! of all that there are, from a place by chance on.

use std::collections::BTreeSet;

use troupe_types::{
    EntityId, EntityKind, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId, Timestamp, Uuid,
};

use super::STORE_TIMEOUT;
use crate::admin::{Operations, in_time};

/// Journals that are looked at.
pub(super) const JOURNALS_MAX: usize = 64;
/// Of them, those of entities that have something to do.
const DUE_JOURNALS_MAX: usize = 24;
/// Entities whose homes are asked for them.
pub(super) const HOMES_MAX: usize = 256;

/// Shards whose wake rows are read for it, from one by chance on: a look at all of them is dear.
const SHARDS_LOOKED_AT: u16 = 64;

/// Entities to look at.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// At most [`JOURNALS_MAX`]; those that have something to do come first.
    pub(super) journals: Vec<EntityId>,
    /// At most [`HOMES_MAX`]; the journals' are among them.
    pub(super) homes: Vec<EntityId>,
    /// Why there are fewer than there could be: what the store did not tell.
    pub(super) lacks: Option<String>,
}

impl Operations {
    /// `nodes`: who is asked which entities are busy.
    pub(super) async fn sample(&self, nodes: &[String]) -> Sample {
        let (due, stored, busy) =
            tokio::join!(self.due_somewhere(), self.stored(), self.busy(nodes));
        let lacks = due.as_ref().err().or(stored.as_ref().err()).cloned();
        let due: BTreeSet<EntityId> = due.unwrap_or_default().into_iter().collect();
        let mut journals: Vec<EntityId> = due.iter().copied().take(DUE_JOURNALS_MAX).collect();
        let stored = stored.unwrap_or_default().into_iter();
        let others: Vec<EntityId> = stored.filter(|entity| !journals.contains(entity)).collect();
        journals.extend(others);
        journals.truncate(JOURNALS_MAX);
        let mut homes: BTreeSet<EntityId> = journals.iter().copied().collect();
        for entity in busy.into_iter().chain(due) {
            if homes.len() < HOMES_MAX {
                homes.insert(entity);
            }
        }
        Sample { journals, homes: homes.into_iter().collect(), lacks }
    }

    /// Entities of some shards that have something to do.
    async fn due_somewhere(&self) -> Result<Vec<EntityId>, String> {
        const SHARDS: u16 = SHARDS_GENERAL + SHARDS_KNOWLEDGE;
        let [.., a, b] = *Uuid::new_v4().as_bytes();
        let first = u16::from_be_bytes([a, b]) % SHARDS;
        let shards = (0..SHARDS_LOOKED_AT).map(|n| ShardId((first + n) % SHARDS));
        let shards: Vec<ShardId> = shards.collect();
        let all = Timestamp::from_millis(i64::MAX);
        let rows = self.parts.stores.wake.due(&shards, all, None, HOMES_MAX);
        Ok(in_time(STORE_TIMEOUT, rows).await?.iter().map(|row| row.entity).collect())
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
