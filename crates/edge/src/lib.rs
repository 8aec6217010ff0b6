//! The device side: it keeps working when the network does not.
//!
//! ```text
//! Agent (supervisor) -> Link       dials, says hello, carries frames both ways
//!                    -> Outbox     one log per attempt on the disk; fsync in groups
//!                    -> Executor   one per attempt: runtime -> run events -> outbox
//! ```
//! Invariants:
//! - An assignment, an input and an output are on the disk before anybody is told of them.
//! - Output is numbered without gaps per attempt and is kept until the cluster acknowledged it.
//! - The outbox has a bound; when it is full the runtimes wait, nothing is dropped (I7).
//! - The policy file of the device has the last word; the cluster cannot change it.
//! - Secrets of an execution are in memory only (I11).
//! - An execution that the agent left running goes on in the same session after a restart.
//!
//! Absences: no store, no HTTP, no command line; nothing here decides about a Task.

pub mod agent;
pub mod engine;
pub mod execution;
pub mod identity;
pub mod link;
pub mod network;
pub mod options;
pub mod outbox;
pub mod policy;
pub mod status;
pub mod tools;

pub use agent::{AgentError, EdgeAgent};
pub use engine::{Engine, RunControl, RunEvents, RuntimeEngine, StartedRun};
pub use options::EdgeOptions;
pub use outbox::{Outbox, OutboxError};
pub use policy::{Policy, PolicyError, Refused};
pub use status::{EdgeStatus, ExecutionStatus, LinkStatus, RunsStatus};
