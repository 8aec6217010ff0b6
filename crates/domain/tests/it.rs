//! The Task state machine, from outside.

#[path = "it/golden.rs"]
mod golden;
#[path = "it/history.rs"]
mod history;
#[path = "it/lives.rs"]
mod lives;
#[path = "it/models.rs"]
mod models;
#[path = "it/props.rs"]
mod props;
#[path = "it/transcript.rs"]
mod transcript;
#[path = "it/world.rs"]
mod world;
