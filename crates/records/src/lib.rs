//! Versioned records on disk, pinned by golden files.
//!
//! A record is one byte, its version, and then JSON. Readers accept the current version and
//! the one before it, which they upgrade; a newer one is refused by name, never guessed at.
//!
//! Absences: nothing here knows what a record means or where it is kept.

pub mod golden;
mod record;

pub use record::{RecordError, decode, encode, never_upgrades};
