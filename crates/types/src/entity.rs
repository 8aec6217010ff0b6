//! What an actor is for, and the shard that it hashes to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{DeviceId, NamespaceId, TaskId, TeamSlotsId, decode_uuid, encode_uuid};

/// Shards 0 to 1023 hold all kinds but KnowledgeBase; fixed for the life of a cluster.
pub const SHARDS_GENERAL: u16 = 1024;
/// Shards 1024 to 1279 hold KnowledgeBases.
pub const SHARDS_KNOWLEDGE: u16 = 256;

/// Kinds of entities; the numbers lie on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EntityKind {
    /// A durable conversation.
    Task = 1,
    /// Grants of a Team's slots to one owner.
    Team = 2,
    /// The resources of one owner or group.
    Namespace = 3,
    /// An enrolled machine.
    Device = 4,
    /// A knowledge base with its index.
    KnowledgeBase = 5,
}

impl EntityKind {
    /// The number on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this number on disk.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Task),
            2 => Some(Self::Team),
            3 => Some(Self::Namespace),
            4 => Some(Self::Device),
            5 => Some(Self::KnowledgeBase),
            _ => None,
        }
    }

    /// Whether trimmed entries go to the archive, so that they stay readable.
    #[must_use]
    pub const fn archives(self) -> bool {
        matches!(self, Self::Task)
    }

    /// Lower-case name, for logs and addresses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Team => "team",
            Self::Namespace => "namespace",
            Self::Device => "device",
            Self::KnowledgeBase => "knowledge_base",
        }
    }
}

/// A fixed hash slice of entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The address of an entity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId {
    /// What it is.
    pub kind: EntityKind,
    /// Which one.
    pub id: Uuid,
}

impl EntityId {
    /// The shard it lives in: FNV-1a over the kind and the id, mixed and reduced.
    ///
    /// Fixed for the life of a cluster; a unit test pins it.
    #[must_use]
    pub fn shard(self) -> ShardId {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in std::iter::once(self.kind.code()).chain(*self.id.as_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // FNV mixes its last bytes badly; this finaliser (of MurmurHash3) spreads them.
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        let slot = |n: u16| u16::try_from(((hash >> 32) * u64::from(n)) >> 32).unwrap_or(0);
        match self.kind {
            EntityKind::KnowledgeBase => ShardId(SHARDS_GENERAL + slot(SHARDS_KNOWLEDGE)),
            _ => ShardId(slot(SHARDS_GENERAL)),
        }
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), encode_uuid(self.id))
    }
}

/// Why a text is no address of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityIdError;

impl fmt::Display for EntityIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected KIND/ID as `task/0123..`, or a Task's id")
    }
}

impl std::error::Error for EntityIdError {}

/// Reads what `Display` wrote; the typed ids of entities are understood too.
impl FromStr for EntityId {
    type Err = EntityIdError;

    fn from_str(text: &str) -> Result<Self, EntityIdError> {
        if let Some((kind, id)) = text.split_once('/') {
            let known = (0..=u8::MAX).filter_map(EntityKind::from_code);
            let kind = known.into_iter().find(|k| k.name() == kind).ok_or(EntityIdError)?;
            return Ok(Self { kind, id: decode_uuid(id).ok_or(EntityIdError)? });
        }
        let task = text.parse::<TaskId>().map(Self::from);
        let team = || text.parse::<TeamSlotsId>().map(Self::from);
        let namespace = || text.parse::<NamespaceId>().map(Self::from);
        task.or_else(|_| team()).or_else(|_| namespace()).map_err(|_| EntityIdError)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<TaskId> for EntityId {
    fn from(id: TaskId) -> Self {
        Self { kind: EntityKind::Task, id: id.uuid() }
    }
}

impl From<NamespaceId> for EntityId {
    fn from(id: NamespaceId) -> Self {
        Self { kind: EntityKind::Namespace, id: id.uuid() }
    }
}

impl From<DeviceId> for EntityId {
    fn from(id: DeviceId) -> Self {
        Self { kind: EntityKind::Device, id: id.uuid() }
    }
}

impl From<TeamSlotsId> for EntityId {
    fn from(id: TeamSlotsId) -> Self {
        Self { kind: EntityKind::Team, id: id.uuid() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_pinned() {
        let shard = |kind, n| EntityId { kind, id: Uuid::from_u128(n) }.shard().0;
        let got = [
            shard(EntityKind::Task, 0),
            shard(EntityKind::Task, 1),
            shard(EntityKind::Namespace, 1),
            shard(EntityKind::KnowledgeBase, 1),
        ];
        assert_eq!(got, PINNED, "a changed hash would lose every entity of a running cluster");
    }

    #[test]
    fn an_address_comes_back_from_its_text() {
        let task = TaskId::derived(&["a"]);
        for code in 1..=5 {
            let kind = EntityKind::from_code(code).unwrap();
            let id = EntityId { kind, id: task.uuid() };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(task.to_string().parse(), Ok(EntityId::from(task)));
        for wrong in ["", "task", "task/", "task/x", "robot/0", "msg_00000000000000000000000000"] {
            assert_eq!(wrong.parse::<EntityId>(), Err(EntityIdError), "{wrong}");
        }
    }

    const PINNED: [u16; 4] = [125, 1022, 944, 1278];

    #[test]
    fn shards_are_spread() {
        let mut counts = vec![0u32; usize::from(SHARDS_GENERAL)];
        for n in 0..102_400u128 {
            let id = EntityId { kind: EntityKind::Task, id: Uuid::from_u128((n << 64) | (n * 7)) };
            counts[usize::from(id.shard().0)] += 1;
        }
        assert!(counts.iter().all(|&c| (40..200).contains(&c)), "{counts:?}");
    }
}
