//! The house layer over ractor: named tasks, back-off, strikes, supervision, drain.
//!
//! Invariants:
//! - Every spawned task has a name, and its panic is logged once with that name.
//! - A child's end never stops its parent by itself: actors translate supervision events with
//!   [`child_end`] and decide.
//! - Every wait in here has a bound.
//!
//! Absences: nothing here knows what an entity is; nothing here reads a wall clock.

pub mod backoff;
pub mod rate;
pub mod settle;
pub mod strikes;
pub mod supervise;
pub mod task;
pub mod tree;

pub use backoff::Backoff;
pub use rate::RateLimit;
pub use settle::{StopOutcome, settle, stop_within};
pub use strikes::{STRIKES_MAX, Strikes};
pub use supervise::{ChildEnd, Panicked, catch_panic, child_end, panic_text};
pub use task::{TaskError, TaskHandle, spawn_task};
pub use tree::{ActorEntry, ActorInfo, ActorTree};
