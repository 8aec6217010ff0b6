//! Logging set-up, metrics set-up, the error-chain printer.
//!
//! Absences: nothing here reads the environment, opens a socket or spawns a task; who calls
//! decides about all three.

mod error_chain;
pub mod log;
pub mod metrics;
mod process;

pub use error_chain::error_chain;
pub use log::{DEFAULT_FILTER, LogError, LogOptions, init};
pub use metrics::{MetricsError, MetricsHandle};
