//! What storage calls answer when they do not succeed: one enum per operation family.

use std::{error::Error, fmt, sync::Arc};

use thiserror::Error;
use troupe_types::{EntityId, Epoch, Fence, Seq};

/// The reason below an error; shared, because one failed batch answers many callers.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Makes a [`Cause`] of an error or a text.
pub fn cause(error: impl Into<Box<dyn Error + Send + Sync>>) -> Cause {
    Arc::from(error.into())
}

/// Which stored thing does not match its checksum, or is missing from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorruptPart {
    /// The snapshot that covers everything up to this entry.
    Snapshot(Seq),
    /// This entry: damaged, or missing although a later one is there.
    Entry(Seq),
    /// A row beside the journals.
    Row,
    /// A blob whose bytes do not hash to its name.
    Blob,
    /// The database file itself.
    Database,
}

impl fmt::Display for CorruptPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(upto) => write!(f, "the snapshot up to entry {upto}"),
            Self::Entry(seq) => write!(f, "entry {seq}"),
            Self::Row => f.write_str("a row"),
            Self::Blob => f.write_str("a blob"),
            Self::Database => f.write_str("the database file"),
        }
    }
}

/// Why an entity's journal could not be opened.
#[derive(Clone, Debug, Error)]
pub enum OpenError {
    /// A newer epoch or activation owns the entity: give up.
    #[error("a newer activation owns {entity} (asked with epoch {asked})")]
    Fenced {
        /// Whose journal.
        entity: EntityId,
        /// The epoch that was too old.
        asked: Epoch,
    },
    /// Stored bytes are damaged: raise an alarm; nothing is skipped or repaired silently.
    #[error("the journal of {entity} is corrupt at {part}")]
    Corrupt {
        /// Whose journal.
        entity: EntityId,
        /// The first bad thing.
        part: CorruptPart,
    },
    /// The store did not answer in time, or not at all. Nothing changed; open again later.
    #[error("the store is not available")]
    Unavailable {
        /// What the store said.
        #[source]
        source: Cause,
    },
}

impl OpenError {
    /// Whether opening again later may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why an append or a snapshot was not confirmed.
///
/// After any of them but [`Invalid`](Self::Invalid) an *append* has ended its activation: drop
/// it with everything uncommitted, and open again.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// A newer activation owns the entity: give up this one. Nothing that the newer one has
    /// not read will ever count, with one exception: an entity without rows has no fence yet, so
    /// until the newer one appends, the first append of an older one may come to count. The
    /// newer one is then refused in its turn, and the next one reads it.
    #[error("fence {fence} of {entity} is not the newest one")]
    Fenced {
        /// Whose journal.
        entity: EntityId,
        /// The fence that was too old.
        fence: Fence,
    },
    /// The entries may be there or not; only opening again tells.
    #[error("the outcome of the append is unknown")]
    OutcomeUnknown {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// No room. Every try was refused unwritten.
    #[error("the store is full")]
    Full,
    /// The store did not take it. Every try was refused unwritten.
    #[error("the store is not available")]
    Unavailable {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// The caller's bug. Nothing was written and the activation goes on.
    #[error("the append is not valid")]
    Invalid(#[source] InvalidAppend),
}

impl AppendError {
    /// Whether the same command may succeed after opening the entity again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. } | Self::Full | Self::Unavailable { .. })
    }
}

/// What is wrong with the arguments of an append or a snapshot.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidAppend {
    /// Neither entries nor wake changes.
    #[error("it holds nothing")]
    Empty,
    /// The entries do not follow each other, or their frames do not.
    #[error("entry {0} does not follow the one before it")]
    Order(Seq),
    /// The first entry does not follow what this activation appended before.
    #[error("it begins at {first}, but {expected} is next")]
    Gap {
        /// Where the append begins.
        first: Seq,
        /// Where it must begin.
        expected: Seq,
    },
    /// One entry is larger than `ENTRY_BYTES_MAX`.
    #[error("entry {seq} has {bytes} bytes")]
    EntryTooLarge {
        /// Which.
        seq: Seq,
        /// Its size.
        bytes: usize,
    },
    /// More entries or bytes than one append may carry.
    #[error("{entries} entries with {bytes} bytes are too much for one append")]
    TooLarge {
        /// How many entries.
        entries: usize,
        /// How many bytes in all.
        bytes: usize,
    },
    /// More appends of one entity under way than `APPENDS_IN_FLIGHT_MAX`.
    #[error("too many appends are under way")]
    TooManyInFlight,
    /// A snapshot beyond what this activation knows as committed.
    #[error("a snapshot up to {upto} covers entries that are not committed")]
    NotCommitted {
        /// The last entry it covers.
        upto: Seq,
    },
    /// The state of a snapshot is larger than `SNAPSHOT_STATE_BYTES_MAX`.
    #[error("a snapshot of {0} bytes is too large")]
    SnapshotTooLarge(usize),
}

/// Why a read failed. Reads change nothing and may be repeated.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    /// Stored bytes of an entity are damaged: raise an alarm, never skip them.
    #[error("the journal of {entity} is corrupt at {part}")]
    Corrupt {
        /// Whose.
        entity: EntityId,
        /// The first bad thing.
        part: CorruptPart,
    },
    /// Stored bytes that belong to no entity are damaged.
    #[error("{what} is corrupt at {part}")]
    CorruptRow {
        /// What was being read.
        what: &'static str,
        /// The bad thing.
        part: CorruptPart,
    },
    /// The store did not answer.
    #[error("the store is not available")]
    Unavailable {
        /// What the store said.
        #[source]
        source: Cause,
    },
}

impl ReadError {
    /// Whether the same read may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why a write beside the journals failed. All of them are idempotent: repeat them.
#[derive(Clone, Debug, Error)]
pub enum WriteError {
    /// It may have happened or not; repeat it.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// No room; nothing was written.
    #[error("the store is full")]
    Full,
    /// The store did not take it; nothing was written.
    #[error("the store is not available")]
    Unavailable {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// The caller's bug; nothing was written.
    #[error("the write is not valid")]
    Invalid(#[source] InvalidWrite),
}

impl WriteError {
    /// Whether repeating the write may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Invalid(_))
    }
}

/// What is wrong with the arguments of a write.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidWrite {
    /// More bytes than the operation allows.
    #[error("{bytes} bytes are more than the {max} allowed")]
    TooLarge {
        /// How many.
        bytes: usize,
        /// How many may be.
        max: usize,
    },
    /// A wake row of another entity, of a newer activation, or of an older one although this
    /// activation has not written any of its own.
    #[error("a wake row is not this activation's to remove")]
    NotYours,
}

/// Why a compare-and-set did not happen, or not for certain.
#[derive(Clone, Debug, Error)]
pub enum CasError {
    /// The row is not at the expected version; `current` is what is there instead (0: none).
    #[error("the row is at version {current}")]
    Conflict {
        /// Its version, 0 if it does not exist.
        current: u64,
    },
    /// It may have happened or not; read the row before anything is decided.
    #[error("the outcome of the compare-and-set is unknown")]
    OutcomeUnknown {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// No room; nothing was written.
    #[error("the store is full")]
    Full,
    /// The store did not take it; nothing was written.
    #[error("the store is not available")]
    Unavailable {
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// The caller's bug; nothing was written.
    #[error("the write is not valid")]
    Invalid(#[source] InvalidWrite),
}

impl CasError {
    /// Whether trying again, after reading the row, may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Invalid(_))
    }
}
