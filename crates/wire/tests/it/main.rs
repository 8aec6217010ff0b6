//! Every frame: there and back, damaged, of other versions, and as released bytes.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]

mod bounds;
mod device;
mod golden;
mod round;
mod samples;
mod versions;
