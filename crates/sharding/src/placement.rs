//! Who owns a Shard. Today one node owns all of them; the claims of a cluster come in here.

use std::{fmt, sync::Arc};

use thiserror::Error;
use troupe_types::{Epoch, ShardId};

/// The name of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeName(pub Arc<str>);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns a Shard, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node, under this epoch.
    Here(Epoch),
    /// Another node, as of this epoch: a hint for routing, never a decision.
    There(NodeName, Epoch),
    /// Nobody known.
    Nobody,
}

/// This node does not own the Shard of an address. Between nodes this is an answer; to a
/// caller it is `NotDelivered`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("shard {shard} is not owned by this node")]
pub struct NotOwner {
    /// Which.
    pub shard: ShardId,
    /// Who may own it.
    pub owner: Option<NodeName>,
    /// The newest epoch known, [`Epoch::ZERO`] if none is.
    pub epoch: Epoch,
}

/// Answers who owns a Shard; asked for every message, so it must not block.
pub trait Placement: fmt::Debug + Send + Sync + 'static {
    /// The owner, as far as this node knows.
    fn owner(&self, shard: ShardId) -> Owner;
}

/// One node owns everything, under the epoch of its start.
#[derive(Clone, Copy, Debug)]
pub struct OneNode(pub Epoch);

impl Placement for OneNode {
    fn owner(&self, _: ShardId) -> Owner {
        Owner::Here(self.0)
    }
}
