//! A device in front of an owner that keeps what it is told: cuts, restarts, limits.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]

mod agents;
mod cuts;
mod engine;
mod full;
mod logs;
mod owner;
mod packages;
