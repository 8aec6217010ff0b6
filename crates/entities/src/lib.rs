//! The entity actors: Task, Team slots, Namespace, Device.
//!
//! Each is a thin async shell around a pure state machine of `domain`: it decides on a
//! speculative fold, appends, and acts only after the commit ([`commit`]).
//!
//! Invariants: a frame leaves only after its entry is committed (I5); answers leave in the
//! order of the commits that they saw (I4); a runner lives only as long as its attempt (I8).

mod codec;
pub mod commit;
pub mod device;
pub mod git;
mod metrics;
pub mod models;
pub mod namespace;
pub mod task;
pub mod team;

pub use device::{DeviceAddress, DeviceFactory};
pub use models::ProviderFactory;
pub use namespace::{NamespaceAddress, NamespaceFactory};
pub use task::{TaskAddress, TaskFactory, TaskOptions};
pub use team::{TeamAddress, TeamFactory};
