//! Times and limits of links.

use std::time::Duration;

/// How links behave. The defaults are the design's values.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// How often a quiet connection is kept alive. Default 0.7 s.
    pub keep_alive: Duration,
    /// A peer that says nothing for so long is gone. Default 3 s.
    pub idle: Duration,
    /// Time from the first packet to the end of both hellos. Default 5 s.
    pub ready_deadline: Duration,
    /// A stream that takes nothing for so long is closed, as is a new one whose peer does not say
    /// what it is for. Default 5 s.
    pub write_stall: Duration,
    /// First wait before a peer is dialled again. Default 0.2 s.
    pub redial_min: Duration,
    /// Longest wait. Default 5 s.
    pub redial_max: Duration,
    /// Handshakes under way at once; above it newcomers are refused. Default 256.
    pub handshakes_max: usize,
    /// Handshakes above which newcomers must first prove their address. Default 64.
    pub handshakes_unproven_max: usize,
    /// Streams that a peer may have open at once. Default 64.
    pub streams_max: u32,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_millis(700),
            idle: Duration::from_secs(3),
            ready_deadline: Duration::from_secs(5),
            write_stall: Duration::from_secs(5),
            redial_min: Duration::from_millis(200),
            redial_max: Duration::from_secs(5),
            handshakes_max: 256,
            handshakes_unproven_max: 64,
            streams_max: 64,
        }
    }
}
