//! The `troupe` program as a library, so that tests can run it on another disk: configuration,
//! wiring, signals, exit codes.

mod assets;
mod config;
mod containers;
mod edge;
mod node;
mod parts;
mod process;
mod program;
mod reset;
mod restore;
mod soft_state;
mod traces;
mod up;

pub use program::run;
