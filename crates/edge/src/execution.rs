//! One attempt on a device.

pub mod actor;
mod input;
mod last;
mod packages;
mod resume;
mod run;
mod stop;

pub use actor::{ExecutorActor, ExecutorArgs, ExecutorMsg};
pub use last::Seats;
pub use packages::Packages;
