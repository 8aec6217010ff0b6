//! Links between nodes: who gets one, who does not, and what carries them.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]

mod devices;
mod doors;
mod fixture;
mod links;
mod strangers;
mod twin;
