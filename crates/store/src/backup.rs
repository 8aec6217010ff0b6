//! A copy of everything in a store, as one stream of records, and the way back.
//!
//! ```text
//! head, entities (entries, snapshot, wake rows, list row), directory, blobs, dead letters, end
//! ```
//! **What it is a copy of.** Entities are independent, so each is read at a moment of its own
//! and is whole at that moment: everything that was acked before the backup began is in it. What
//! entities refer to is read after them: users, sessions and devices, then blobs. Lists are
//! read with the entity and are never ahead of its journal. So the copy is a state that a
//! crash of all nodes could have left behind, and the wake rows in it say what goes on.
//!
//! **What is left out.** Epochs, leases and owners of shards: the restored store has its own,
//! and nothing in a journal leans on them. Announced changes of the directory: their readers start
//! anew. Keys, which lie outside the store; what was sealed under them stays sealed.
//!
//! Absences: no file, no clock; whoever calls brings the sink, the source and the time.

mod dump;
mod file;
mod load;
mod mark;
mod record;
#[cfg(test)]
mod tests;

pub use dump::{DumpError, dump};
pub use file::{FORMAT, FileError, Reader, Totals, Verified, verify};
pub use load::{LoadError, begin, load, may_load};
pub use mark::{Restored, StartError, check_start};
pub use record::{Head, Kind, Record};
