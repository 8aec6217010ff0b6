//! What administrators see of a node or a cluster, and do with it.
//!
//! ```text
//! Operations (access, audit, stores, doctor, why)  ->  Operator  ->  this node, other nodes
//! ```
//! Everything here is for administrators alone. What changes something leaves a line in the log
//! (target `audit`) and a row in the directory, whatever its outcome.

pub(crate) mod audit;
mod backup;
pub mod cluster;
mod containers;
mod doctor;
mod letters;
pub mod local;
pub mod peers;
mod process;
mod rebalance;
mod why;

use std::{
    borrow::Cow,
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Semaphore;
use troupe_api::{
    Problem,
    admin::{
        ActorTreeView, Begun, Check, ContainersView, EntityOutcome, EntityView, NodeList,
        QueuesView, RebalanceAction, ShardList, ShardMove, ShardView,
    },
};
use troupe_entities::device::container::Containers;
use troupe_sharding::{AskError, Router};
use troupe_soft_state::SoftState;
use troupe_store::Stores;
use troupe_types::{Clock, EntityId, MonoTime, ShardId, Timestamp};

use crate::caller::Caller;

pub use backup::BackupStream;
pub use cluster::{ClusterOperator, ClusterView, NOT_OWNER, SeenLease, SeenShard};
pub use local::{LocalOperator, LocalParts, NodeControl};
pub use peers::{LinkPeers, NodeQuestion, OwnAnswers, Peers};
pub use rebalance::follow_rebalance;

/// Why an operator's question or wish failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OperatorError {
    /// There is no such node.
    #[error("there is no node `{0}`")]
    NoSuchNode(String),
    /// It cannot be done as things are; in words, with the way out.
    #[error("{detail}")]
    Refused {
        /// Stable word.
        code: Cow<'static, str>,
        /// One sentence.
        detail: String,
    },
    /// Another node had to be asked and did not answer.
    #[error("node `{node}` did not answer: {why}")]
    Unreachable {
        /// Which.
        node: String,
        /// Why.
        why: String,
    },
    /// The store did not answer.
    #[error("the store did not answer: {0}")]
    Store(String),
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let text = error.to_string();
        match error {
            OperatorError::NoSuchNode(_) => {
                Self::new(404, "not_found", format!("{text}; see: troupe admin nodes"))
            }
            OperatorError::Refused { code, .. } => Self::new(409, &code, text),
            OperatorError::Unreachable { .. } => {
                Self { retry_after: Some(2), ..Self::new(503, "node_unreachable", text) }
            }
            OperatorError::Store(_) => {
                Self { retry_after: Some(5), ..Self::new(503, "store", text) }
            }
        }
    }
}

/// Where an entity lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityPlace {
    /// Which.
    pub entity: EntityId,
    /// The node that owns its shard, if one does.
    pub node: Option<String>,
    /// The epoch of that ownership.
    pub epoch: u64,
    /// It in the owner's memory; `None`: it is not there.
    pub live: Option<EntityView>,
}

/// What a node knows of itself and of its cluster, and can do. Access was checked before.
#[async_trait]
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The name of this node.
    fn name(&self) -> &str;
    /// Every node that ever was, with its load as far as it answers.
    async fn nodes(&self) -> Result<NodeList, OperatorError>;
    /// Every shard.
    async fn shards(&self) -> Result<ShardList, OperatorError>;
    /// The supervision tree of a node; `None`: of this one.
    async fn actors(&self, node: Option<&str>) -> Result<ActorTreeView, OperatorError>;
    /// The queues of a node; `None`: of this one.
    async fn queues(&self, node: Option<&str>) -> Result<QueuesView, OperatorError>;
    /// Where these entities live, in this order; nothing is activated by the question.
    async fn places(&self, entities: &[EntityId]) -> Result<Vec<EntityPlace>, OperatorError>;
    /// What one node itself says of these entities, in this order: who it takes for their owner,
    /// and what it has in memory.
    async fn places_on(
        &self,
        node: &str,
        entities: &[EntityId],
    ) -> Result<Vec<EntityPlace>, OperatorError>;
    /// Begins an entity anew, on the node where it lives.
    async fn restart_entity(&self, entity: EntityId) -> Result<EntityOutcome, OperatorError>;
    /// Unloads an idle entity.
    async fn passivate_entity(&self, entity: EntityId) -> Result<EntityOutcome, OperatorError>;
    /// Has an entity woken where it lives.
    async fn wake_entity(&self, entity: EntityId) -> Result<(), OperatorError>;
    /// Begins to hand over all shards of a node, which then takes no new ones.
    async fn drain(&self, node: &str) -> Result<Begun, OperatorError>;
    /// One shard, as the node has it that knows best.
    async fn shard(&self, shard: ShardId) -> Result<ShardView, OperatorError>;
    /// Begins to hand over one shard, or says why not.
    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError>;
    /// Whether there may be others to hand shards to.
    fn shares_shards(&self) -> Result<(), OperatorError>;
    /// Shards that are not where placement would have them.
    async fn rebalance(&self, action: RebalanceAction) -> Result<Begun, OperatorError>;
    /// What only the node itself can check, beyond what the doctor derives from the above.
    async fn checks(&self) -> Vec<Check>;
}

/// What [`Operations`] stand on.
#[derive(Clone, Debug)]
pub struct OperationsParts {
    /// The node, and through it the cluster.
    pub operator: Arc<dyn Operator>,
    /// Dead letters, wake rows, projections, audit rows.
    pub stores: Stores,
    /// To entities.
    pub router: Router,
    /// Whether the nodes reach each other through it.
    pub soft: Arc<dyn SoftState>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where the node keeps what it has on disk.
    pub data_dir: Option<PathBuf>,
    /// Where its keys lie.
    pub keys_dir: Option<PathBuf>,
}

/// The use cases of administrators.
#[derive(Debug)]
pub struct Operations {
    pub(crate) parts: OperationsParts,
    /// Wall and monotonic time when it was made, to see later whether the clock jumped.
    began: (Timestamp, MonoTime),
    /// How many audit rows it wrote; may start again at 0.
    audit_rows: AtomicU32,
    /// A place per backup that is being made.
    backups: Arc<Semaphore>,
}

impl Operations {
    /// Over a node.
    #[must_use]
    pub fn new(parts: OperationsParts) -> Self {
        let began = (parts.clock.now(), parts.clock.mono());
        let (audit_rows, backups) = (AtomicU32::new(0), Arc::new(Semaphore::new(1)));
        Self { parts, began, audit_rows, backups }
    }

    fn operator(&self) -> &dyn Operator {
        &*self.parts.operator
    }

    /// All nodes.
    ///
    /// # Errors
    /// 403; 503 if the store does not answer.
    pub async fn nodes(&self, caller: &Caller) -> Result<NodeList, Problem> {
        admin(caller, "list_nodes")?;
        Ok(self.node_list().await?)
    }

    /// All shards.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub async fn shards(&self, caller: &Caller) -> Result<ShardList, Problem> {
        admin(caller, "list_shards")?;
        Ok(self.shard_list().await?)
    }

    /// One shard, as the node has it that knows best.
    ///
    /// # Errors
    /// 403.
    pub async fn shard(&self, caller: &Caller, shard: ShardId) -> Result<ShardView, Problem> {
        admin(caller, "show_shard")?;
        Ok(self.operator().shard(shard).await?)
    }

    /// The supervision tree of a node; `None`: of this one.
    ///
    /// # Errors
    /// 403, 404; 503 if that node does not answer.
    pub async fn actors(
        &self,
        caller: &Caller,
        node: Option<&str>,
    ) -> Result<ActorTreeView, Problem> {
        admin(caller, "list_actors")?;
        Ok(self.operator().actors(node).await?)
    }

    /// The queues of a node; `None`: of this one.
    ///
    /// # Errors
    /// As [`actors`](Self::actors).
    pub async fn queues(&self, caller: &Caller, node: Option<&str>) -> Result<QueuesView, Problem> {
        admin(caller, "list_queues")?;
        Ok(self.operator().queues(node).await?)
    }

    /// Containers of Tasks, and the pools that make them.
    ///
    /// # Errors
    /// 403; 503 if the store does not answer.
    pub async fn containers(&self, caller: &Caller) -> Result<ContainersView, Problem> {
        admin(caller, "list_containers")?;
        let read = Containers::read(self.parts.stores.directory.as_ref());
        let all = in_time(containers::STORE_TIMEOUT, read).await.map_err(|why| {
            tracing::warn!(%why, "containers were not listed");
            Problem::new(503, "store", "the store is not available; repeat later")
        })?;
        Ok(containers::view(&all, self.parts.clock.now()))
    }

    /// Begins an entity anew.
    ///
    /// # Errors
    /// 403; 404 for what is not in memory; 503 if its node does not answer.
    pub async fn restart_entity(
        &self,
        caller: &Caller,
        entity: EntityId,
    ) -> Result<EntityOutcome, Problem> {
        admin(caller, "restart_entity")?;
        let done = self.operator().restart_entity(entity).await;
        self.audited(caller, "restart_entity", &entity.to_string(), "", done).await
    }

    /// Unloads an idle entity.
    ///
    /// # Errors
    /// As [`restart_entity`](Self::restart_entity).
    pub async fn passivate_entity(
        &self,
        caller: &Caller,
        entity: EntityId,
    ) -> Result<EntityOutcome, Problem> {
        admin(caller, "passivate_entity")?;
        let done = self.operator().passivate_entity(entity).await;
        self.audited(caller, "passivate_entity", &entity.to_string(), "", done).await
    }

    /// Begins to hand over all shards of a node.
    ///
    /// # Errors
    /// 403, 404; 409 with the reason if it cannot be done; 503 if that node does not answer.
    pub async fn drain(&self, caller: &Caller, node: &str) -> Result<Begun, Problem> {
        admin(caller, "drain_node")?;
        let done = self.operator().drain(node).await;
        self.audited(caller, "drain_node", node, "", done).await
    }

    /// Begins to hand over one shard.
    ///
    /// # Errors
    /// As [`drain`](Self::drain); the code says why it was not begun.
    pub async fn move_shard(
        &self,
        caller: &Caller,
        shard: ShardId,
        to: &str,
    ) -> Result<ShardMove, Problem> {
        admin(caller, "move_shard")?;
        let done = self.operator().move_shard(shard, to).await;
        self.audited(caller, "move_shard", &shard.to_string(), &format!("to {to}"), done).await
    }
}

/// The access check of this module.
fn admin(caller: &Caller, action: &'static str) -> Result<(), Problem> {
    if caller.is_admin() {
        return Ok(());
    }
    tracing::info!(target: "audit", action, by = %caller.user, outcome = "denied");
    Err(Problem::forbidden("Only an administrator may do this."))
}

/// Runs a call to the store under a deadline.
async fn in_time<T, E: fmt::Display>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>> + Send,
) -> Result<T, String> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

fn store_problem(why: impl fmt::Display) -> Problem {
    OperatorError::Store(why.to_string()).into()
}

/// What became of an ask, for an operator.
fn fate_problem(fate: &AskError) -> Problem {
    crate::tasks::ask_problem(fate)
}
