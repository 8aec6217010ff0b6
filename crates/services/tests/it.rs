//! The use cases over real entities and a store in memory.

#![expect(clippy::unwrap_used, reason = "a test fails where something does not hold")]

#[path = "it/cancel.rs"]
mod cancel;
#[path = "it/devices.rs"]
mod devices;
#[path = "it/egress.rs"]
mod egress;
#[path = "it/follow.rs"]
mod follow;
#[path = "it/host.rs"]
mod host;
#[path = "it/models.rs"]
mod models;
#[path = "it/operations.rs"]
mod operations;
#[path = "it/packages.rs"]
mod packages;
#[path = "it/repeat.rs"]
mod repeat;
#[path = "it/resources.rs"]
mod resources;
#[path = "it/secrets.rs"]
mod secrets;
#[path = "it/skills.rs"]
mod skills;
#[path = "it/versions.rs"]
mod versions;
