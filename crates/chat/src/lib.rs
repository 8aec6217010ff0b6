//! The chat shell: a durable agent loop over a model, with tools of our own and of MCP servers.
//!
//! Everything that the loop knows is a fold of the records it journals (`progress`), so an
//! attempt that goes on after a crash is in the very state of the one that was lost.
//!
//! Invariants:
//! - A tool is called only after the model call that asked for it is committed; the next model
//!   call starts only after all results are. A call with a recorded result is never made again.
//! - A step record holds its own delta alone: n steps are O(n) bytes.
//! - `Done.answer` is the kept text followed by every piece of text that was sent.
//! - A call that may have run is told to the model, and recorded, as unknown.
//! - Whatever a tool or a server answers is bounded; every wait has a timeout.
//! - A cancel, or a sink that is gone, ends a run without a word.
//!
//! Absences: nothing is stored here, no key is kept here, no task is spawned here.

pub mod caps;
pub mod decision;
pub mod options;
pub mod prompt;
pub mod run;
pub mod services;
pub mod sink;
pub mod tools;
pub mod variables;

mod call;
mod metrics;
mod progress;
mod record;
mod voice;

pub use options::ChatOptions;
pub use run::{ChatRun, RunEnd, run};
pub use services::{ChatServices, ModelFactory, NoSecrets, SecretOpener, SecretRef};
pub use sink::{Gone, RunSink};
pub use tools::{Tool, ToolContext, ToolError, ToolOutput, ToolRegistry};
pub use troupe_domain::task::history::{Conversation, HistoryItem};
