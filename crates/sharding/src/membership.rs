//! Membership: runs the machine of the `placement` crate on this node.
//!
//! ```text
//! store rows ──answers──┐                      ┌── operations ──> store (Ownership)
//! peers ──words────────>│ placement::Node.step │── words ───────> peers (NodeLink)
//! clock ──ticks────────>└──────────────────────┘── claimed, hand_over, lost ──> ShardHost
//!                                └── who owns what ──> ClusterView <── asked for every message
//! ```
//! One task drives the machine. What it says is published in [`ClusterView`] before anything
//! else is done, so that no message is handled under a claim that is being given up; then its
//! effects are carried out in their order, those that take long as tasks that report back.
//!
//! Invariants:
//! - A message is handled only while the lease holds by `CLOCK_BOOTTIME`, looked at for each.
//! - A node whose lease row says dead or names another boot ends ([`Ended::Lost`]): everything
//!   that it has open is fenced for ever, and a new process is the cleanest way on.
//!
//! Deliberate absence: nothing is buffered for a Shard that moves. What comes meanwhile waits
//! at its sender, who asks placement again (decision 0014).

mod driver;
mod metrics;
mod peers;
mod store;
mod view;
mod words;

use std::{fmt, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use troupe_actor::{TaskHandle, spawn_task};
pub use troupe_placement::{
    Identity, InvalidTimings, LeaseView, MoveAnswer, MoveRefusal, Rebalancing, Timings,
};
use troupe_store::{Floors, Ownership};
use troupe_types::{Epoch, Incarnation, LeaseRow, ShardId, Uuid};

pub use self::view::ClusterView;
use self::{
    driver::{Driver, Event, Order},
    peers::Dialling,
};
use crate::{host::ShardHost, node::NodeLink, placement::NodeName};

/// How long an order to the driver may wait for its turn.
const ORDER_DEADLINE: Duration = Duration::from_secs(5);

/// Why membership did not start, or an order was not taken.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// The timings cannot work together.
    #[error("the timings of the cluster cannot work together")]
    Timings(#[source] InvalidTimings),
    /// The view is driven already.
    #[error("this view of the cluster has a membership already")]
    ViewTaken,
    /// The membership has ended, or is too busy to take orders.
    #[error("the membership takes no orders now")]
    Gone,
}

/// What membership works with.
#[derive(Debug)]
pub struct MembershipParts {
    /// Who this node is, as its lease says.
    pub identity: Identity,
    /// New with every start of the process; the same as that of the node link.
    pub boot: Uuid,
    /// Times; the same on every node.
    pub timings: Timings,
    /// The rows of leases and Shards.
    pub ownership: Arc<dyn Ownership>,
    /// What the store refuses of Shards that were given away.
    pub floors: Floors,
    /// The view that the store, the host and the link were given.
    pub view: Arc<ClusterView>,
    /// The Shards of this node.
    pub host: Arc<ShardHost>,
    /// The links to its peers.
    pub link: Arc<NodeLink>,
}

/// Why this node is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to leave, and has.
    Left,
    /// Its lease was taken away: end the process and start a new one.
    Lost,
}

/// The cluster for operators, as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct ClusterStatus {
    /// The leases of all nodes, this one's among them while it holds, each with the time since
    /// this node saw it renewed.
    pub leases: Vec<(LeaseRow, Duration)>,
    /// All Shards, in order.
    pub shards: Vec<ShardStatus>,
    /// Whether shards move by themselves.
    pub rebalancing: Rebalancing,
}

/// One Shard for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Which.
    pub shard: ShardId,
    /// Who owns it, as far as is known.
    pub owner: Option<NodeName>,
    /// The owner's incarnation.
    pub owner_inc: Incarnation,
    /// Under which epoch; zero if nobody ever did.
    pub epoch: Epoch,
    /// Who should, as the hash has it.
    pub preferred: Option<NodeName>,
    /// Where this node is moving it to.
    pub moving_to: Option<NodeName>,
}

/// This node's membership. Dropped without [`leave`](Self::leave), the node stops driving its
/// lease, as a crash of the process would.
pub struct Membership {
    events: mpsc::Sender<Event>,
    ended: watch::Receiver<Option<Ended>>,
    view: Arc<ClusterView>,
    _tasks: Vec<TaskHandle>,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Membership {
    /// Joins, and keeps at it until the store lets it.
    ///
    /// # Errors
    /// See [`MembershipError`]; nothing was started.
    pub fn start(parts: MembershipParts) -> Result<Self, MembershipError> {
        parts.timings.validate().map_err(MembershipError::Timings)?;
        let view = Arc::clone(&parts.view);
        let incoming = view.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(incoming) = { incoming }.take() else { return Err(MembershipError::ViewTaken) };
        metrics::describe();
        let events = view.events.clone();
        let (tell_ended, ended) = watch::channel(None);
        let dialling = Dialling::new(Arc::clone(&parts.link));
        let addresses = dialling.addresses();
        let driver = Driver::new(parts, tell_ended, addresses);
        let tasks = vec![
            spawn_task("membership", driver.run(incoming)).abort_on_drop(),
            spawn_task("peer addresses", dialling.run()).abort_on_drop(),
        ];
        Ok(Self { events, ended, view, _tasks: tasks })
    }

    /// What this node sees of the cluster.
    #[must_use]
    pub fn view(&self) -> &Arc<ClusterView> {
        &self.view
    }

    /// Hands every Shard over, then leaves; [`ended`](Self::ended) tells when.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn leave(&self) -> Result<(), MembershipError> {
        self.order(Order::Leave).await
    }

    /// Begins to move a Shard of this node to another one, or says why not. That it has begun
    /// does not mean that it will get there: the other node may refuse.
    ///
    /// # Errors
    /// See [`MembershipError`]. It may have begun nevertheless: look at the view.
    pub async fn move_shard(
        &self,
        shard: ShardId,
        to: NodeName,
    ) -> Result<MoveAnswer, MembershipError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Move(shard, to, reply)).await?;
        match timeout(ORDER_DEADLINE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(MembershipError::Gone),
        }
    }

    /// Switches rebalancing off or on; moves under way go on.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn pause_rebalance(&self, paused: bool) -> Result<(), MembershipError> {
        self.order(Order::Pause(paused)).await
    }

    /// Resolves when this node is no member any more.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let found = ended.wait_for(Option::is_some).await;
        // Without a driver nobody renews the lease: it is lost.
        found.ok().and_then(|ended| *ended).unwrap_or(Ended::Lost)
    }

    async fn order(&self, order: Order) -> Result<(), MembershipError> {
        match timeout(ORDER_DEADLINE, self.events.send(Event::Order(order))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(MembershipError::Gone),
        }
    }
}
