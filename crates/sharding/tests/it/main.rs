//! The host, its router and a counter entity over the in-memory store.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]

mod across;
mod asks;
mod counter;
mod crashes;
mod drain;
mod faults;
mod lifecycle;
mod members;
mod nodes;
mod operate;
mod order;
mod questions;
mod streams;
mod tells;
mod traces;
mod wake;
