//! The store as a whole.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{sync::watch, time::timeout};
use troupe_store::{Activations, Cause, Floors, Stores, cause};
use troupe_types::{Epoch, ShardId};

use crate::{
    barrier::{Barrier, Stopped},
    cql::Cql,
    directory::ChangeHead,
    error::{ConnectError, Failed},
    options::ScyllaOptions,
    schema,
    statements::Statements,
};

/// Whether this node's lease is still valid by its own clock. Asked before every write of a
/// journal and again before its ack, so it must be quick.
pub trait LeaseCheck: Send + Sync + 'static {
    /// `false` once the node must stop, whatever the store would say.
    fn is_valid(&self) -> bool;
}

impl<F: Fn() -> bool + Send + Sync + 'static> LeaseCheck for F {
    fn is_valid(&self) -> bool {
        self()
    }
}

/// One boot of one node over a CQL database. Clones are the same handle.
///
/// Its journal works once it has [joined](troupe_store::Ownership::join), and for as long as
/// that incarnation lasts; a process that joins anew takes a [`fresh`](Self::fresh) handle.
#[derive(Clone)]
pub struct ScyllaStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) link: Arc<Link>,
    pub(crate) barrier: Barrier,
    pub(crate) activations: Activations,
    pub(crate) floors: Floors,
    pub(crate) check: Option<Box<dyn LeaseCheck>>,
    /// Rows of the directory with a change that nobody knows the outcome of: read them with
    /// SERIAL. Bounded; see `directory`.
    pub(crate) doubts: Mutex<HashSet<(u8, Bytes)>>,
    pub(crate) changes: ChangeHead,
}

/// What handles share.
pub(crate) struct Link {
    pub(crate) cql: Cql,
    pub(crate) statements: Statements,
    pub(crate) cluster: String,
}

impl fmt::Debug for ScyllaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScyllaStore")
            .field("cluster", &self.inner.link.cluster)
            .field("held", &self.inner.barrier.held())
            .finish_non_exhaustive()
    }
}

impl ScyllaStore {
    /// Connects, makes or updates the tables, prepares the statements.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(options: &ScyllaOptions) -> Result<Self, ConnectError> {
        Self::connect_checked(options, None).await
    }

    /// The same with the node's own idea of its lease.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with(
        options: &ScyllaOptions,
        check: impl LeaseCheck,
    ) -> Result<Self, ConnectError> {
        Self::connect_checked(options, Some(Box::new(check))).await
    }

    async fn connect_checked(
        options: &ScyllaOptions,
        check: Option<Box<dyn LeaseCheck>>,
    ) -> Result<Self, ConnectError> {
        options.validate()?;
        let connect = async {
            let cql = Cql::connect(options).await?;
            schema::prepare(&cql, options).await?;
            let prepared = Statements::prepare(&cql).await;
            let refused = |failed: Failed| ConnectError::Prepare { source: failed.cause() };
            let statements = prepared.map_err(refused)?;
            Ok(Link { cql, statements, cluster: options.cluster.clone() })
        };
        let late = |e| ConnectError::Unreachable { source: cause(e) };
        // Twice: migrations of somebody else may have to end first.
        let link = timeout(options.timeouts.start * 2, connect).await.map_err(late)??;
        Ok(Self::over(Arc::new(link), check))
    }

    fn over(link: Arc<Link>, check: Option<Box<dyn LeaseCheck>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                link,
                barrier: Barrier::new(),
                activations: Activations::new(),
                floors: Floors::default(),
                check,
                doubts: Mutex::default(),
                changes: ChangeHead::default(),
            }),
        }
    }

    /// A handle that has joined nothing, over the same connections: what a process that was
    /// fenced goes on with. Everything opened through this one stays fenced.
    #[must_use]
    pub fn fresh(&self, check: Option<Box<dyn LeaseCheck>>) -> Self {
        Self::over(Arc::clone(&self.inner.link), check)
    }

    /// All traits of this store. Epochs come from claims, so the boot epoch is zero.
    #[must_use]
    pub fn stores(&self) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            journal: this.clone(),
            wake: this.clone(),
            directory: this.clone(),
            projections: this.clone(),
            blobs: this.clone(),
            dead_letters: this.clone(),
            inventory: this,
            boot_epoch: Epoch::ZERO,
        }
    }

    /// The shards that this process has given away. Handing over through
    /// [`hand_over`](troupe_store::Ownership::hand_over) marks them; whoever learns of a loss in
    /// another way may too.
    #[must_use]
    pub fn floors(&self) -> &Floors {
        &self.inner.floors
    }

    /// Turns `true` when an append found this node's lease taken away.
    #[must_use]
    pub fn lease_lost(&self) -> watch::Receiver<bool> {
        self.inner.barrier.watch()
    }

    pub(crate) fn cql(&self) -> &Cql {
        &self.inner.link.cql
    }

    pub(crate) fn statements(&self) -> &Statements {
        &self.inner.link.statements
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.inner.link.cluster
    }

    /// Whether this process knows that it may not write this shard's journals.
    pub(crate) fn may_not_write(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.inner.barrier.is_over()
            || !self.inner.floors.admits(shard, epoch)
            || self.inner.check.as_ref().is_some_and(|check| !check.is_valid())
    }

    /// Why nothing can be committed yet.
    pub(crate) fn not_joined(&self) -> Option<Cause> {
        let joined = self.inner.barrier.held().is_some();
        (!joined).then(|| cause("this node has not joined the cluster"))
    }

    /// Passes once a read of the own lease that is sent from now on shows it in force.
    pub(crate) async fn barrier(&self) -> Result<(), Stopped> {
        let barrier = &self.inner.barrier;
        let read = || async {
            let Some(held) = barrier.held() else { return Err(Stopped::Fenced) };
            let key = (self.cluster(), held.node.as_str());
            match self.cql().row(&self.statements().barrier, key).await {
                Ok(row) => barrier.check(row),
                Err(failed) => Err(Stopped::Unknown(failed.cause())),
            }
        };
        barrier.pass(read).await
    }
}
