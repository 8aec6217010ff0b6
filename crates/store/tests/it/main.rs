//! A model of the journal on three replicas.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]
#![expect(clippy::print_stdout, reason = "models say what they have seen")]

mod replicas;
