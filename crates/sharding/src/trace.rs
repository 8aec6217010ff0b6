//! Trace context between what asks and what handles, here and on other nodes.

use troupe_telemetry::{TraceParent, trace};
use troupe_wire::TraceContext;

/// Where the calling code stands, for the next envelope.
pub(crate) fn outgoing() -> Option<TraceContext> {
    trace::current().map(|TraceParent { trace, span, flags }| TraceContext { trace, span, flags })
}

/// What an envelope brought.
pub(crate) fn incoming(of: Option<&TraceContext>) -> Option<TraceParent> {
    let TraceContext { trace, span, flags } = *of?;
    // W3C: all zeros is no trace, whatever a peer says.
    let is_valid = trace != [0; 16] && span != [0; 8];
    is_valid.then_some(TraceParent { trace, span, flags })
}
