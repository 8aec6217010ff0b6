//! Metrics of the node link.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

const LINKS_OPENED: &str = "troupe_sharding_links_opened_total";
const LINKS_CLOSED: &str = "troupe_sharding_links_closed_total";
const BATCHES: &str = "troupe_sharding_batches_sent_total";
const ITEMS: &str = "troupe_sharding_items_sent_total";
const BYTES: &str = "troupe_sharding_sent_bytes_total";
const RETRIES: &str = "troupe_sharding_envelopes_repeated_total";
const DUPLICATES: &str = "troupe_sharding_envelopes_duplicate_total";
const DROPPED: &str = "troupe_sharding_items_dropped_total";
const NOT_OWNER: &str = "troupe_sharding_not_owner_total";
const RELAYED: &str = "troupe_sharding_envelopes_relayed_total";
const STREAMS: &str = "troupe_sharding_remote_streams";

/// Registers the descriptions; once, after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(LINKS_OPENED, "links with peers that became ready");
    describe_counter!(LINKS_CLOSED, "links with peers that ended");
    describe_counter!(BATCHES, "batches sent to peers");
    describe_counter!(ITEMS, "items in those batches");
    describe_counter!(BYTES, Unit::Bytes, "bytes of those batches");
    describe_counter!(RETRIES, "envelopes that were sent again");
    describe_counter!(DUPLICATES, "envelopes that were here before");
    describe_counter!(DROPPED, "items for or of peers that were dropped, by why");
    describe_counter!(NOT_OWNER, "envelopes for Shards that are not owned here");
    describe_counter!(RELAYED, "envelopes that were passed on to another node");
    describe_gauge!(STREAMS, "subscriptions of peers that are served here");
}

/// Handles that are looked up once.
#[derive(Debug)]
pub(crate) struct NodeMetrics {
    pub(crate) links_opened: Counter,
    pub(crate) links_closed: Counter,
    pub(crate) batches: Counter,
    pub(crate) items: Counter,
    pub(crate) bytes: Counter,
    pub(crate) retries: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) dropped_full: Counter,
    pub(crate) dropped_late: Counter,
    pub(crate) dropped_unread: Counter,
    pub(crate) not_owner: Counter,
    pub(crate) relayed: Counter,
    pub(crate) streams: Gauge,
}

impl NodeMetrics {
    pub(crate) fn new() -> Self {
        Self {
            links_opened: counter!(LINKS_OPENED),
            links_closed: counter!(LINKS_CLOSED),
            batches: counter!(BATCHES),
            items: counter!(ITEMS),
            bytes: counter!(BYTES),
            retries: counter!(RETRIES),
            duplicates: counter!(DUPLICATES),
            dropped_full: counter!(DROPPED, "why" => "full"),
            dropped_late: counter!(DROPPED, "why" => "late"),
            dropped_unread: counter!(DROPPED, "why" => "unread"),
            not_owner: counter!(NOT_OWNER),
            relayed: counter!(RELAYED),
            streams: gauge!(STREAMS),
        }
    }
}
