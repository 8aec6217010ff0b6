//! Logging, metrics and traces: their set-up, and the error-chain printer.
//!
//! Absences: nothing here spawns a task, and nothing opens a socket but the export of traces,
//! which whoever set them up has to run.

mod error_chain;
pub mod log;
pub mod metrics;
mod process;
pub mod trace;
pub mod traces;

pub use error_chain::error_chain;
pub use log::{DEFAULT_FILTER, LogError, LogOptions, init, init_with_traces};
pub use metrics::{MetricsError, MetricsHandle};
pub use trace::TraceParent;
pub use traces::{TraceError, TraceExport, TraceOptions, Traces};
