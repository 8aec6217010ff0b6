//! Request and answer types of REST, Socket.IO, `/api/v1/stream` and the CLI.
//!
//! Field names are the contract's; ids are typed strings. No logic beyond conversions.

pub mod admin;
pub mod auth;
pub mod chat;
pub mod device;
pub mod event;
pub mod git;
pub mod meta;
pub mod problem;
pub mod resource;
pub mod task;
pub mod wait;

pub use event::FrameEvent;
pub use problem::{FieldError, Problem};
pub use wait::WaitWords;
