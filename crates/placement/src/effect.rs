//! What goes into a [`Node`](crate::Node) and what comes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use troupe_types::{Epoch, Incarnation, LeaseRow, MonoTime, NodeName, ShardId, Uuid};

use crate::op::{Answer, StoreOp};

/// Names one attempt at a store operation; never used twice by a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// Names one hand-off: the source's incarnation and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HandoffId {
    /// Of the source.
    pub inc: Incarnation,
    /// From 1, within the incarnation.
    pub count: u64,
}

/// What nodes say to each other about ownership. May be lost, doubled, late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// The sender works; its last good renewal is this one.
    Heartbeat {
        /// The sender's incarnation.
        inc: Incarnation,
        /// Its last good renewal.
        seq: u64,
    },
    /// Will you take this shard?
    Prepare {
        /// Which hand-off.
        id: HandoffId,
        /// Which shard.
        shard: ShardId,
        /// The epoch that the source holds.
        epoch: Epoch,
    },
    /// Yes: the sender buffers what is forwarded to it.
    Ready {
        /// Which hand-off.
        id: HandoffId,
        /// Which shard.
        shard: ShardId,
        /// The target's incarnation.
        inc: Incarnation,
    },
    /// No.
    Refuse {
        /// Which hand-off.
        id: HandoffId,
        /// Which shard.
        shard: ShardId,
    },
    /// The source keeps the shard, as far as it knows.
    Cancel {
        /// Which hand-off.
        id: HandoffId,
        /// Which shard.
        shard: ShardId,
    },
    /// The row names the target; everything that was queued has been sent before this.
    Committed {
        /// Which hand-off.
        id: HandoffId,
        /// Which shard.
        shard: ShardId,
        /// The target's epoch.
        epoch: Epoch,
    },
    /// Everything that was forwarded has been sent before this.
    FlushMarker {
        /// Which hand-off.
        id: HandoffId,
        /// Which shard.
        shard: ShardId,
    },
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Join the cluster, under a boot id that was never used before.
    Start {
        /// Names this process, or this try of it.
        boot_id: Uuid,
    },
    /// Time has passed. Wanted at least every 50 ms.
    Tick,
    /// The store has answered an attempt.
    Reply {
        /// Which.
        attempt: AttemptId,
        /// What.
        answer: Answer,
    },
    /// A peer says something.
    Message {
        /// Who, as its certificate says.
        from: NodeName,
        /// What.
        message: PeerMessage,
    },
    /// A commit barrier has read the own lease row (plain, QUORUM).
    BarrierShows {
        /// The incarnation that the append belongs to.
        inc: Incarnation,
        /// The row.
        row: Option<LeaseRow>,
    },
    /// Nothing of the shard runs any more, and no append of it is under way.
    Drained {
        /// Which.
        shard: ShardId,
        /// As [`Effect::DrainShard`] named it.
        id: HandoffId,
    },
    /// Somebody waits for a shard that nobody owns: if this node claims it, then before others.
    Wanted {
        /// Which.
        shard: ShardId,
    },
    /// Rebalancing is switched off or on; hand-offs under way go on.
    PauseRebalance(bool),
    /// An administrator wants the shard moved: [`Effect::MoveAnswered`] follows in the same step.
    MoveShard {
        /// Which.
        shard: ShardId,
        /// Where to.
        to: NodeName,
    },
    /// Hand everything over, then leave.
    Leave,
    /// All that [`Effect::PassivateAll`] asked for is done.
    Passivated,
}

/// Why a node stops handling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceReason {
    /// The lease was not renewed in time; the shards may still be this node's.
    Expired,
    /// The lease row says dead or names a newer incarnation; the shards are others'.
    Lost,
    /// It took too long to leave.
    LeavingTooLong,
}

/// What became of an administrator's wish to have a shard moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAnswer {
    /// The hand-off has begun: the target is asked.
    Begun,
    /// It was under way to this target before.
    UnderWay,
    /// The target is this node, which owns the shard.
    AlreadyThere,
    /// Nothing was begun.
    Refused(MoveRefusal),
}

/// Why a hand-off was not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveRefusal {
    /// This node does not own the shard.
    NotOwner,
    /// The lease of this node does not hold now.
    NoLease,
    /// The shard is on its way to another node.
    Elsewhere(NodeName),
    /// No node of this name ever had a lease.
    UnknownTarget,
    /// The target's lease is over.
    DeadTarget,
    /// The target gives its own shards away.
    DrainingTarget,
    /// The target works, but this node has not heard it for a while.
    SilentTarget,
    /// The target has no role for shards of this sort.
    UnfitTarget,
    /// As many hand-offs as may be are under way.
    Full {
        /// How many.
        under_way: usize,
    },
}

/// What is to be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start this operation; answer with [`Input::Reply`]. An answer that never comes is taken
    /// for `Failed` after the attempt's time, and dropped when it comes later.
    Store {
        /// Names the attempt.
        attempt: AttemptId,
        /// What to do.
        op: StoreOp,
    },
    /// Tell a peer.
    Send {
        /// Whom.
        to: NodeName,
        /// What.
        message: PeerMessage,
    },
    /// Tell every peer that this node works.
    Heartbeat {
        /// The own incarnation.
        inc: Incarnation,
        /// The last good renewal.
        seq: u64,
    },
    /// Stop handling at once and drop every activation, before anything else is handled.
    FenceNode {
        /// Why.
        reason: FenceReason,
    },
    /// The lease holds (again). [`Effect::Activate`] follows for every shard owned.
    UnfenceNode {
        /// The incarnation, for the commit barrier.
        inc: Incarnation,
    },
    /// The shard is this node's under this epoch: handle what comes for it.
    Activate {
        /// Which.
        shard: ShardId,
        /// Opens and appends carry it.
        epoch: Epoch,
    },
    /// As `Activate`, at the end of a hand-off: first what was forwarded, in order; what came
    /// directly waits for [`Effect::OpenDirect`].
    ActivateForwarded {
        /// Which.
        shard: ShardId,
        /// Opens and appends carry it.
        epoch: Epoch,
    },
    /// All that was forwarded is there: go on with what came directly.
    OpenDirect {
        /// Which.
        shard: ShardId,
    },
    /// Drop every activation of the shard under this or an older epoch, at once.
    Deactivate {
        /// Which.
        shard: ShardId,
        /// The last epoch that is over.
        epoch: Epoch,
    },
    /// Let the shard come to rest: runs finish their step, handlers end, appends end; new
    /// envelopes are forwarded. Then [`Input::Drained`].
    DrainShard {
        /// Which.
        shard: ShardId,
        /// Whom to forward to.
        to: NodeName,
        /// For the answer.
        id: HandoffId,
    },
    /// The hand-off is off: handle again, under the same epoch.
    ResumeShard {
        /// Which.
        shard: ShardId,
        /// The epoch.
        epoch: Epoch,
    },
    /// From here on the store refuses every open and append of the shard under this or an
    /// older epoch, before the write and again before the acknowledgement. Never taken back.
    Release {
        /// Which.
        shard: ShardId,
        /// The last epoch that is over.
        epoch: Epoch,
    },
    /// Send what is queued for the shard, in order.
    SendQueues {
        /// Which.
        shard: ShardId,
        /// Whom to.
        to: NodeName,
        /// Which hand-off.
        id: HandoffId,
    },
    /// Forward what still comes for the shard, for so long.
    Forward {
        /// Which.
        shard: ShardId,
        /// Whom to.
        to: NodeName,
        /// How long.
        keep: Duration,
    },
    /// Keep what the source forwards, within the bounds of a shard's buffer.
    BufferShard {
        /// Which.
        shard: ShardId,
        /// Who forwards.
        from: NodeName,
        /// Which hand-off.
        id: HandoffId,
    },
    /// Throw away what was buffered; its senders try again.
    DiscardBuffer {
        /// Which.
        shard: ShardId,
        /// Which hand-off.
        id: HandoffId,
    },
    /// Let all that still runs here come to rest, then [`Input::Passivated`].
    PassivateAll,
    /// The answer to [`Input::MoveShard`]; as many of them, in the same order.
    MoveAnswered {
        /// Which.
        shard: ShardId,
        /// What became of it.
        answer: MoveAnswer,
    },
    /// The node has left; end the process.
    Exit,
}

/// Who owns a shard, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node; handle until [`Node::valid_until`](crate::Node::valid_until).
    Here(Epoch),
    /// Another node: a hint for routing.
    There(NodeName, Epoch),
    /// Nobody known.
    Nobody,
}

/// One line about the own lease, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The incarnation.
    pub inc: Incarnation,
    /// The last good renewal.
    pub seq: u64,
    /// Handle nothing from here on.
    pub valid_until: MonoTime,
}
