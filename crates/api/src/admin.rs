//! What administrators see of a cluster and may do with it: `/api/v1/admin`.
//!
//! Nodes tell each other the same types, as JSON: fields are only ever added, with a default.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_types::{Status, TaskId, Timestamp, UserId};

use crate::task::WhyAnswer;

/// A node's own word about how much it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct NodeLoad {
    /// Shards that it owns.
    pub shards: u32,
    /// Entities in its memory.
    pub entities: u64,
    /// Messages that wait in the queues of its entities.
    pub queued: u64,
    /// Resident memory of its process, in bytes.
    pub memory_bytes: u64,
    /// Seconds since its process started.
    pub uptime_seconds: u64,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// It is the one that answers this.
    pub is_this: bool,
    /// `alive`, `draining` or `dead`, as its lease says.
    pub state: String,
    /// Rises with each of its starts.
    pub incarnation: u64,
    /// Since its lease was last seen renewed, in milliseconds, by the clock of the node that
    /// answers; absent for a node without a lease (a single one), and for a dead one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_age_ms: Option<u64>,
    /// How long its lease is good for if it is not renewed; negative: overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_left_ms: Option<i64>,
    /// Which build it runs.
    pub build: String,
    /// `gateway`, `entities`, `edge`, `knowledge`.
    pub roles: Vec<String>,
    /// Its share of the shards relative to others.
    pub weight: u32,
    /// Where its HTTP listens, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Where other nodes reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether the node that answers has a link to it.
    pub linked: bool,
    /// Ids of the keys that it has (never the keys); all nodes have the same ones.
    pub key_ids: Vec<String>,
    /// What it carries; absent if it could not be asked, then `unreachable` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<NodeLoad>,
    /// Whether shards of this node move by themselves, as it says itself; words as in
    /// [`NodeList::rebalance`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<String>,
    /// Why its load is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
}

/// What an administrator decided for the whole cluster about shards that move by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebalanceSetting {
    /// They do not.
    pub paused: bool,
    /// Who decided it.
    pub user_id: UserId,
    /// Their name then.
    pub user_name: String,
    /// When, by the node that wrote it down.
    pub at: Timestamp,
}

/// All nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct NodeList {
    /// By name.
    pub items: Vec<NodeView>,
    /// Whether shards of the node that answers move by themselves: `on`, `paused` (by an
    /// administrator), `slow` (they rest while the store is).
    pub rebalance: String,
    /// Who decided it last, and when; absent if nobody ever did or the store did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalance_setting: Option<RebalanceSetting>,
}

/// How far a shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    /// It has a live owner.
    Owned,
    /// Its owner hands it to another node.
    Moving,
    /// Its owner is dead, and nobody has claimed it yet.
    Orphaned,
    /// It never had an owner.
    #[default]
    Unowned,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ShardView {
    /// Its number: 0 to 1023, and 1024 to 1279 for knowledge bases.
    pub shard: u16,
    /// The node that owns it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Rises by one with each owner.
    pub epoch: u64,
    /// How far it is.
    pub state: ShardState,
    /// Where it moves to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<String>,
    /// The node that placement would give it to; another one than the owner means that it will
    /// move once things have been quiet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred: Option<String>,
    /// Its entities in the owner's memory; absent if the owner could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entities: Option<u64>,
}

/// All shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ShardList {
    /// By number.
    pub items: Vec<ShardView>,
    /// What was decided last about shards that move by themselves; absent if nobody ever did or
    /// the store did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalance_setting: Option<RebalanceSetting>,
}

/// One line of the supervision tree: an actor, or an entity below its shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ActorView {
    /// Unique among the actors of this answer.
    pub id: String,
    /// The `id` of its supervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// `shard host`, `shard 77`, `task`..
    pub name: String,
    /// Of an entity: its address, as `restart` and `passivate` take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// `live`, `starting`, `closing` or `resting` (after a crash).
    pub state: String,
    /// Messages without an answer.
    pub queue: u64,
    /// How often it, or a child of it, was started again.
    pub restarts: u64,
    /// Why, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How long it has been there, in seconds.
    pub age_seconds: u64,
}

/// The supervision tree of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ActorTreeView {
    /// Which node.
    pub node: String,
    /// Parents before their children; of the entities those with the longest queues and the most
    /// restarts.
    pub items: Vec<ActorView>,
    /// Entities in memory that are left out.
    pub left_out: u64,
}

/// The queues of one kind of entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct KindQueues {
    /// `task`, `team`, `namespace`..
    pub kind: String,
    /// Live activations.
    pub live: u64,
    /// Waiting for an activation, or in one.
    pub starting: u64,
    /// Waiting after a crash.
    pub resting: u64,
    /// Messages in queues.
    pub queued: u64,
    /// Messages without an answer, queued ones included.
    pub unanswered: u64,
    /// Messages refused because a queue or the memory was full, since the node started.
    pub overloaded: u64,
    /// Activations begun again after a crash, since the node started.
    pub restarts: u64,
}

/// One entity with its queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct EntityView {
    /// Its address: `task/..`, `team/..`.
    pub entity: String,
    /// Its shard.
    pub shard: u16,
    /// `live`, `starting`, `closing` or `resting` (after a crash).
    pub state: String,
    /// How long it has been live, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Since it was last used, in seconds.
    pub unused_seconds: u64,
    /// Messages without an answer.
    pub unanswered: u64,
    /// Crashes and failed activations since it came to memory.
    pub restarts: u64,
    /// The last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The queues of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct QueuesView {
    /// Which node.
    pub node: String,
    /// By kind.
    pub kinds: Vec<KindQueues>,
    /// The entities with the most unanswered messages, at most 20.
    pub deepest: Vec<EntityView>,
    /// Most unanswered messages that one entity may have.
    pub limit: u64,
}

/// A node's pool of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PoolView {
    /// Which node.
    pub node: String,
    /// Containers at once.
    pub max: u32,
    /// How many of them Tasks have.
    pub used: u32,
    /// It said so lately.
    pub live: bool,
}

/// A Task's container, or its wish for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerView {
    /// Whose it is.
    pub task_id: TaskId,
    /// `wanted`, `starting`, `running`, `failed`.
    pub state: String,
    /// Its name, once it runs; the device's, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The node whose pool has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its image; none: the pool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Since when the Task wants it.
    pub since: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All pools, and all containers with the wishes, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ContainersView {
    /// By node.
    pub pools: Vec<PoolView>,
    /// The oldest first.
    pub items: Vec<ContainerView>,
}

/// What became of a wish about one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct EntityOutcome {
    /// Its address.
    pub entity: String,
    /// The node that owns it.
    pub node: String,
    /// `restarting`; `passivated`, `not_idle`; `not_in_memory`.
    pub outcome: String,
    /// In words.
    pub detail: String,
}

/// Body of `POST shards/{id}/move`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveShard {
    /// The node that is to own it.
    pub to: String,
}

/// What became of a wish to move a shard. A refusal is a problem with a code of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ShardMove {
    /// Which.
    pub shard: u16,
    /// `begun`; `under_way` (to this node, before); `already_there`; empty: the owner is of an
    /// older build and does not say.
    pub outcome: String,
    /// The node that owns it, or did when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The node that is to own it.
    pub to: String,
    /// In words, with where to look.
    pub detail: String,
}

/// What to do about shards that are not where placement would have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RebalanceAction {
    /// Nothing moves by itself any more (claims of orphaned shards go on).
    Pause,
    /// Shards move by themselves again.
    Resume,
    /// Move at once what would move after a while.
    Now,
}

/// Body of `POST rebalance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rebalance {
    /// What.
    pub action: RebalanceAction,
}

/// What was begun, and goes on by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Begun {
    /// In words, with where to look.
    pub detail: String,
    /// Shards that are to move.
    pub shards: u32,
}

/// A message that was given up: its handler crashed every time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DeadLetterView {
    /// Its id.
    pub id: String,
    /// For whom it was.
    pub entity: String,
    /// The shard of that entity.
    pub shard: u16,
    /// When it was given up.
    pub at: Timestamp,
    /// How often it was tried.
    pub strikes: u32,
    /// What went wrong the last time.
    pub error: String,
    /// Bytes of the message; none: it was a wake-up.
    pub bytes: u64,
    /// What sort of message it was, as far as can be seen.
    pub what: String,
    /// Its form, every text in it replaced by its length; only when one letter is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub message: Option<Value>,
}

/// Body of `POST dead-letters/{id}/discard`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiscardLetter {
    /// Why, for the audit log; 1 to 500 characters.
    pub reason: String,
}

/// What became of a dead letter that was given to its entity again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RetriedLetter {
    /// Its id.
    pub id: String,
    /// `handled`; `refused` (the entity looked at it and said no); `given_up` (it crashed again,
    /// and lies there as a new letter). The letter itself is gone in all three.
    pub outcome: String,
    /// In words.
    pub detail: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    #[default]
    Ok,
    /// It works, but somebody should look.
    Warn,
    /// Something is broken.
    Fail,
}

/// One check of the doctor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Check {
    /// Its name, the same for ever.
    pub name: String,
    /// What is checked, in words.
    pub title: String,
    /// How it went.
    pub state: CheckState,
    /// The promise behind it: `I1` to `I11`, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invariant: Option<String>,
    /// What was found, with numbers.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// All checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DoctorReport {
    /// The worst of them.
    pub state: CheckState,
    /// When, by the node that answers.
    pub at: Timestamp,
    /// The node that answers.
    pub node: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Each of them.
    pub checks: Vec<Check>,
    /// Promises that nobody can check on a running cluster.
    pub unchecked: Vec<Unchecked>,
}

/// A promise, or a part of one, that the doctor cannot check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Unchecked {
    /// `I1` to `I11`.
    pub invariant: String,
    /// Why not, and what shows it instead.
    pub why: String,
}

/// A durable reminder of something that an entity has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct WakeView {
    /// When to look at it.
    pub due: Timestamp,
    /// Why: `run`, `approval_expiry`, `projection`..
    pub kind: String,
}

/// Why a Task waits or what it does, for operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminWhy {
    /// The Task.
    pub task_id: TaskId,
    /// Whose it is, and its title.
    pub user_id: UserId,
    /// Its title.
    pub title: String,
    /// How far it is.
    pub status: Status,
    /// One sentence.
    pub summary: String,
    /// The node that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its shard.
    pub shard: u16,
    /// The shard's epoch.
    pub epoch: u64,
    /// It in the owner's memory; absent if it was not there before it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityView>,
    /// What the Task itself says.
    pub why: WhyAnswer,
    /// What will make it go on after any crash.
    #[serde(default)]
    pub wakes: Vec<WakeView>,
    /// All of it in words.
    #[serde(default)]
    pub details: Vec<String>,
    /// What can be done.
    #[serde(default)]
    pub next_steps: Vec<String>,
}

/// Something that an administrator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// When, by the node that did it.
    pub at: Timestamp,
    /// Who.
    pub user_id: UserId,
    /// Their name then.
    pub user_name: String,
    /// `drain_node`, `discard_dead_letter`..
    pub action: String,
    /// To what.
    #[serde(default)]
    pub target: String,
    /// More of it.
    #[serde(default)]
    pub detail: String,
    /// `done`, or the code of the problem.
    pub outcome: String,
}
