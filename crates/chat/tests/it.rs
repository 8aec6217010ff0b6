//! The loop against a scripted model in the process, and against real servers of the testkit.

#[path = "it/counter.rs"]
mod counter;
#[path = "it/log.rs"]
mod log;
#[path = "it/scripted.rs"]
mod scripted;
#[path = "it/world.rs"]
mod world;

#[path = "it/cancel.rs"]
mod cancel;
#[path = "it/demo.rs"]
mod demo;
#[path = "it/errors.rs"]
mod errors;
#[path = "it/leader.rs"]
mod leader;
#[path = "it/long.rs"]
mod long;
#[path = "it/mcp.rs"]
mod mcp;
#[path = "it/resume.rs"]
mod resume;
#[path = "it/skills.rs"]
mod skills;
#[path = "it/tools.rs"]
mod tools;
#[path = "it/wire.rs"]
mod wire;
