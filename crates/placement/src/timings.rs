//! How long everything may take, with the bounds that hold them together.

use std::time::Duration;

use thiserror::Error;

/// Durations and counts of the cluster; every node uses the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the send of one good renewal of the own lease to the next one.
    pub renew_every: Duration,
    /// A store operation without an answer for so long has an unknown outcome.
    pub attempt_timeout: Duration,
    /// Least time between two tries of the same operation after a failure.
    pub retry_after: Duration,
    /// The own lease holds for so long from the *send* of the last good renewal.
    pub validity: Duration,
    /// An observer declares a node dead whose (incarnation, seq) has not moved for so long on
    /// the observer's own clock. Longer than `validity`, so that the node has stopped by then.
    pub expiry: Duration,
    /// Between two heartbeats to all peers.
    pub heartbeat_every: Duration,
    /// A peer that was not heard for so long is looked up in the store.
    pub silent_after: Duration,
    /// Between two looks at all leases; every heartbeat while a peer is silent. What it adds to
    /// `expiry`, counted from the first look after the last renewal, is how late a death is seen.
    pub list_leases_every: Duration,
    /// Between two looks at all shard rows.
    pub list_shards_every: Duration,
    /// Store operations on shard rows that are under way at once.
    pub claims_max: usize,
    /// The same for shards that nobody waits for, until half of `rank_delay` after they were due:
    /// they have time, and the store is needed for the activations of the others.
    pub claims_unwanted_max: usize,
    /// All of them while the store is slow, as `pause_above` says.
    pub claims_slow_max: usize,
    /// A claim waits a random time up to this.
    pub claim_jitter: Duration,
    /// A claim waits so much longer for each node that the hash prefers to this one.
    pub rank_delay: Duration,
    /// The hash must name another owner for so long before a shard moves there.
    pub differs_for: Duration,
    /// Hand-offs of one source that are under way at once, without those that wait for a step.
    pub moves_max: usize,
    /// The same with them.
    pub moves_waiting_max: usize,
    /// A hand-off that has waited so long for the end of a step makes way for others.
    pub step_long: Duration,
    /// Rebalancing pauses while compare-and-sets take longer than this (99th percentile).
    pub pause_above: Duration,
    /// The target of a hand-off must answer within this.
    pub prepare_max: Duration,
    /// Runs may go on to the end of their step for so long, then the shard drains.
    pub step_max: Duration,
    /// Handlers and appends have so long to finish once the shard drains.
    pub drain_max: Duration,
    /// A target that waits looks at the row so often.
    pub target_check_every: Duration,
    /// A source forwards so long after a hand-off.
    pub forward_for: Duration,
    /// A node that is told to stop has so long to hand everything over.
    pub leave_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        Self {
            renew_every: ms(2_500),
            attempt_timeout: s(2),
            retry_after: ms(250),
            validity: s(8),
            expiry: s(12),
            heartbeat_every: s(1),
            silent_after: s(3),
            list_leases_every: ms(1_500),
            list_shards_every: s(30),
            claims_max: 32,
            claims_unwanted_max: 8,
            claims_slow_max: 4,
            claim_jitter: ms(200),
            rank_delay: s(3),
            differs_for: s(10),
            moves_max: 8,
            moves_waiting_max: 64,
            step_long: s(1),
            pause_above: ms(500),
            prepare_max: s(2),
            step_max: s(45),
            drain_max: s(10),
            target_check_every: s(5),
            forward_for: s(60),
            leave_max: s(120),
        }
    }
}

/// Timings that cannot work together.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidTimings {
    /// Observers would declare nodes dead that still work.
    #[error("expiry {expiry:?} is not longer than validity {validity:?}")]
    ExpiryTooShort {
        /// What was asked for.
        expiry: Duration,
        /// What it must exceed.
        validity: Duration,
    },
    /// One lost answer would end a lease.
    #[error("validity {validity:?} is not longer than a renewal period and two attempts")]
    ValidityTooShort {
        /// What was asked for.
        validity: Duration,
    },
    /// Nothing would ever be claimed or moved.
    #[error("claims and moves that may be under way at once must be at least 1")]
    NothingAtOnce,
}

impl Timings {
    /// Whether they can work together.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn validate(&self) -> Result<(), InvalidTimings> {
        let (expiry, validity) = (self.expiry, self.validity);
        if expiry <= validity {
            return Err(InvalidTimings::ExpiryTooShort { expiry, validity });
        }
        if validity <= self.renew_every + 2 * self.attempt_timeout {
            return Err(InvalidTimings::ValidityTooShort { validity });
        }
        let claims = [self.claims_max, self.claims_unwanted_max, self.claims_slow_max];
        if claims.contains(&0) || self.moves_max == 0 || self.moves_waiting_max == 0 {
            return Err(InvalidTimings::NothingAtOnce);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_together() {
        assert_eq!(Timings::default().validate(), Ok(()));
        let short = Timings { expiry: Duration::from_secs(8), ..Timings::default() };
        assert!(matches!(short.validate(), Err(InvalidTimings::ExpiryTooShort { .. })));
    }
}
