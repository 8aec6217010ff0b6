//! Pure state machines: `decide(state, command, now) -> entry`, `apply(state, entry)`.
//!
//! No async, no IO, no clock: time and ids are arguments. Deliberate absences: nothing here
//! knows a socket, a store, a provider or an actor; the transcript is not part of a state
//! (it is folded from frames, [`task::transcript`]).
//!
//! Invariants: I9 (a terminal attempt never changes), replay equals live state, every run
//! ends or waits for something named. Property tests hold them.

pub mod device;
pub mod namespace;
pub mod slots;
pub mod task;
