//! A node whose lease was taken away looks first whether another process has its name by now:
//! two that took it from each other in turn would move all its shards for ever.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{sleep, timeout};
use troupe_sharding::membership::Timings;
use troupe_store::Ownership;
use troupe_types::{
    Clock as _, Incarnation, LeaseRow, MonoTime, NodeName, NodeState, SystemClock, Uuid,
};

/// Between two looks at the lease.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A read of the store without an answer for so long has failed.
const READ_MAX: Duration = Duration::from_secs(5);
/// How often the log says that it still waits.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What was seen of a name's lease.
#[derive(Debug, Default)]
struct Looks {
    /// The step of the lease that was seen last, and since when.
    step: Option<(Incarnation, u64, MonoTime)>,
}

impl Looks {
    /// Whether the name may be taken by a successor of the processes `before`: nobody else has it,
    /// or whoever has it did not renew for `expiry`.
    fn is_free(
        &mut self,
        row: Option<&LeaseRow>,
        before: &[Uuid],
        expiry: Duration,
        now: MonoTime,
    ) -> bool {
        let Some(row) = row else { return true };
        if row.state == NodeState::Dead || before.contains(&row.boot_id) {
            return true;
        }
        match self.step {
            Some((inc, seq, since)) if (inc, seq) == (row.inc, row.seq) => {
                now.since(since) >= expiry
            }
            _ => {
                self.step = Some((row.inc, row.seq, now));
                false
            }
        }
    }
}

/// Waits until no other process works under this name. `before`: the processes of this launcher
/// since the lease of one was taken away; they are gone.
pub(super) async fn free(store: &impl Ownership, name: &NodeName, before: &[Uuid]) {
    let (clock, expiry) = (SystemClock::new(), Timings::default().expiry);
    let mut looks = Looks::default();
    let mut said: Option<MonoTime> = None;
    loop {
        let row = timeout(READ_MAX, store.lease(name)).await;
        let row = row.context("the store does not answer").and_then(|row| Ok(row?));
        let now = clock.mono();
        let is_time = said.is_none_or(|at| now.since(at) >= SAY_EVERY);
        match row {
            Ok(row) if looks.is_free(row.as_ref(), before, expiry, now) => return,
            Ok(row) if is_time => {
                let at = row.map(|row| row.addr).unwrap_or_default();
                tracing::error!(node = %name, %at, "another process has this node's name: this \
                    one waits until it is gone; stop one of them, each needs a name of its own");
                said = Some(now);
            }
            Err(error) if is_time => {
                tracing::warn!(%error, "whether another process has this node's name is not known");
                said = Some(now);
            }
            _ => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::Roles;

    use super::*;

    const EXPIRY: Duration = Duration::from_secs(12);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn row(boot: u128, seq: u64, state: NodeState) -> LeaseRow {
        LeaseRow {
            node: NodeName::from("node-1"),
            boot_id: Uuid::from_u128(boot),
            inc: Incarnation(3),
            seq,
            state,
            addr: String::new(),
            build: String::new(),
            roles: Roles::from_bits(15),
            weight: 100,
        }
    }

    #[test]
    fn a_name_is_taken_up_only_from_who_is_gone() {
        let before = [1, 7].map(Uuid::from_u128);
        let mut looks = Looks::default();
        let mut free = |row: Option<LeaseRow>, second| {
            looks.is_free(row.as_ref(), &before, EXPIRY, at(second))
        };
        assert!(free(None, 0), "nobody ever had it");
        assert!(free(Some(row(1, 9, NodeState::Alive)), 0), "an own process, which is gone");
        assert!(free(Some(row(7, 9, NodeState::Alive)), 0), "and the one after it");
        assert!(free(Some(row(2, 9, NodeState::Dead)), 0));
        assert!(!free(Some(row(2, 9, NodeState::Alive)), 0));
        assert!(!free(Some(row(2, 9, NodeState::Alive)), 10));
        assert!(!free(Some(row(2, 10, NodeState::Alive)), 11), "it renews");
        assert!(!free(Some(row(2, 10, NodeState::Draining)), 22));
        assert!(free(Some(row(2, 10, NodeState::Alive)), 23), "it does not any more");
    }
}
