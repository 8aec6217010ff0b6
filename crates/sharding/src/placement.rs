//! Who owns a Shard, as the Router and the Shards ask it for every message. A node alone owns all
//! of them ([`OneNode`]); in a cluster the [membership](crate::membership) answers.

use std::fmt;

use thiserror::Error;
pub use troupe_placement::Owner;
pub use troupe_types::NodeName;
use troupe_types::{Epoch, ShardId};

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
    /// The owner, as far as this node knows. `Here` only while this node may handle messages.
    fn owner(&self, shard: ShardId) -> Owner;

    /// A message waits for a Shard that has no owner.
    fn wanted(&self, _shard: ShardId) {}
}

/// One node owns everything, under the epoch of its start.
#[derive(Clone, Copy, Debug)]
pub struct OneNode(pub Epoch);

impl Placement for OneNode {
    fn owner(&self, _: ShardId) -> Owner {
        Owner::Here(self.0)
    }
}
