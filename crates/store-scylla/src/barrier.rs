//! The commit barrier: the node's own lease, read after writes were confirmed.
//!
//! One read serves every append that was confirmed before it was sent. Those that are confirmed
//! while a read is under way form the next group; the first of a group reads for all of it.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Semaphore, watch};
use troupe_store::{Cause, cause};
use troupe_types::{Incarnation, LeaseRow, NodeName, NodeState, Uuid};

/// Reads under way at once: a second one keeps a slow one from holding everybody up.
const READS_MAX: usize = 2;

/// The lease that this handle's journal depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) node: NodeName,
    pub(crate) boot_id: Uuid,
    pub(crate) inc: Incarnation,
}

impl From<&LeaseRow> for Held {
    fn from(row: &LeaseRow) -> Self {
        Self { node: row.node.clone(), boot_id: row.boot_id, inc: row.inc }
    }
}

/// Why a barrier does not let an append pass.
#[derive(Clone, Debug)]
pub(crate) enum Stopped {
    /// The lease is over, for good.
    Fenced,
    /// Nobody knows.
    Unknown(Cause),
}

type Verdict = Result<(), Stopped>;
type Group = watch::Receiver<Option<Verdict>>;

pub(crate) struct Barrier {
    held: OnceLock<Held>,
    /// The boot under which a join was sent, whatever became of it.
    asked: Mutex<Option<Uuid>>,
    over: AtomicBool,
    told: watch::Sender<bool>,
    /// The group whose read is not sent yet.
    forming: Mutex<Option<Group>>,
    reads: Semaphore,
}

impl Barrier {
    pub(crate) fn new() -> Self {
        Self {
            held: OnceLock::new(),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
            told: watch::Sender::new(false),
            forming: Mutex::new(None),
            reads: Semaphore::new(READS_MAX),
        }
    }

    /// Depends on this lease from here on; `false` if it depends on another one already.
    pub(crate) fn hold(&self, held: Held) -> bool {
        *self.held.get_or_init(|| held.clone()) == held
    }

    /// A join under this boot is about to be sent.
    pub(crate) fn ask(&self, boot_id: Uuid) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(boot_id);
    }

    /// A quorum's newest row of a lease. If a join asked for this one it is held from here on:
    /// the answer to the join may be lost for good.
    pub(crate) fn seen(&self, row: &LeaseRow) {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.held().is_none() && asked == Some(row.boot_id) && row.state != NodeState::Dead {
            self.hold(Held::from(row));
        }
    }

    pub(crate) fn held(&self) -> Option<&Held> {
        self.held.get()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Ends everything that depends on the lease.
    pub(crate) fn end(&self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            tracing::warn!(held = ?self.held.get(), "the lease of this node is over");
        }
        self.told.send_replace(true);
    }

    /// Turns `true` when the lease is over.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.told.subscribe()
    }

    /// Whether this row, a quorum's newest, still is the lease that is held.
    pub(crate) fn check(&self, row: Option<(Uuid, i64, String)>) -> Verdict {
        let holds = match (self.held.get(), row) {
            (Some(held), Some((boot_id, inc, state))) => {
                boot_id == held.boot_id
                    && u64::try_from(inc) == Ok(held.inc.0)
                    && NodeState::from_name(&state).is_some_and(|s| s != NodeState::Dead)
            }
            _ => false,
        };
        if !holds {
            self.end();
            return Err(Stopped::Fenced);
        }
        Ok(())
    }

    /// Waits for a read of the lease that is sent after this call; `read` sends one.
    pub(crate) async fn pass<F: Future<Output = Verdict>>(&self, read: impl Fn() -> F) -> Verdict {
        loop {
            if self.is_over() {
                return Err(Stopped::Fenced);
            }
            let lead = match self.join() {
                Ok(mut group) => match group.wait_for(Option::is_some).await {
                    Ok(verdict) => return verdict.clone().unwrap_or(Err(Stopped::Fenced)),
                    Err(_) => continue, // Its leader left: a new group.
                },
                Err(lead) => lead,
            };
            let Ok(_permit) = self.reads.acquire().await else {
                return Err(Stopped::Unknown(cause("the barrier is closed")));
            };
            let tell = lead.depart();
            let verdict = read().await;
            tell.send_replace(Some(verdict.clone()));
            return verdict;
        }
    }

    /// The group that forms, or the lead of a new one.
    fn join(&self) -> Result<Group, Lead<'_>> {
        let mut forming = self.forming();
        if let Some(group) = &*forming {
            return Ok(group.clone());
        }
        let (tell, group) = watch::channel(None);
        *forming = Some(group);
        Err(Lead { barrier: self, tell: Some(tell) })
    }

    fn forming(&self) -> MutexGuard<'_, Option<Group>> {
        self.forming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to read for a group. Dropped before its time, the group dissolves.
struct Lead<'a> {
    barrier: &'a Barrier,
    tell: Option<watch::Sender<Option<Verdict>>>,
}

impl Lead<'_> {
    /// Nobody joins any more.
    fn depart(mut self) -> watch::Sender<Option<Verdict>> {
        *self.barrier.forming() = None;
        self.tell.take().expect("a group departs once")
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if self.tell.is_some() {
            *self.barrier.forming() = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        time::Duration,
    };

    use tokio::{
        sync::Notify,
        task::{JoinSet, yield_now},
        time::timeout,
    };

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    async fn settle() {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    /// Everybody who comes while reads are under way is served by one later read.
    #[tokio::test]
    async fn one_read_serves_all_that_came_before_it_was_sent() {
        let barrier = Arc::new(Barrier::new());
        let (sent, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut passing = JoinSet::new();
        for n in 0..32 {
            let (barrier, sent, go) = (Arc::clone(&barrier), Arc::clone(&sent), Arc::clone(&go));
            passing.spawn(async move {
                let read = || async {
                    sent.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                    Ok(())
                };
                barrier.pass(read).await
            });
            if n < READS_MAX {
                settle().await;
            }
        }
        settle().await;
        assert_eq!(sent.load(Ordering::SeqCst), READS_MAX, "no more at once");
        for _ in 0..3 {
            go.notify_waiters();
            settle().await;
        }
        let all = timeout(WAIT, passing.join_all()).await.unwrap();
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(sent.load(Ordering::SeqCst), READS_MAX + 1, "the others share one");
    }

    #[tokio::test]
    async fn a_leader_that_leaves_takes_nobody_with_it() {
        let barrier = Arc::new(Barrier::new());
        let held = barrier.reads.acquire_many(2).await.unwrap();
        let mut leader = Box::pin(barrier.pass(|| async { Ok(()) }));
        assert!(futures::poll!(&mut leader).is_pending());
        let follower = Arc::clone(&barrier);
        let mut follower =
            JoinSet::from_iter([async move { follower.pass(|| async { Ok(()) }).await }]);
        settle().await;
        drop(leader);
        drop(held);
        let outcome = timeout(WAIT, follower.join_next()).await.unwrap().unwrap().unwrap();
        assert!(outcome.is_ok());
    }

    #[test]
    fn only_the_own_living_incarnation_passes() {
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let row = |boot, inc, state: &str| Some((boot, inc, state.to_owned()));
        for (row, passes) in [
            (row(mine, 3, "alive"), true),
            (row(mine, 3, "draining"), true),
            (row(mine, 3, "dead"), false),
            (row(mine, 3, "?"), false),
            (row(mine, 4, "alive"), false),
            (row(other, 3, "alive"), false),
            (None, false),
        ] {
            let barrier = Barrier::new();
            assert!(barrier.hold(Held { node: "n".into(), boot_id: mine, inc: Incarnation(3) }));
            assert!(!barrier.hold(Held { node: "n".into(), boot_id: other, inc: Incarnation(4) }));
            assert_eq!(barrier.check(row.clone()).is_ok(), passes, "{row:?}");
            assert_eq!(barrier.is_over(), !passes);
        }
    }
}
