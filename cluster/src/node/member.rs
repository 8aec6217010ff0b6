//! What operators see of the cluster through this node, and do with it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::admin::{Begun, ShardMove, ShardView};
use troupe_services::admin::{
    ClusterView, LinkPeers, NOT_OWNER, NodeControl, NodeQuestion, OperatorError, Peers, SeenLease,
    SeenShard,
};
use troupe_sharding::{
    Membership, NodeLink, ShardStatus,
    membership::{MoveAnswer, MoveRefusal, Rebalancing, Timings},
};
use troupe_types::{LeaseRow, NodeName, Roles, ShardId, ShardRow};

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

    /// What will undo a move by hand.
    fn way_back(&self, membership: &Membership, shard: ShardId, to: &str) -> String {
        let status = membership.view().status();
        let shown = status.shards.iter().find(|shown| shown.shard == shard);
        let home = shown.and_then(|shown| shown.preferred.as_ref());
        let home = home.filter(|home| home.as_str() != to);
        home.filter(|_| status.rebalancing != Rebalancing::Paused)
            .map_or_else(String::new, |home| {
                format!(" It goes back to `{home}` after 10 s, unless rebalancing is paused.")
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

fn seen(shard: &ShardStatus) -> SeenShard {
    SeenShard {
        shard: shard.shard,
        row: shard.owner.clone().map(|owner| ShardRow {
            shard: shard.shard,
            owner,
            owner_inc: shard.owner_inc,
            epoch: shard.epoch,
        }),
        moving_to: shard.moving_to.as_ref().map(ToString::to_string),
        preferred: shard.preferred.as_ref().map(ToString::to_string),
    }
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

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError> {
        let membership = self.membership()?;
        let answer = self.order(membership.move_shard(shard, NodeName::from(to)).await)?;
        let outcome = match answer {
            MoveAnswer::Begun => "begun",
            MoveAnswer::UnderWay => "under_way",
            MoveAnswer::AlreadyThere => "already_there",
            MoveAnswer::Refused(why) => return Err(refused(&self.name, shard, to, &why)),
        };
        let detail = match answer {
            MoveAnswer::Begun => {
                let back = self.way_back(membership, shard, to);
                format!("Shard {shard} begins to go from `{}` to `{to}`.{back}", self.name)
            }
            MoveAnswer::UnderWay => {
                format!("Shard {shard} is on its way from `{}` to `{to}`.", self.name)
            }
            _ => format!("`{to}` owns shard {shard} already."),
        };
        let (outcome, from) = (outcome.to_owned(), Some(self.name.clone()));
        Ok(ShardMove { shard: shard.0, outcome, from, to: to.to_owned(), detail })
    }

    fn shard(&self, shard: ShardId) -> ShardView {
        let none = ShardView { shard: shard.0, ..ShardView::default() };
        let Some((membership, _)) = self.joined.get() else { return none };
        let status = membership.view().status();
        let Some(shown) = status.shards.iter().find(|shown| shown.shard == shard) else {
            return none;
        };
        let of_owner = |row: &&LeaseRow| Some(&row.node) == shown.owner.as_ref();
        seen(shown).into_view(status.leases.iter().map(|(row, _)| row).find(of_owner))
    }

    async fn pause(&self, paused: bool) -> Result<(), OperatorError> {
        self.order(self.membership()?.pause_rebalance(paused).await)
    }

    async fn rebalance_now(&self) -> Result<Begun, OperatorError> {
        let membership = self.membership()?;
        let misplaced = self.misplaced();
        let rests = membership.view().status().rebalancing != Rebalancing::On;
        let (all, mut begun) = (misplaced.len(), 0);
        // As many as may be under way at once.
        for (shard, to) in misplaced.into_iter().take(Timings::default().moves_max) {
            let answer = self.order(membership.move_shard(shard, to).await)?;
            begun += usize::from(answer == MoveAnswer::Begun);
        }
        let others = if rests { "stay while rebalancing rests" } else { "follow" };
        let detail =
            format!("{begun} of {all} begin to move to where they should be, others {others}.");
        Ok(Begun { detail, shards: u32::try_from(all).unwrap_or(u32::MAX) })
    }

    fn rebalancing(&self) -> &'static str {
        ClusterView::rebalancing(self)
    }
}

/// Why a move was not begun, with the way out.
fn refused(from: &str, shard: ShardId, to: &str, why: &MoveRefusal) -> OperatorError {
    let (code, detail) = match why {
        MoveRefusal::NotOwner => {
            (NOT_OWNER, format!("`{from}` does not own shard {shard} any more; repeat it."))
        }
        MoveRefusal::NoLease => {
            ("no_lease", format!("The lease of `{from}` does not hold: it can give nothing away."))
        }
        MoveRefusal::Elsewhere(other) => (
            "moves_elsewhere",
            format!("Shard {shard} is on its way to `{other}`; wait until it is there."),
        ),
        MoveRefusal::UnknownTarget => {
            ("unknown_target", format!("`{from}` knows no node `{to}`; see: troupe admin nodes"))
        }
        MoveRefusal::DeadTarget => ("node_dead", format!("The lease of `{to}` is over.")),
        MoveRefusal::DrainingTarget => (
            "node_draining",
            format!("`{to}` gives its own shards away: it takes none until it is started again."),
        ),
        MoveRefusal::SilentTarget => (
            "node_silent",
            format!("`{from}` has not heard `{to}` lately; see: troupe admin doctor"),
        ),
        MoveRefusal::UnfitTarget => {
            ("no_role", format!("`{to}` has no role for shard {shard}; see: troupe admin nodes"))
        }
        MoveRefusal::Full { under_way } => (
            "moves_full",
            format!("`{from}` hands over as many shards as it may, {under_way}; repeat it later."),
        ),
    };
    OperatorError::Refused { code: code.into(), detail }
}
