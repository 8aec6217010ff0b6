//! What operators see of the cluster through this node, and do with it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::admin::{Begun, RebalanceAction};
use troupe_services::admin::{
    ClusterView, LinkPeers, NodeControl, NodeQuestion, OperatorError, Peers, SeenLease, SeenShard,
};
use troupe_sharding::{
    Membership, NodeLink,
    membership::{Rebalancing, Timings},
};
use troupe_types::{NodeName, NodeState, Roles, ShardId, ShardRow};

/// This node as a member. The gateway is made before it joins, so the membership comes later.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) roles: Roles,
    pub(crate) weight: u32,
    pub(crate) advertise: Option<String>,
    joined: OnceLock<(Arc<Membership>, Arc<NodeLink>)>,
}

impl Member {
    pub(crate) const fn new(
        name: String,
        roles: Roles,
        weight: u32,
        advertise: Option<String>,
    ) -> Self {
        Self { name, roles, weight, advertise, joined: OnceLock::new() }
    }

    pub(crate) fn joined(&self, membership: Arc<Membership>, link: Arc<NodeLink>) {
        let first = self.joined.set((membership, link)).is_ok();
        debug_assert!(first, "a process joins once");
    }

    fn membership(&self) -> Result<&Arc<Membership>, OperatorError> {
        self.joined.get().map(|(membership, _)| membership).ok_or_else(|| not_yet(&self.name))
    }

    fn order<T, E: std::fmt::Display>(&self, done: Result<T, E>) -> Result<T, OperatorError> {
        done.map_err(|error| OperatorError::Unreachable {
            node: self.name.clone(),
            why: error.to_string(),
        })
    }

    /// Shards of this node that should be another one's.
    fn misplaced(&self) -> Vec<(ShardId, NodeName)> {
        let Some((membership, _)) = self.joined.get() else { return Vec::new() };
        let view = membership.view();
        let status = view.status();
        let here = status.shards.iter().filter(|shard| view.epoch(shard.shard).is_some());
        here.filter(|shard| shard.moving_to.is_none())
            .filter_map(|shard| Some((shard.shard, shard.preferred.clone()?)))
            .filter(|(_, to)| to.as_str() != self.name)
            .collect()
    }
}

fn not_yet(node: &str) -> OperatorError {
    OperatorError::Unreachable { node: node.to_owned(), why: "it has not joined yet".to_owned() }
}

impl ClusterView for Member {
    fn leases(&self) -> Vec<SeenLease> {
        let Some((membership, _)) = self.joined.get() else { return Vec::new() };
        let status = membership.view().status();
        status.leases.iter().map(|(row, age)| SeenLease { row: row.clone(), age: *age }).collect()
    }

    fn shards(&self) -> Vec<SeenShard> {
        let Some((membership, _)) = self.joined.get() else { return Vec::new() };
        let status = membership.view().status();
        let seen = |shard: &troupe_sharding::ShardStatus| SeenShard {
            shard: shard.shard,
            row: shard.owner.clone().map(|owner| ShardRow {
                shard: shard.shard,
                owner,
                owner_inc: shard.owner_inc,
                epoch: shard.epoch,
            }),
            moving_to: shard.moving_to.as_ref().map(ToString::to_string),
            preferred: shard.preferred.as_ref().map(ToString::to_string),
        };
        status.shards.iter().map(seen).collect()
    }

    fn is_linked(&self, node: &str) -> bool {
        let Some((_, link)) = self.joined.get() else { return false };
        link.peers().iter().any(|peer| peer.node.as_str() == node && peer.boot.is_some())
    }

    fn rebalancing(&self) -> &'static str {
        match self.joined.get().map(|(membership, _)| membership.view().status().rebalancing) {
            Some(Rebalancing::On) | None => "on",
            Some(Rebalancing::Paused) => "paused",
            Some(Rebalancing::StoreIsSlow) => "slow",
        }
    }

    fn lease_time(&self) -> Duration {
        Timings::default().expiry
    }
}

#[async_trait]
impl Peers for Member {
    async fn ask(&self, node: &str, question: &NodeQuestion) -> Result<Value, OperatorError> {
        let Some((_, link)) = self.joined.get() else { return Err(not_yet(&self.name)) };
        LinkPeers(Arc::clone(link)).ask(node, question).await
    }
}

#[async_trait]
impl NodeControl for Member {
    async fn drain(&self) -> Result<Begun, OperatorError> {
        let membership = self.membership()?;
        let shards = u32::try_from(membership.view().owned()).unwrap_or(u32::MAX);
        self.order(membership.leave().await)?;
        let detail = "The node hands its shards over and then ends; see: troupe admin nodes".into();
        Ok(Begun { detail, shards })
    }

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<Begun, OperatorError> {
        let membership = self.membership()?;
        let refused = |code: &'static str, detail: String| {
            Err(OperatorError::Refused { code: code.into(), detail })
        };
        if membership.view().epoch(shard).is_none() {
            return refused("not_owner", format!("`{}` does not own shard {shard}.", self.name));
        }
        let status = membership.view().status();
        let target = status.leases.iter().find(|(row, _)| row.node.as_str() == to);
        if !target.is_some_and(|(row, _)| row.state == NodeState::Alive) {
            return refused("not_alive", format!("`{to}` is no node that takes shards now."));
        }
        if to == self.name {
            return refused("is_owner", format!("`{to}` owns shard {shard} already."));
        }
        self.order(membership.move_shard(shard, NodeName::from(to)).await)?;
        let shown = status.shards.iter().find(|shown| shown.shard == shard);
        let home = shown.and_then(|shown| shown.preferred.as_ref());
        let home = home.filter(|home| home.as_str() != to);
        let back = home
            .filter(|_| status.rebalancing != Rebalancing::Paused)
            .map_or_else(String::new, |home| {
                format!(" It goes back to `{home}` after 10 s, unless rebalancing is paused.")
            });
        let detail =
            format!("Shard {shard} is asked to go to `{to}`; see: troupe admin shards.{back}");
        Ok(Begun { detail, shards: 1 })
    }

    async fn rebalance(&self, action: RebalanceAction) -> Result<Begun, OperatorError> {
        let membership = self.membership()?;
        let begun = |detail: &str, shards| Ok(Begun { detail: detail.to_owned(), shards });
        match action {
            RebalanceAction::Pause => {
                self.order(membership.pause_rebalance(true).await)?;
                begun("Shards move by themselves no more.", 0)
            }
            RebalanceAction::Resume => {
                self.order(membership.pause_rebalance(false).await)?;
                begun("Shards move by themselves again.", 0)
            }
            RebalanceAction::Now => {
                let misplaced = self.misplaced();
                let shards = u32::try_from(misplaced.len()).unwrap_or(u32::MAX);
                let rests = membership.view().status().rebalancing != Rebalancing::On;
                // As many as may be under way at once.
                for (shard, to) in misplaced.into_iter().take(Timings::default().moves_max) {
                    self.order(membership.move_shard(shard, to).await)?;
                }
                let others = if rests { "stay while rebalancing rests" } else { "follow" };
                let detail =
                    format!("The first of them move to where they should be, others {others}.");
                begun(&detail, shards)
            }
        }
    }
}
