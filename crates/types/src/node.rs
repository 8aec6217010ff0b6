//! Nodes of a cluster: names, roles, and the rows that say who is alive and who owns a shard.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    entity::{SHARDS_GENERAL, ShardId},
    seq::{Epoch, Incarnation},
};

/// The name of a node, fixed by its configuration and certificate; unique in a cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub Arc<str>);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a node hosts; the numbers lie on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum NodeRole {
    /// HTTP and Socket.IO end here.
    Gateway = 1,
    /// Shards below [`SHARDS_GENERAL`] live here.
    Entities = 2,
    /// Devices end here.
    Edge = 4,
    /// Shards from [`SHARDS_GENERAL`] on live here.
    Knowledge = 8,
}

impl NodeRole {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Entities, Self::Edge, Self::Knowledge];

    /// The role that a node needs to own this shard.
    #[must_use]
    pub const fn of_shard(shard: ShardId) -> Self {
        if shard.0 < SHARDS_GENERAL { Self::Entities } else { Self::Knowledge }
    }

    /// Lower-case name, as in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Entities => "entities",
            Self::Edge => "edge",
            Self::Knowledge => "knowledge",
        }
    }
}

impl FromStr for NodeRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(UnknownRole)
    }
}

/// No role has this name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there are {}", NodeRole::ALL.map(NodeRole::name).join(", "))]
pub struct UnknownRole;

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);
    /// Every role: what a node has by default.
    pub const ALL: Self = Self(15);

    /// The set with these bits on disk; bits that mean nothing here are kept.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits on disk.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The same set with one more role.
    #[must_use]
    pub const fn with(self, role: NodeRole) -> Self {
        Self(self.0 | role as u8)
    }

    /// Whether the role is in the set.
    #[must_use]
    pub const fn has(self, role: NodeRole) -> bool {
        self.0 & role as u8 != 0
    }
}

impl FromIterator<NodeRole> for Roles {
    fn from_iter<I: IntoIterator<Item = NodeRole>>(roles: I) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NodeRole::ALL.into_iter().filter(|role| self.has(*role)).map(NodeRole::name);
        f.debug_set().entries(names).finish()
    }
}

/// What a lease row says about its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It works.
    Alive,
    /// It hands its shards over and takes none.
    Draining,
    /// It is over; only a new incarnation can come.
    Dead,
}

impl NodeState {
    /// The word on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Dead => "dead",
        }
    }

    /// The state with this word on disk.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "alive" => Some(Self::Alive),
            "draining" => Some(Self::Draining),
            "dead" => Some(Self::Dead),
            _ => None,
        }
    }
}

/// A node's lease. Changed only by compare-and-set, never deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Whose.
    pub node: NodeName,
    /// Which process; a new one has a new id.
    pub boot_id: Uuid,
    /// Rises with each join.
    pub inc: Incarnation,
    /// Rises with each renewal; starts at 1 with each join.
    pub seq: u64,
    /// What it says.
    pub state: NodeState,
    /// Where its node link listens.
    pub addr: String,
    /// Which build it runs.
    pub build: String,
    /// What it hosts.
    pub roles: Roles,
    /// Its share of the shards relative to others, at least 1; 100 is usual.
    pub weight: u32,
}

/// Who owns a shard. Changed only by compare-and-set, never deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// Which.
    pub shard: ShardId,
    /// The owner.
    pub owner: NodeName,
    /// The owner's incarnation.
    pub owner_inc: Incarnation,
    /// Rises by one with each change.
    pub epoch: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::SHARDS_KNOWLEDGE;

    #[test]
    fn roles_and_states_keep_their_numbers_and_words() {
        assert_eq!(NodeRole::ALL.map(|role| role as u8), [1, 2, 4, 8]);
        assert_eq!(NodeRole::ALL.into_iter().collect::<Roles>(), Roles::ALL);
        assert_eq!(format!("{:?}", Roles::NONE.with(NodeRole::Edge)), r#"{"edge"}"#);
        for state in [NodeState::Alive, NodeState::Draining, NodeState::Dead] {
            assert_eq!(NodeState::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn every_shard_wants_the_role_of_its_kinds() {
        for shard in 0..SHARDS_GENERAL + SHARDS_KNOWLEDGE {
            let role = NodeRole::of_shard(ShardId(shard));
            assert_eq!(role == NodeRole::Knowledge, shard >= SHARDS_GENERAL);
        }
    }
}
