//! Containers of Tasks: a node's pool over a Docker engine.
//!
//! A container runs `troupe-edge` and is a device that lives for one Task. The pool looks at the
//! rows of wanted containers, at its engine, and at how busy each container is, and does what
//! [`plan`] says; nothing of it is kept but the rows and the containers themselves, so a pool that
//! starts anew goes on where the last one was, and takes away what nobody knows.
//!
//! ```text
//! spec    what a container is made of: limits, mounts, no privileges   pure
//! plan    what is to be done                                           pure
//! engine  the Docker engine (bollard)
//! watch   how long things have been as they are                        pure
//! pool    the loop; `work`: what takes a while
//! ```
//! Holds I8: no container outlives its Task's use of it.

mod engine;
mod plan;
mod pool;
mod spec;
mod watch;
mod work;

pub use engine::{Engine, EngineError};
pub use pool::{Pool, PoolOptions};
pub use spec::Limits;
