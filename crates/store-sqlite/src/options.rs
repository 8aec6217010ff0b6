//! What can be set.

use std::num::{NonZeroU32, NonZeroUsize};

/// When SQLite calls fsync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// After every commit: what was acked survives a power failure.
    #[default]
    Full,
    /// Never. For tests that show what this would lose.
    Off,
}

/// Settings of the embedded store; the defaults are what a node uses.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Threads that read, each with a connection of its own. Default 2.
    pub readers: NonZeroUsize,
    /// When SQLite calls fsync. Anything but `Full` is for tests.
    pub synchronous: Synchronous,
    /// Entries that lie in the order of their commits before runs of them move to their
    /// entities. Their places are kept in memory, 16 bytes each. Default 16,384.
    pub recent_rows_max: NonZeroUsize,
    /// A limit to the size of the database, in pages of 4 KiB, for tests of a full disk.
    pub pages_max: Option<NonZeroU32>,
    /// The name of another SQLite file layer, for tests. It must be registered already.
    pub file_layer: Option<String>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: NonZeroUsize::new(2).expect("two is not zero"),
            synchronous: Synchronous::Full,
            recent_rows_max: NonZeroUsize::new(16 * 1024).expect("it is not zero"),
            pages_max: None,
            file_layer: None,
        }
    }
}
