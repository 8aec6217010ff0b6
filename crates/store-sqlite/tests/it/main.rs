//! The embedded store, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test fails where something does not hold")]

mod conformance;
mod crash;
mod directory;
mod disk;
