//! Limits and times of a node's link to its peers.

use std::time::Duration;

use troupe_link::LinkOptions;
use troupe_wire::limits::{CREDIT_BYTES, CREDIT_ITEMS};

/// How a node speaks with its peers. The defaults are the design's values.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Connections.
    pub link: LinkOptions,
    /// Bytes under way to one peer before it has to grant more. Default 4 MiB.
    pub credit_bytes: u64,
    /// Items under way to one peer. Default 4,096.
    pub credit_items: u32,
    /// Bytes that wait for credit, for one peer; above it asks get `Overloaded`. As many again are
    /// kept for long answers to it, and as many for those that wait for that room; short ones (1
    /// KiB) are bounded by `handled_max`. Default 4 MiB.
    pub queue_bytes_max: usize,
    /// Items that wait for credit. Default 4,096.
    pub queue_items_max: usize,
    /// Asks to one peer without an answer; above it they get `Overloaded`. Default 16,384.
    pub asks_max: usize,
    /// Bytes of those asks, as they may have to be sent again. Default 16 MiB.
    pub asks_bytes_max: usize,
    /// Asks of one peer that are handled at once, or whose answers wait for credit; above it they
    /// get `Overloaded`. Default 16,384.
    pub handled_max: usize,
    /// Tells under way. Default 4,096.
    pub tells_max: usize,
    /// When the same envelope is sent again; the last one repeats. Default 0.2, 0.5, 1, 2, 5 s.
    pub retries: [Duration; 5],
    /// How often peers are told that this node is alive. Default 1 s.
    pub heartbeat: Duration,
    /// A link that is down for so long is gone around through a third node. Default 1 s.
    pub relay_after: Duration,
    /// Answers that are kept for repeated envelopes, in bytes, of all entities. Default 16 MiB.
    pub answers_bytes_max: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            link: LinkOptions::default(),
            credit_bytes: CREDIT_BYTES,
            credit_items: CREDIT_ITEMS,
            queue_bytes_max: 4 * 1024 * 1024,
            queue_items_max: 4_096,
            asks_max: 16_384,
            asks_bytes_max: 16 * 1024 * 1024,
            handled_max: 16_384,
            tells_max: 4_096,
            retries: [200, 500, 1_000, 2_000, 5_000].map(Duration::from_millis),
            heartbeat: Duration::from_secs(1),
            relay_after: Duration::from_secs(1),
            answers_bytes_max: 16 * 1024 * 1024,
        }
    }
}
