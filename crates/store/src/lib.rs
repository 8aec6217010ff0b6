//! Storage: traits whose contracts stand in prose, the in-memory store, the conformance suites.
//!
//! Invariants:
//! - A journal entry that was acked is there exactly once, whatever fails afterwards (I4).
//! - Of all activations of an entity only the newest one commits (I2); the store enforces it.
//! - An older projection row never wins over a newer one, in whatever order they arrive.
//!
//! Absences: no trait here knows what is inside a body; none of them reads a clock.

mod activation;
pub mod backup;
pub mod blobs;
#[cfg(any(test, feature = "conformance"))]
#[expect(clippy::unwrap_used, reason = "a suite panics where a contract is broken, as tests do")]
pub mod conformance;
pub mod dead_letters;
pub mod directory;
pub mod effective;
mod error;
mod floors;
pub mod inventory;
pub mod journal;
pub mod memory;
pub mod ownership;
pub mod projections;
mod stores;
pub mod wake;

pub use activation::{Activation, Activations, InFlight, Turn};
pub use blobs::{BLOB_BYTES_MAX, BlobHash, Blobs};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use directory::{
    Change, ChangeCursor, Changes, Directory, DirectoryRow, DirectoryTable, RowWrite,
};
pub use error::{
    AppendError, CasError, Cause, CorruptPart, InvalidAppend, InvalidWrite, OpenError, ReadError,
    WriteError, cause,
};
pub use floors::Floors;
pub use inventory::{Inventory, Peeked};
pub use journal::{
    APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Entry, JournalStore, Opened, SNAPSHOT_STATE_BYTES_MAX,
    Snapshot,
};
pub use memory::MemoryStore;
pub use ownership::{NewLease, Ownership, OwnershipError};
pub use projections::{Projections, TaskCursor, TaskFilter, TaskPage, TaskRow};
pub use stores::Stores;
pub use wake::{WakeChange, WakeKind, WakeRow, WakeStore};
