//! One node as it sees itself; alone it is the whole installation.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use troupe_api::admin::{
    ActorTreeView, ActorView, Begun, Check, EntityOutcome, EntityView, KindQueues, NodeList,
    NodeLoad, NodeView, QueuesView, RebalanceAction, ShardList, ShardMove, ShardState, ShardView,
};
use troupe_sharding::{EntityInfo, HostWatch, Owner, Passivation, ShardInfo};
use troupe_types::{Clock, EntityId, MonoTime, NodeRole, Roles, ShardId, limits::ENTITY_QUEUE_MAX};

use super::{EntityPlace, Operator, OperatorError, peers::Introduction, process};

/// Entities that a tree of actors shows; the others are counted.
const TREE_ENTITIES_MAX: usize = 2_000;
/// Entities in the list of the deepest queues.
const DEEPEST_MAX: usize = 20;

/// What a node can do about its shards; a node that is alone has none of it.
#[async_trait]
pub trait NodeControl: fmt::Debug + Send + Sync + 'static {
    /// Begins to hand over all shards of this node, which then takes no new ones.
    async fn drain(&self) -> Result<Begun, OperatorError>;
    /// Begins to hand one shard of this node over, or says why not.
    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError>;
    /// A shard as this node sees it, whoever owns it; at most half a second old.
    fn shard(&self, shard: ShardId) -> ShardView;
    /// Has shards of this node move by themselves or not.
    async fn pause(&self, paused: bool) -> Result<(), OperatorError>;
    /// Begins to move the shards of this node that should be elsewhere.
    async fn rebalance_now(&self) -> Result<Begun, OperatorError>;
    /// Whether shards of this node move by themselves: see [`NodeList::rebalance`].
    fn rebalancing(&self) -> &'static str;
}

/// What a node says of itself.
#[derive(Debug)]
pub struct LocalParts {
    /// Its name.
    pub name: String,
    /// Rises with each of its starts.
    pub incarnation: u64,
    /// Which build it runs.
    pub build: String,
    /// What it hosts.
    pub roles: Roles,
    /// Its share of the shards relative to others.
    pub weight: u32,
    /// Where its HTTP listens.
    pub http: Option<String>,
    /// Where other nodes reach it.
    pub link: Option<String>,
    /// Ids of its keys, not the keys.
    pub key_ids: Vec<String>,
    /// Its entities.
    pub host: HostWatch,
    /// Its shards, if it is not alone.
    pub control: Option<Arc<dyn NodeControl>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// One node that owns everything, or one node's own part of a cluster.
#[derive(Debug)]
pub struct LocalOperator {
    parts: LocalParts,
    started: MonoTime,
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// An entity, for people.
pub(super) fn entity_view(info: &EntityInfo) -> EntityView {
    EntityView {
        entity: info.entity.to_string(),
        shard: info.shard.0,
        state: info.state.to_owned(),
        age_seconds: info.age.map(|age| age.as_secs()),
        unused_seconds: info.unused.as_secs(),
        unanswered: count(info.unanswered),
        restarts: info.restarts,
        last_error: info.last_error.clone().filter(|text| !text.is_empty()),
    }
}

/// The names of roles.
#[must_use]
pub fn role_names(roles: Roles) -> Vec<String> {
    let all = NodeRole::ALL.into_iter();
    all.filter(|role| roles.has(*role)).map(|role| role.name().to_owned()).collect()
}

impl LocalOperator {
    /// A node that has just started.
    #[must_use]
    pub fn new(parts: LocalParts) -> Self {
        let started = parts.clock.mono();
        Self { parts, started }
    }

    /// What the node carries.
    #[must_use]
    pub fn load(&self) -> NodeLoad {
        let stats = self.parts.host.stats();
        let owned = self.parts.host.shards();
        let owned = owned.iter().filter(|s| matches!(s.owner, Owner::Here(_)) && !s.is_released);
        NodeLoad {
            shards: u32::try_from(owned.count()).unwrap_or(u32::MAX),
            entities: count(stats.entities),
            queued: stats.kinds.values().map(|kind| count(kind.queued)).sum(),
            memory_bytes: process::resident_bytes(),
            uptime_seconds: self.parts.clock.mono().since(self.started).as_secs(),
        }
    }

    /// What only the node itself knows of itself.
    #[must_use]
    pub fn introduction(&self) -> Introduction {
        Introduction {
            load: self.load(),
            http: self.parts.http.clone(),
            key_ids: self.parts.key_ids.clone(),
            rebalance: self.parts.control.as_ref().map(|control| control.rebalancing().to_owned()),
        }
    }

    /// What the node says of itself, without a lease.
    #[must_use]
    pub fn view(&self) -> NodeView {
        let parts = &self.parts;
        NodeView {
            name: parts.name.clone(),
            is_this: true,
            state: "alive".to_owned(),
            incarnation: parts.incarnation,
            build: parts.build.clone(),
            roles: role_names(parts.roles),
            weight: parts.weight,
            http: parts.http.clone(),
            link: parts.link.clone(),
            linked: true,
            key_ids: parts.key_ids.clone(),
            load: Some(self.load()),
            ..NodeView::default()
        }
    }

    /// Entities in memory by shard; shards without any are left out.
    #[must_use]
    pub fn entities_by_shard(&self) -> Vec<(u16, u64)> {
        let shards = self.parts.host.shards();
        let used = shards.iter().filter(|shard| shard.entities > 0);
        used.map(|shard| (shard.shard.0, count(shard.entities))).collect()
    }

    /// The supervision tree of this node, its entities below their shards.
    #[must_use]
    pub fn tree(&self) -> ActorTreeView {
        let host = &self.parts.host;
        let mut items: Vec<ActorView> = host
            .actors()
            .into_iter()
            .map(|actor| ActorView {
                id: actor.number.to_string(),
                parent: actor.parent.map(|parent| parent.to_string()),
                name: actor.name,
                entity: None,
                state: "live".to_owned(),
                queue: count(actor.queue_depth),
                restarts: actor.restarts,
                last_error: actor.last_error,
                age_seconds: actor.age.as_secs(),
            })
            .collect();
        let parent_of = |shard: ShardId, items: &[ActorView]| {
            let name = format!("shard {shard}");
            items.iter().rev().find(|actor| actor.name == name).map(|actor| actor.id.clone())
        };
        let in_memory = host.stats().entities;
        let actors = items.len();
        for info in host.entities(TREE_ENTITIES_MAX) {
            let parent = parent_of(info.shard, &items[..actors]);
            let view = entity_view(&info);
            items.push(ActorView {
                id: view.entity.clone(),
                parent,
                name: info.entity.kind.name().to_owned(),
                entity: Some(view.entity),
                state: view.state,
                queue: view.unanswered,
                restarts: view.restarts,
                last_error: view.last_error,
                age_seconds: view.age_seconds.unwrap_or(0),
            });
        }
        let left_out = count(in_memory.saturating_sub(items.len() - actors));
        ActorTreeView { node: self.parts.name.clone(), items, left_out }
    }

    /// The queues of this node.
    #[must_use]
    pub fn own_queues(&self) -> QueuesView {
        let kinds = self.parts.host.stats().kinds.into_iter().map(|(kind, of)| KindQueues {
            kind: kind.name().to_owned(),
            live: count(of.live),
            starting: count(of.starting),
            resting: count(of.resting),
            queued: count(of.queued),
            unanswered: count(of.unanswered),
            overloaded: of.overloaded,
            restarts: of.restarts,
        });
        QueuesView {
            node: self.parts.name.clone(),
            kinds: kinds.collect(),
            deepest: self.parts.host.entities(DEEPEST_MAX).iter().map(entity_view).collect(),
            limit: count(ENTITY_QUEUE_MAX),
        }
    }

    /// Where an entity lives, as far as this node knows.
    #[must_use]
    pub fn place(&self, entity: EntityId) -> EntityPlace {
        let (node, epoch) = match self.parts.host.owner(entity.shard()) {
            Owner::Here(epoch) => (Some(self.parts.name.clone()), epoch.0),
            Owner::There(node, epoch) => (Some(node.0.to_string()), epoch.0),
            Owner::Nobody => (None, 0),
        };
        let live = self.parts.host.entity(entity).as_ref().map(entity_view);
        EntityPlace { entity, node, epoch, live }
    }

    fn outcome(&self, entity: EntityId, outcome: &str, detail: &str) -> EntityOutcome {
        EntityOutcome {
            entity: entity.to_string(),
            node: self.parts.name.clone(),
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
        }
    }

    /// Begins an entity of this node anew.
    #[must_use]
    pub fn restart(&self, entity: EntityId) -> EntityOutcome {
        if self.parts.host.restart(entity) {
            let detail = "It is closed when its handler returns, and begins anew from its journal.";
            return self.outcome(entity, "restarting", detail);
        }
        self.not_in_memory(entity)
    }

    fn not_in_memory(&self, entity: EntityId) -> EntityOutcome {
        let detail = "It is not in memory: the next message, or its wake row, begins it.";
        self.outcome(entity, "not_in_memory", detail)
    }

    /// Unloads an entity of this node.
    pub async fn passivate(&self, entity: EntityId) -> EntityOutcome {
        if self.parts.host.entity(entity).is_none() {
            return self.not_in_memory(entity);
        }
        match self.parts.host.passivate(entity).await {
            Passivation::Gone => self.outcome(entity, "passivated", "It is rows again."),
            Passivation::NotIdle => {
                let detail = "It is not idle: something runs or waits in it, or somebody looks on.";
                self.outcome(entity, "not_idle", detail)
            }
        }
    }

    /// Has an entity of this node woken.
    #[must_use]
    pub fn wake(&self, entity: EntityId) -> bool {
        self.parts.host.wake(entity)
    }

    /// What it can do about its shards.
    ///
    /// # Errors
    /// It is the only node.
    pub fn control(&self) -> Result<&Arc<dyn NodeControl>, OperatorError> {
        self.parts.control.as_ref().ok_or_else(|| OperatorError::Refused {
            code: "only_node".into(),
            detail: "This installation is one node, which owns every shard: there is nobody to \
                     hand them to. To stop it in order, end its process with SIGTERM."
                .to_owned(),
        })
    }

    /// A shard as this node sees it.
    #[must_use]
    pub fn shard_view(&self, shard: ShardId) -> ShardView {
        let own = self.parts.host.shards().into_iter().find(|own| own.shard == shard);
        let Some(control) = &self.parts.control else {
            let none = ShardView { shard: shard.0, ..ShardView::default() };
            return own.map_or(none, |own| self.own_shard(&own));
        };
        let entities =
            own.filter(|own| matches!(own.owner, Owner::Here(_))).map(|own| own.entities);
        ShardView { entities: entities.map(count), ..control.shard(shard) }
    }

    /// A shard of a node that is alone.
    fn own_shard(&self, shard: &ShardInfo) -> ShardView {
        let owned = match shard.owner {
            Owner::Here(epoch) if !shard.is_released => Some(epoch.0),
            _ => None,
        };
        let name = owned.map(|_| self.parts.name.clone());
        ShardView {
            shard: shard.shard.0,
            owner: name.clone(),
            epoch: owned.unwrap_or(0),
            state: if owned.is_some() { ShardState::Owned } else { ShardState::Unowned },
            moving_to: None,
            preferred: name,
            entities: Some(count(shard.entities)),
        }
    }

    /// Does to its own shards what was decided for all.
    ///
    /// # Errors
    /// It is the only node, or its membership does not listen.
    pub async fn rebalance_own(&self, action: RebalanceAction) -> Result<Begun, OperatorError> {
        let control = self.control()?;
        let begun = |detail: &str| Begun { detail: detail.to_owned(), shards: 0 };
        match action {
            RebalanceAction::Pause => {
                control.pause(true).await?;
                Ok(begun("Shards move by themselves no more."))
            }
            RebalanceAction::Resume => {
                control.pause(false).await?;
                Ok(begun("Shards move by themselves again."))
            }
            RebalanceAction::Now => control.rebalance_now().await,
        }
    }

    fn here(&self, node: Option<&str>) -> Result<(), OperatorError> {
        match node {
            Some(name) if name != self.parts.name => {
                Err(OperatorError::NoSuchNode(name.to_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Operator for LocalOperator {
    fn name(&self) -> &str {
        &self.parts.name
    }

    async fn nodes(&self) -> Result<NodeList, OperatorError> {
        let (items, rebalance) = (vec![self.view()], "on".to_owned());
        Ok(NodeList { items, rebalance, rebalance_setting: None })
    }

    async fn shards(&self) -> Result<ShardList, OperatorError> {
        let shards = self.parts.host.shards();
        let items = shards.iter().map(|shard| self.own_shard(shard));
        Ok(ShardList { items: items.collect(), ..ShardList::default() })
    }

    async fn actors(&self, node: Option<&str>) -> Result<ActorTreeView, OperatorError> {
        self.here(node)?;
        Ok(self.tree())
    }

    async fn queues(&self, node: Option<&str>) -> Result<QueuesView, OperatorError> {
        self.here(node)?;
        Ok(self.own_queues())
    }

    async fn places(&self, entities: &[EntityId]) -> Result<Vec<EntityPlace>, OperatorError> {
        Ok(entities.iter().map(|entity| self.place(*entity)).collect())
    }

    async fn places_on(
        &self,
        node: &str,
        entities: &[EntityId],
    ) -> Result<Vec<EntityPlace>, OperatorError> {
        self.here(Some(node))?;
        self.places(entities).await
    }

    async fn restart_entity(&self, entity: EntityId) -> Result<EntityOutcome, OperatorError> {
        Ok(self.restart(entity))
    }

    async fn passivate_entity(&self, entity: EntityId) -> Result<EntityOutcome, OperatorError> {
        Ok(self.passivate(entity).await)
    }

    async fn wake_entity(&self, entity: EntityId) -> Result<(), OperatorError> {
        if self.wake(entity) {
            return Ok(());
        }
        let detail = format!("No node takes up entities of the kind {}.", entity.kind.name());
        Err(OperatorError::Refused { code: "unknown_kind".into(), detail })
    }

    async fn drain(&self, node: &str) -> Result<Begun, OperatorError> {
        self.here(Some(node))?;
        self.control()?.drain().await
    }

    async fn shard(&self, shard: ShardId) -> Result<ShardView, OperatorError> {
        Ok(self.shard_view(shard))
    }

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError> {
        self.control()?.move_shard(shard, to).await
    }

    fn shares_shards(&self) -> Result<(), OperatorError> {
        self.control().map(drop)
    }

    async fn rebalance(&self, action: RebalanceAction) -> Result<Begun, OperatorError> {
        self.rebalance_own(action).await
    }

    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}

/// How long something is, in words: `3 s`, `5 min`, `2 h 10 min`, `4 d`.
pub(super) fn long(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..172_800 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s => format!("{} d", s / 86_400),
    }
}
