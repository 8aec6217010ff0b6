//! One attempt on a device.

pub mod actor;
mod last;
mod resume;
mod run;

pub use actor::{ExecutorActor, ExecutorArgs, ExecutorMsg};
pub use last::Seats;
