//! Metrics of the membership.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const LEASE_VALID: &str = "troupe_sharding_lease_valid";
const SHARDS_OWNED: &str = "troupe_sharding_shards_owned";
const FENCES: &str = "troupe_sharding_fences_total";
const CLAIMED: &str = "troupe_sharding_shards_claimed_total";
const HANDED_OVER: &str = "troupe_sharding_shards_handed_over_total";
const LOST: &str = "troupe_sharding_shards_lost_total";
const HAND_OVER_SECONDS: &str = "troupe_sharding_hand_over_seconds";
const STORE_SECONDS: &str = "troupe_sharding_ownership_store_seconds";
const STORE_FAILURES: &str = "troupe_sharding_ownership_store_failures_total";

/// Registers the descriptions; once, after the recorder is installed.
pub(super) fn describe() {
    describe_gauge!(LEASE_VALID, "1 while the node's lease holds");
    describe_gauge!(SHARDS_OWNED, "Shards that this node owns");
    describe_counter!(FENCES, "times that the node stopped handling because its lease was over");
    describe_counter!(CLAIMED, "Shards that came to this node");
    describe_counter!(HANDED_OVER, "Shards that came to rest for a planned move");
    describe_counter!(LOST, "Shards that were dropped at once");
    describe_histogram!(HAND_OVER_SECONDS, Unit::Seconds, "time until a Shard came to rest");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "time of an operation on ownership rows");
    describe_counter!(STORE_FAILURES, "operations on ownership rows without a clear outcome");
}

/// Handles that are looked up once.
#[derive(Debug)]
pub(super) struct MembershipMetrics {
    pub(super) lease_valid: Gauge,
    pub(super) shards_owned: Gauge,
    pub(super) fences: Counter,
    pub(super) claimed: Counter,
    pub(super) handed_over: Counter,
    pub(super) lost: Counter,
    pub(super) hand_over_seconds: Histogram,
    pub(super) store_seconds: Histogram,
    pub(super) store_failures: Counter,
}

impl MembershipMetrics {
    pub(super) fn new() -> Self {
        Self {
            lease_valid: gauge!(LEASE_VALID),
            shards_owned: gauge!(SHARDS_OWNED),
            fences: counter!(FENCES),
            claimed: counter!(CLAIMED),
            handed_over: counter!(HANDED_OVER),
            lost: counter!(LOST),
            hand_over_seconds: histogram!(HAND_OVER_SECONDS),
            store_seconds: histogram!(STORE_SECONDS),
            store_failures: counter!(STORE_FAILURES),
        }
    }
}
