//! What the machines ask of the store, and what it answers.

use troupe_types::{Incarnation, LeaseRow, NodeName, NodeState, ShardId, ShardRow};

/// An operation on the rows of leases and shards.
///
/// `Join` to `Bump` are compare-and-sets and linearizable per row, with QUORUM as commit
/// consistency. `ReadLease` and `ReadShard` are SERIAL reads: they finish what is under way on
/// the row, so that whatever they show is seen by every later QUORUM read. The lists are plain
/// reads; what they show is a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// SERIAL read of one lease.
    ReadLease {
        /// Whose.
        node: NodeName,
    },
    /// Plain reads of all leases of the cluster.
    ListLeases,
    /// SERIAL read of one shard row.
    ReadShard {
        /// Which.
        shard: ShardId,
    },
    /// Plain reads of all shard rows.
    ListShards,
    /// Writes the own lease if it is at this incarnation; `None`: if there is none.
    Join {
        /// The incarnation that must be there.
        expected: Option<Incarnation>,
        /// The new row.
        row: LeaseRow,
    },
    /// `seq + 1` and the state, if it is at (inc, seq) of `from` and not dead.
    Renew {
        /// The own row, as it is known.
        from: LeaseRow,
        /// The state to write.
        state: NodeState,
    },
    /// State dead, if it is at (inc, seq) of `seen`: fails if the node has renewed meanwhile.
    Kill {
        /// The row, as it was seen.
        seen: LeaseRow,
    },
    /// Takes a shard whose owner is gone; `None`: that never had one.
    Claim {
        /// The row that must be there.
        expected: Option<ShardRow>,
        /// The new row, one epoch on.
        row: ShardRow,
    },
    /// Gives a shard of this node to another one.
    Move {
        /// The row that must be there.
        expected: ShardRow,
        /// The new row, one epoch on.
        row: ShardRow,
    },
    /// Keeps a shard after a move with an unknown outcome, under a new epoch.
    Bump {
        /// The row that must be there.
        expected: ShardRow,
        /// The new row, one epoch on.
        row: ShardRow,
    },
}

impl StoreOp {
    /// Whether it changes a row by compare-and-set.
    #[must_use]
    pub const fn is_compare_and_set(&self) -> bool {
        !matches!(
            self,
            Self::ReadLease { .. } | Self::ListLeases | Self::ReadShard { .. } | Self::ListShards
        )
    }

    /// What a compare-and-set makes of the lease row that it finds; `None`: refused, or not
    /// about leases. What a store in memory runs, and the meaning of every other one.
    #[must_use]
    pub fn lease_after(&self, found: Option<&LeaseRow>) -> Option<LeaseRow> {
        match self {
            Self::Join { expected, row } => {
                (found.map(|now| now.inc) == *expected).then(|| row.clone())
            }
            Self::Renew { from, state } => {
                let now = found.filter(|now| (now.inc, now.seq) == (from.inc, from.seq))?;
                (now.state != NodeState::Dead).then(|| LeaseRow {
                    seq: now.seq + 1,
                    state: *state,
                    ..now.clone()
                })
            }
            Self::Kill { seen } => {
                let now = found.filter(|now| (now.inc, now.seq) == (seen.inc, seen.seq))?;
                Some(LeaseRow { state: NodeState::Dead, ..now.clone() })
            }
            _ => None,
        }
    }

    /// The same for shard rows.
    #[must_use]
    pub fn shard_after(&self, found: Option<&ShardRow>) -> Option<ShardRow> {
        match self {
            Self::Claim { expected, row } => (found == expected.as_ref()).then(|| row.clone()),
            Self::Move { expected, row } | Self::Bump { expected, row } => {
                (found == Some(expected)).then(|| row.clone())
            }
            _ => None,
        }
    }
}

/// What became of a [`StoreOp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The compare-and-set is done.
    Applied,
    /// The compare-and-set found another row and changed nothing. An earlier attempt of the
    /// same may have been done all the same.
    Refused,
    /// The answer to `ReadLease`.
    Lease(Option<LeaseRow>),
    /// The answer to `ListLeases`.
    Leases(Vec<LeaseRow>),
    /// The answer to `ReadShard`.
    Shard(Option<ShardRow>),
    /// The answer to `ListShards`.
    Shards(Vec<ShardRow>),
    /// An error. A read showed nothing; a compare-and-set may have been done, or may still be.
    Failed,
}
