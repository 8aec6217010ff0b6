//! A node as the operator of its cluster: what its membership knows, and what the others answer.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use troupe_api::admin::{
    ActorTreeView, Begun, Check, EntityOutcome, NodeList, NodeView, QueuesView, RebalanceAction,
    ShardList, ShardMove, ShardState, ShardView,
};
use troupe_types::{EntityId, LeaseRow, NodeState, ShardId, ShardRow};

use super::{
    EntityPlace, LocalOperator, Operator, OperatorError,
    local::role_names,
    peers::{Introduction, NodeQuestion, Peers, ask},
};

/// Code of a refusal: the node that was asked does not own the shard.
pub const NOT_OWNER: &str = "not_owner";
/// Owners that are asked for a shard that moves on meanwhile.
const OWNERS_ASKED_MAX: usize = 3;
/// Within this every node tells of a shard that it took up or gave away.
const OWNER_KNOWN_IN: Duration = Duration::from_millis(600);

/// A lease as this node sees it.
#[derive(Clone, Debug)]
pub struct SeenLease {
    /// The row as it was last read.
    pub row: LeaseRow,
    /// Since this node saw it renewed, by its own clock.
    pub age: Duration,
}

/// A shard as this node sees it.
#[derive(Clone, Debug)]
pub struct SeenShard {
    /// Which.
    pub shard: ShardId,
    /// Its row, if it ever had an owner.
    pub row: Option<ShardRow>,
    /// Whom it is being handed to.
    pub moving_to: Option<String>,
    /// Where placement would have it.
    pub preferred: Option<String>,
}

impl SeenShard {
    /// As operators are shown it, but for its entities: in lists and alone. `lease` is its owner's,
    /// as far as there is one.
    #[must_use]
    pub fn into_view(self, lease: Option<&LeaseRow>) -> ShardView {
        ShardView {
            shard: self.shard.0,
            epoch: self.row.as_ref().map_or(0, |row| row.epoch.0),
            state: self.state(lease),
            owner: self.row.map(|row| row.owner.to_string()),
            moving_to: self.moving_to,
            preferred: self.preferred,
            entities: None,
        }
    }

    fn state(&self, lease: Option<&LeaseRow>) -> ShardState {
        let Some(row) = &self.row else { return ShardState::Unowned };
        // A newer incarnation of the owner does not own what the older one did.
        let lives = lease.is_some_and(|l| l.state != NodeState::Dead && l.inc == row.owner_inc);
        match (lives, &self.moving_to) {
            (false, _) => ShardState::Orphaned,
            (true, Some(_)) => ShardState::Moving,
            (true, None) => ShardState::Owned,
        }
    }
}

/// What the membership of a node knows. Everything is answered from memory, at once.
pub trait ClusterView: fmt::Debug + Send + Sync + 'static {
    /// The leases of all nodes that ever joined, this one's among them.
    fn leases(&self) -> Vec<SeenLease>;
    /// All shards in order of their numbers.
    fn shards(&self) -> Vec<SeenShard>;
    /// Whether there is a link to a node.
    fn is_linked(&self, node: &str) -> bool;
    /// Whether shards move by themselves: see [`NodeList::rebalance`].
    fn rebalancing(&self) -> &'static str;
    /// How long a lease is good for without being renewed, as others see it.
    fn lease_time(&self) -> Duration;
}

/// The operator of a cluster, on one of its nodes.
#[derive(Debug)]
pub struct ClusterOperator {
    own: Arc<LocalOperator>,
    view: Arc<dyn ClusterView>,
    peers: Arc<dyn Peers>,
}

impl ClusterOperator {
    /// `own` answers for this node, `peers` for the others.
    #[must_use]
    pub fn new(own: Arc<LocalOperator>, view: Arc<dyn ClusterView>, peers: Arc<dyn Peers>) -> Self {
        Self { own, view, peers }
    }

    fn is_own(&self, node: &str) -> bool {
        node == self.own.name()
    }

    /// A node that exists and is not dead.
    fn living(&self, node: &str) -> Result<(), OperatorError> {
        let lease = self.view.leases().into_iter().find(|lease| lease.row.node.as_str() == node);
        match lease {
            None => Err(OperatorError::NoSuchNode(node.to_owned())),
            Some(lease) if lease.row.state == NodeState::Dead => Err(OperatorError::Refused {
                code: "node_dead".into(),
                detail: format!(
                    "The lease of `{node}` is over: it owns nothing and answers nothing."
                ),
            }),
            Some(_) => Ok(()),
        }
    }

    /// The names of all nodes that are not dead.
    fn up(&self) -> Vec<String> {
        let up = self.view.leases().into_iter().filter(|lease| lease.row.state != NodeState::Dead);
        up.map(|lease| lease.row.node.to_string()).collect()
    }

    fn owner(&self, shard: ShardId) -> Option<ShardRow> {
        self.view.shards().into_iter().find(|seen| seen.shard == shard)?.row
    }

    /// The node that is to be asked about an entity.
    fn home(&self, entity: EntityId) -> Result<String, OperatorError> {
        let row = self.owner(entity.shard());
        row.map(|row| row.owner.to_string()).ok_or_else(|| unowned(entity.shard()))
    }

    async fn node_view(&self, lease: &SeenLease) -> NodeView {
        let row = &lease.row;
        let name = row.node.as_str();
        let is_dead = row.state == NodeState::Dead;
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let mut view = NodeView {
            name: name.to_owned(),
            is_this: self.is_own(name),
            state: row.state.name().to_owned(),
            incarnation: row.inc.0,
            build: row.build.clone(),
            roles: role_names(row.roles),
            weight: row.weight,
            link: Some(row.addr.clone()),
            linked: self.is_own(name) || self.view.is_linked(name),
            ..NodeView::default()
        };
        if is_dead {
            return view;
        }
        let age = millis(lease.age);
        view.lease_age_ms = Some(age.unsigned_abs());
        view.lease_left_ms = Some(millis(self.view.lease_time()) - age);
        match self.introduction(name).await {
            Ok(told) => {
                view.load = Some(told.load);
                view.http = told.http;
                view.key_ids = told.key_ids;
                view.rebalance = told.rebalance;
            }
            Err(OperatorError::Unreachable { why, .. }) => view.unreachable = Some(why),
            Err(other) => view.unreachable = Some(other.to_string()),
        }
        view
    }

    async fn introduction(&self, node: &str) -> Result<Introduction, OperatorError> {
        if self.is_own(node) {
            return Ok(self.own.introduction());
        }
        ask(&*self.peers, node, &NodeQuestion::Introduce).await
    }

    /// Asks the owner, as it is known, to hand a shard over.
    async fn ask_to_move(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError> {
        let owner = self.shard(shard).await?.owner.ok_or_else(|| unowned(shard))?;
        if owner == to {
            let (outcome, detail) =
                ("already_there", format!("`{to}` owns shard {shard} already."));
            let (outcome, from) = (outcome.to_owned(), Some(owner));
            return Ok(ShardMove { shard: shard.0, outcome, from, to: to.to_owned(), detail });
        }
        if self.is_own(&owner) {
            return self.own.control()?.move_shard(shard, to).await;
        }
        let question = NodeQuestion::MoveShard { shard, to: to.to_owned() };
        let told: ShardMove = ask(&*self.peers, &owner, &question).await?;
        // An older build says it in words alone.
        let from = told.from.or(Some(owner));
        Ok(ShardMove { shard: shard.0, from, to: to.to_owned(), ..told })
    }

    /// Entities in memory by shard, of a node that answers.
    async fn entities(&self, node: &str) -> Option<HashMap<u16, u64>> {
        if self.is_own(node) {
            return Some(self.own.entities_by_shard().into_iter().collect());
        }
        let told: Vec<(u16, u64)> = ask(&*self.peers, node, &NodeQuestion::Entities).await.ok()?;
        Some(told.into_iter().collect())
    }
}

fn unowned(shard: ShardId) -> OperatorError {
    let detail = format!("Nobody owns shard {shard} at the moment; see: troupe admin doctor");
    OperatorError::Refused { code: "unowned".into(), detail }
}

#[async_trait]
impl Operator for ClusterOperator {
    fn name(&self) -> &str {
        self.own.name()
    }

    async fn nodes(&self) -> Result<NodeList, OperatorError> {
        let leases = self.view.leases();
        let mut items = join_all(leases.iter().map(|lease| self.node_view(lease))).await;
        items.sort_by(|a, b| a.name.cmp(&b.name));
        let rebalance = self.view.rebalancing().to_owned();
        Ok(NodeList { items, rebalance, rebalance_setting: None })
    }

    async fn shards(&self) -> Result<ShardList, OperatorError> {
        let leases: HashMap<String, LeaseRow> = self
            .view
            .leases()
            .into_iter()
            .map(|lease| (lease.row.node.to_string(), lease.row))
            .collect();
        let living: Vec<&String> =
            leases.iter().filter(|(_, l)| l.state != NodeState::Dead).map(|(n, _)| n).collect();
        let asked = join_all(living.iter().map(|node| self.entities(node))).await;
        let entities: HashMap<&str, Option<HashMap<u16, u64>>> =
            living.iter().map(|node| node.as_str()).zip(asked).collect();
        let items = self.view.shards().into_iter().map(|seen| {
            let owner = seen.row.as_ref().map(|row| row.owner.to_string());
            let lease = owner.as_deref().and_then(|owner| leases.get(owner));
            let told = owner.as_deref().and_then(|owner| entities.get(owner)?.as_ref());
            let count = told.map(|told| told.get(&seen.shard.0).copied().unwrap_or(0));
            ShardView { entities: count, ..seen.into_view(lease) }
        });
        Ok(ShardList { items: items.collect(), ..ShardList::default() })
    }

    async fn actors(&self, node: Option<&str>) -> Result<ActorTreeView, OperatorError> {
        match node {
            Some(node) if !self.is_own(node) => {
                self.living(node)?;
                ask(&*self.peers, node, &NodeQuestion::Actors).await
            }
            _ => Ok(self.own.tree()),
        }
    }

    async fn queues(&self, node: Option<&str>) -> Result<QueuesView, OperatorError> {
        match node {
            Some(node) if !self.is_own(node) => {
                self.living(node)?;
                ask(&*self.peers, node, &NodeQuestion::Queues).await
            }
            _ => Ok(self.own.own_queues()),
        }
    }

    async fn places(&self, entities: &[EntityId]) -> Result<Vec<EntityPlace>, OperatorError> {
        let rows: HashMap<ShardId, ShardRow> =
            self.view.shards().into_iter().filter_map(|s| Some((s.shard, s.row?))).collect();
        let mut places: Vec<EntityPlace> = entities
            .iter()
            .map(|entity| {
                let row = rows.get(&entity.shard());
                EntityPlace {
                    entity: *entity,
                    node: row.map(|row| row.owner.to_string()),
                    epoch: row.map_or(0, |row| row.epoch.0),
                    live: None,
                }
            })
            .collect();
        let mut by_node: HashMap<String, Vec<EntityId>> = HashMap::new();
        for place in &places {
            if let Some(node) = &place.node {
                by_node.entry(node.clone()).or_default().push(place.entity);
            }
        }
        let asked = by_node.into_iter().map(|(node, entities)| async move {
            if self.is_own(&node) {
                return Ok(entities.iter().map(|entity| self.own.place(*entity)).collect());
            }
            ask::<Vec<EntityPlace>>(&*self.peers, &node, &NodeQuestion::Places { entities }).await
        });
        let mut live = HashMap::new();
        for told in join_all(asked).await {
            live.extend(told?.into_iter().filter_map(|p| Some((p.entity, p.live?))));
        }
        for place in &mut places {
            place.live = live.remove(&place.entity);
        }
        Ok(places)
    }

    async fn places_on(
        &self,
        node: &str,
        entities: &[EntityId],
    ) -> Result<Vec<EntityPlace>, OperatorError> {
        if self.is_own(node) {
            return self.own.places(entities).await;
        }
        self.living(node)?;
        let entities = entities.to_vec();
        ask(&*self.peers, node, &NodeQuestion::Places { entities }).await
    }

    async fn restart_entity(&self, entity: EntityId) -> Result<EntityOutcome, OperatorError> {
        let home = self.home(entity)?;
        if self.is_own(&home) {
            return Ok(self.own.restart(entity));
        }
        ask(&*self.peers, &home, &NodeQuestion::Restart { entity }).await
    }

    async fn passivate_entity(&self, entity: EntityId) -> Result<EntityOutcome, OperatorError> {
        let home = self.home(entity)?;
        if self.is_own(&home) {
            return Ok(self.own.passivate(entity).await);
        }
        ask(&*self.peers, &home, &NodeQuestion::Passivate { entity }).await
    }

    async fn wake_entity(&self, entity: EntityId) -> Result<(), OperatorError> {
        let home = self.home(entity)?;
        if self.is_own(&home) {
            return self.own.wake_entity(entity).await;
        }
        ask::<()>(&*self.peers, &home, &NodeQuestion::Wake { entity }).await
    }

    async fn drain(&self, node: &str) -> Result<Begun, OperatorError> {
        self.living(node)?;
        if self.is_own(node) {
            return self.own.control()?.drain().await;
        }
        ask(&*self.peers, node, &NodeQuestion::Drain).await
    }

    /// What the node knows best that has seen the newest epoch, the owner before others: rows of
    /// shards that others move are up to half a minute old.
    async fn shard(&self, shard: ShardId) -> Result<ShardView, OperatorError> {
        let up = self.up();
        let asked = up.iter().map(|node| async move {
            if self.is_own(node) {
                return Ok(self.own.shard_view(shard));
            }
            ask::<ShardView>(&*self.peers, node, &NodeQuestion::Shard { shard }).await
        });
        let told = join_all(asked).await.into_iter().zip(&up);
        let told = told.filter_map(|(view, node)| Some((view.ok()?, node)));
        let newest =
            told.max_by_key(|(view, node)| (view.epoch, view.owner.as_ref() == Some(node)));
        Ok(newest.map(|(view, _)| view).unwrap_or_default())
    }

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError> {
        self.living(to)?;
        let mut told = self.ask_to_move(shard, to).await;
        for _ in 1..OWNERS_ASKED_MAX {
            match &told {
                Err(OperatorError::Refused { code, .. }) if code == NOT_OWNER => {}
                _ => break,
            }
            // What nodes say of shards is half a second old, and this one has just moved.
            tokio::time::sleep(OWNER_KNOWN_IN).await;
            told = self.ask_to_move(shard, to).await;
        }
        told
    }

    fn shares_shards(&self) -> Result<(), OperatorError> {
        self.own.control().map(drop)
    }

    /// Every living node does it. Of a decision for all, one that does not answer is named: it
    /// reads it by itself. What is to be done at once fails with the first that does not answer;
    /// the others have done it.
    async fn rebalance(&self, action: RebalanceAction) -> Result<Begun, OperatorError> {
        let up = self.up();
        let asked = up.iter().map(|node| async move {
            if self.is_own(node) {
                return self.own.rebalance_own(action).await;
            }
            ask::<Begun>(&*self.peers, node, &NodeQuestion::Rebalance { action }).await
        });
        let (mut sum, mut silent) = (Begun::default(), Vec::new());
        for (told, node) in join_all(asked).await.into_iter().zip(&up) {
            match told {
                Ok(told) => {
                    sum.shards += told.shards;
                    sum.detail = told.detail;
                }
                Err(error) if action == RebalanceAction::Now => return Err(error),
                Err(_) => silent.push(node.as_str()),
            }
        }
        if !silent.is_empty() {
            let names = silent.join(", ");
            sum.detail += &format!(" Not told yet, but they read it within seconds: {names}.");
        }
        Ok(sum)
    }

    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
