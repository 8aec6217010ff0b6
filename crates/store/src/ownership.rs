//! Who is alive and who owns which shard: rows that only compare-and-set changes.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;
use troupe_types::{Incarnation, LeaseRow, NodeName, NodeState, Roles, ShardId, ShardRow, Uuid};

use crate::error::{Cause, ReadError};

/// What a process says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLease {
    /// Its name; two processes of one name fence each other.
    pub node: NodeName,
    /// Made at its start; joining again with the same one changes nothing.
    pub boot_id: Uuid,
    /// Where its node link listens.
    pub addr: String,
    /// Which build it is.
    pub build: String,
    /// What it hosts.
    pub roles: Roles,
    /// Its share of the shards relative to others, at least 1.
    pub weight: u32,
}

impl NewLease {
    /// The row that it becomes.
    #[must_use]
    pub fn row(&self, inc: Incarnation) -> LeaseRow {
        LeaseRow {
            node: self.node.clone(),
            boot_id: self.boot_id,
            inc,
            seq: 1,
            state: NodeState::Alive,
            addr: self.addr.clone(),
            build: self.build.clone(),
            roles: self.roles,
            weight: self.weight,
        }
    }
}

/// Why a row of ownership was not changed, or not for certain.
#[derive(Clone, Debug, Error)]
pub enum OwnershipError {
    /// The row is not as it was expected to be, and never will be again: read it.
    #[error("the row has changed")]
    Refused,
    /// It may have happened, may not, and **may still happen**: read before anything is
    /// decided, and after an unknown hand-over never go on under the old epoch.
    #[error("the outcome of the change is unknown")]
    OutcomeUnknown {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// The store did not take it; nothing was changed.
    #[error("the store is not available")]
    Unavailable {
        /// What the store said.
        #[source]
        source: Cause,
    },
}

impl OwnershipError {
    /// Whether trying again, after reading the row, may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Refused)
    }
}

/// Leases of nodes and owners of shards.
///
/// - **Linearizable per row**, reads of one row included: after [`lease`](Self::lease) has
///   shown an incarnation dead or superseded, it never renews again.
/// - **Once.** Of all changes that expect one state of a row at most one happens; incarnations
///   and epochs rise by one with each, and no two owners ever hold one epoch of a shard.
/// - **Written down.** Every grant of a shard stays in a log for audits.
///
/// A row that was changed by a call whose answer got lost is found by the same call, repeated:
/// it then succeeds without changing anything. No clock is read or compared anywhere.
#[async_trait]
pub trait Ownership: fmt::Debug + Send + Sync + 'static {
    /// Takes the node's lease with the next incarnation and makes this handle's journal depend
    /// on it: from here on its appends commit only while this incarnation is in force.
    /// Idempotent by boot id.
    ///
    /// # Errors
    /// [`OwnershipError::Refused`] if another process of the name joined at the same time, this
    /// boot id was superseded, or this handle has joined under another boot id: what is open in
    /// it belongs to that one for ever.
    async fn join(&self, new: &NewLease) -> Result<LeaseRow, OwnershipError>;

    /// Renews `lease`, the row as last written by this process, with a new state (alive or
    /// draining); returns the new row.
    ///
    /// # Errors
    /// [`OwnershipError::Refused`]: the lease is over.
    async fn renew(&self, lease: &LeaseRow, state: NodeState) -> Result<LeaseRow, OwnershipError>;

    /// Ends a lease that is still as `seen`. Any node may; a node ends its own when it leaves.
    ///
    /// # Errors
    /// [`OwnershipError::Refused`] if it was renewed or superseded meanwhile.
    async fn kill(&self, seen: &LeaseRow) -> Result<(), OwnershipError>;

    /// The lease of a node, linearizable: what a claim must look at.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn lease(&self, node: &NodeName) -> Result<Option<LeaseRow>, ReadError>;

    /// The leases of all nodes that ever joined, in order of their names. A hint: some may be
    /// older than others.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn leases(&self) -> Result<Vec<LeaseRow>, ReadError>;

    /// Gives a shard to a node, with the next epoch. `from` is the row as it was read, `None`
    /// for a shard that nobody ever owned; its owner must have been seen dead or superseded by
    /// [`lease`](Self::lease) after `from` was read.
    ///
    /// # Errors
    /// [`OwnershipError::Refused`] if somebody was faster.
    async fn claim(
        &self,
        shard: ShardId,
        from: Option<&ShardRow>,
        to: (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError>;

    /// Hands a shard of this node over. From the call on, whatever its outcome, this handle's
    /// journal refuses everything of that shard under `from`'s epoch and older ones.
    ///
    /// # Errors
    /// After anything but `Ok`: read, and if the shard is still this node's, [`bump`](Self::bump)
    /// before going on.
    async fn hand_over(
        &self,
        from: &ShardRow,
        to: (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError>;

    /// The same owner with the next epoch.
    ///
    /// # Errors
    /// [`OwnershipError::Refused`] if it is not the owner any more.
    async fn bump(&self, from: &ShardRow) -> Result<ShardRow, OwnershipError>;

    /// Who owns a shard, linearizable; `None` if nobody ever did.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn shard(&self, shard: ShardId) -> Result<Option<ShardRow>, ReadError>;

    /// The owners of all shards that ever had one, in order. A hint: a row may be older than
    /// one seen before; ignore it then.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn shards(&self) -> Result<Vec<ShardRow>, ReadError>;

    /// Every grant of a shard that was written down, in order of the epochs. Two rows of one
    /// epoch would be a broken promise.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn grants(&self, shard: ShardId) -> Result<Vec<ShardRow>, ReadError>;
}
