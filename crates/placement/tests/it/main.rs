//! Scenarios of single nodes, and a model of four nodes under faults.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]
#![expect(clippy::print_stdout, reason = "models say what they have seen")]

mod ownership;
mod scenarios;
