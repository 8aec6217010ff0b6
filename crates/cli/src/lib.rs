//! The client verbs of `troupe`: kubectl habits for resources, tmux habits for Tasks.
//!
//! Every verb talks to a node over REST and `/api/v1/stream` alone. Absences: no state but the
//! contexts file; nothing here opens the store of a node.

pub mod args;
pub mod client;
pub mod context;
pub mod error;
pub mod follow;
pub mod output;
#[cfg(test)]
mod testing;
pub mod verbs;

pub use args::{GlobalArgs, Verb};
pub use error::CliError;
pub use verbs::run;
