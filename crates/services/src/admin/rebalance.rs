//! Whether shards move by themselves: one setting of the whole cluster, which every node reads.
//!
//! It lies in the directory (table `Setting`), so that it outlives every node. A node that cannot
//! read it goes on as it did; one that has not read it yet moves nothing by itself.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use troupe_api::{
    Problem,
    admin::{Begun, NodeList, RebalanceAction, RebalanceSetting, ShardList},
};
use troupe_store::{CasError, Directory, DirectoryRow, DirectoryTable, RowWrite};

use super::{NodeControl, Operations, OperatorError, admin, in_time, store_problem};
use crate::caller::Caller;

/// The row in table `Setting`.
const KEY: &[u8] = b"rebalance";
/// Version of the row.
const VERSION: u8 = 1;
/// How long the store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// So often a node reads it.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How often it is written again when somebody else writes it at the same time.
const WRITES_MAX: usize = 4;

#[derive(Serialize, Deserialize)]
struct Row {
    v: u8,
    #[serde(flatten)]
    setting: RebalanceSetting,
}

async fn row(directory: &dyn Directory) -> Result<Option<DirectoryRow>, String> {
    in_time(STORE_TIMEOUT, directory.get(DirectoryTable::Setting, KEY)).await
}

fn read(row: &DirectoryRow) -> Result<RebalanceSetting, String> {
    let newer = || "the setting of rebalancing was written by another build".to_owned();
    let row: Row = serde_json::from_slice(&row.body).map_err(|_| newer())?;
    if row.v == VERSION { Ok(row.setting) } else { Err(newer()) }
}

/// What was decided last; `None`: nobody ever decided anything, so shards move.
pub(super) async fn setting(directory: &dyn Directory) -> Result<Option<RebalanceSetting>, String> {
    row(directory).await?.as_ref().map(read).transpose()
}

/// The last word wins; of two at the same time either.
async fn write(directory: &dyn Directory, setting: RebalanceSetting) -> Result<(), Problem> {
    let body = serde_json::to_vec(&Row { v: VERSION, setting }).map_err(store_problem)?;
    for _ in 0..WRITES_MAX {
        let write = match row(directory).await.map_err(store_problem)? {
            Some(row) => RowWrite::update(&row, body.clone()),
            None => RowWrite::insert(DirectoryTable::Setting, KEY, body.clone()),
        };
        match tokio::time::timeout(STORE_TIMEOUT, directory.compare_and_set(write)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(CasError::Conflict { .. })) => {}
            Ok(Err(error)) => return Err(store_problem(error)),
            Err(_) => return Err(store_problem("no answer in time: look before you repeat it")),
        }
    }
    Err(Problem::new(409, "conflict", "Others change the same setting now: look, then repeat it."))
}

/// Keeps a node to the setting: reads it now and every 2 s. Never ends.
pub async fn follow_rebalance(directory: Arc<dyn Directory>, control: Arc<dyn NodeControl>) {
    let mut known = None;
    loop {
        let paused = match setting(directory.as_ref()).await {
            Ok(setting) => setting.is_some_and(|setting| setting.paused),
            Err(why) => {
                tracing::debug!(why, "whether shards may move by themselves was not read");
                known.unwrap_or(true)
            }
        };
        // Said again each time: what another node said directly may have come late.
        match control.pause(paused).await {
            Ok(()) if known.replace(paused) != Some(paused) => {
                tracing::info!(paused, "whether shards move by themselves, as the cluster has it");
            }
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "the membership does not listen"),
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

impl Operations {
    /// What was decided, for a list; a store that does not answer keeps no list back.
    async fn rebalance_setting(&self) -> Option<RebalanceSetting> {
        let found = setting(self.parts.stores.directory.as_ref()).await;
        found.unwrap_or_else(|why| {
            tracing::debug!(why, "a list goes without the setting of rebalancing");
            None
        })
    }

    pub(super) async fn node_list(&self) -> Result<NodeList, OperatorError> {
        let (list, setting) = tokio::join!(self.operator().nodes(), self.rebalance_setting());
        Ok(NodeList { rebalance_setting: setting, ..list? })
    }

    pub(super) async fn shard_list(&self) -> Result<ShardList, OperatorError> {
        let (list, setting) = tokio::join!(self.operator().shards(), self.rebalance_setting());
        Ok(ShardList { rebalance_setting: setting, ..list? })
    }

    /// Has shards move by themselves or not, from now on and on all nodes; or at once.
    ///
    /// # Errors
    /// 403; 409 `only_node` if there is nobody to move them to; 503 if the store does not answer,
    /// or a node that should move its shards at once does not.
    pub async fn rebalance(
        &self,
        caller: &Caller,
        action: RebalanceAction,
    ) -> Result<Begun, Problem> {
        admin(caller, "rebalance")?;
        let done = self.rebalance_all(caller, action).await;
        let word = match action {
            RebalanceAction::Pause => "pause",
            RebalanceAction::Resume => "resume",
            RebalanceAction::Now => "now",
        };
        self.audited(caller, "rebalance", word, "", done).await
    }

    async fn rebalance_all(
        &self,
        caller: &Caller,
        action: RebalanceAction,
    ) -> Result<Begun, Problem> {
        self.operator().shares_shards()?;
        let paused = match action {
            RebalanceAction::Pause => true,
            RebalanceAction::Resume => false,
            RebalanceAction::Now => return Ok(self.operator().rebalance(action).await?),
        };
        let setting = RebalanceSetting {
            paused,
            user_id: caller.user,
            user_name: caller.name.clone(),
            at: self.parts.clock.now(),
        };
        // First what counts; to say so to each node only makes it quicker.
        write(self.parts.stores.directory.as_ref(), setting).await?;
        Ok(self.operator().rebalance(action).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use troupe_api::admin::{ShardMove, ShardView};
    use troupe_store::MemoryStore;
    use troupe_testkit::wait_until;
    use troupe_types::{ShardId, Timestamp, UserId};

    use super::*;

    /// A node that writes down whether it is paused.
    #[derive(Debug, Default)]
    struct Control(Mutex<Vec<bool>>);

    #[async_trait]
    impl NodeControl for Control {
        async fn drain(&self) -> Result<Begun, OperatorError> {
            Ok(Begun::default())
        }

        async fn move_shard(&self, _: ShardId, _: &str) -> Result<ShardMove, OperatorError> {
            Ok(ShardMove::default())
        }

        fn shard(&self, _: ShardId) -> ShardView {
            ShardView::default()
        }

        async fn pause(&self, paused: bool) -> Result<(), OperatorError> {
            self.0.lock().unwrap().push(paused);
            Ok(())
        }

        async fn rebalance_now(&self) -> Result<Begun, OperatorError> {
            Ok(Begun::default())
        }

        fn rebalancing(&self) -> &'static str {
            "on"
        }
    }

    fn decided(paused: bool, at: i64) -> RebalanceSetting {
        RebalanceSetting {
            paused,
            user_id: UserId::derived(&["ann"]),
            user_name: "ann".to_owned(),
            at: Timestamp::from_millis(at),
        }
    }

    #[tokio::test]
    async fn the_last_decision_is_kept_with_who_made_it() {
        let store = MemoryStore::new();
        assert_eq!(setting(&store).await, Ok(None));
        write(&store, decided(true, 1)).await.unwrap();
        write(&store, decided(false, 2)).await.unwrap();
        assert_eq!(setting(&store).await, Ok(Some(decided(false, 2))));
    }

    #[tokio::test]
    async fn a_row_of_another_build_is_not_taken_for_a_decision() {
        let store = MemoryStore::new();
        let body = serde_json::to_vec(&Row { v: 9, setting: decided(true, 1) }).unwrap();
        let row = RowWrite::insert(DirectoryTable::Setting, KEY, body);
        store.compare_and_set(row).await.unwrap();
        assert!(setting(&store).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_keeps_to_it_from_its_start_and_holds_still_until_it_knows() {
        let store = MemoryStore::new();
        write(&store, decided(true, 1)).await.unwrap();
        store.set_replica_down(0, true);
        store.set_replica_down(1, true);
        let control = Arc::new(Control::default());
        let following = follow_rebalance(Arc::new(store.clone()), Arc::clone(&control) as _);
        let script = async {
            let said = || control.0.lock().unwrap().clone();
            let until =
                |count: usize| wait_until(4 * READ_EVERY, async move || said().len() >= count);
            until(1).await;
            assert_eq!(said(), [true], "not known: nothing moves");
            store.set_replica_down(0, false);
            store.set_replica_down(1, false);
            write(&store, decided(false, 2)).await.unwrap();
            until(2).await;
            assert_eq!(said(), [true, false]);
            store.set_replica_down(0, true);
            store.set_replica_down(1, true);
            until(3).await;
            assert_eq!(said(), [true, false, false], "as it was, while the store is away");
        };
        tokio::select! {
            () = following => {}
            () = script => {}
        }
    }
}
