//! The embedded durable store: SQLite in WAL mode, blobs as files beside it.
//!
//! Invariants:
//! - One process per data directory: a lock file, held for life (`SqliteOpenError::Locked`).
//! - One writer thread. Everything that waits is one transaction with one fsync; nothing is
//!   acked before it, and a failed fsync is never repeated: the database is opened anew.
//! - Each start raises the boot epoch while the lock is held; every transaction compares it,
//!   so a process that lost its directory writes nothing more (I2).
//! - Opening a journal writes nothing, so everything stays readable on a full disk.
//! - Every entry and snapshot carries a checksum; a bad one is reported by name, never skipped.
//!
//! The archive is not a table of its own: the entries of a kind that archives stay where they
//! are, and the snapshot says from where on the live journal begins.

mod blobs;
mod checkpoint;
mod checksum;
mod database;
mod dead_letters;
mod directory;
mod error;
#[cfg(feature = "forgetful")]
pub mod forgetful;
mod home;
mod inventory;
mod journal;
pub mod metrics;
mod options;
mod projections;
mod readers;
mod recent;
mod schema;
mod store;
mod wake;
mod writer;

pub use error::SqliteOpenError;
pub use options::{SqliteOptions, Synchronous};
pub use store::SqliteStore;
pub use writer::WriterStats;
