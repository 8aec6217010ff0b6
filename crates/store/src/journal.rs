//! The journal of an entity: entries, snapshots, the archive.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_types::{EntityId, Epoch, Fence, FrameSeq, Seq, limits};

use crate::{
    Activation,
    error::{AppendError, InvalidAppend, OpenError, ReadError},
    wake::WakeChange,
};

/// Entries that one append may carry.
pub const APPEND_ENTRIES_MAX: usize = 1_024;
/// Bytes of all entries of one append.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Largest state of a snapshot, in bytes.
pub const SNAPSHOT_STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One record of a journal.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub seq: Seq,
    /// The next [`FrameSeq`] before this entry's frames, so the number of its first one.
    pub first_frame: FrameSeq,
    /// How many frames it carries; often none.
    pub frames: u32,
    /// What it says, at most `ENTRY_BYTES_MAX`; the store never looks inside.
    pub body: Bytes,
}

impl Entry {
    /// The number that the next frame after this entry gets.
    #[must_use]
    pub const fn next_frame(&self) -> FrameSeq {
        self.first_frame.plus(self.frames as u64)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, first_frame, frames, body } = self;
        write!(f, "Entry({seq}, frames {first_frame}+{frames}, {} bytes)", body.len())
    }
}

/// The fold of all entries up to and including `upto`.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry it covers.
    pub upto: Seq,
    /// The state, as the entity encoded it.
    pub state: Bytes,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot(upto {}, {} bytes)", self.upto, self.state.len())
    }
}

/// The right to write one entity's journal, and what was in it when the right was won.
///
/// It counts until a newer one exists or an append of it fails. Dropping it ends nothing
/// that is already under way.
#[derive(Debug)]
pub struct Opened {
    /// Rises with each activation of the entity; wake rows carry it.
    pub fence: Fence,
    /// The last committed entry, [`Seq::ZERO`] if there is none.
    pub head: Seq,
    /// The current snapshot. Take it out, it may be large.
    pub snapshot: Option<Snapshot>,
    /// All entries above the snapshot, in order. Take it out, it may be large.
    pub tail: Vec<Entry>,
    /// The store's own side of the handle.
    pub activation: Activation,
}

impl Opened {
    /// Whose journal this is.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.activation.entity()
    }

    /// Whether a newer activation exists in this process. `false` proves nothing.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.activation.is_superseded()
    }
}

/// One ordered log per entity; what was acked is there exactly once.
///
/// Guarantees, each checked by `conformance::journal` against every implementation:
/// - **Durable.** After `Ok` of [`append`](Self::append), its entries outlive the process, the
///   machine's power and any one storage replica.
/// - **Fenced.** Once [`open`](Self::open) has returned, no append of an older activation
///   commits any more, and none that did is missing from what `open` returned.
/// - **Gapless and in order.** Entries are numbered from 1. Appends of one activation commit
///   in the order of their numbers, though up to `APPENDS_IN_FLIGHT_MAX` may be under way and
///   the calls may start in any order (one that comes too early waits up to 2 s).
/// - **All or nothing.** The entries of one append are seen together or not at all.
/// - **Settled by open.** What `open` returned never changes or vanishes; an entry with an
///   unknown outcome that it did not return never appears later. (`open` claims nothing while
///   an entity has no rows, so this holds from its first entry on.)
///
/// Not promised: any order between entities; any knowledge of keys (the dedupe of commands is
/// part of the entity's fold). A live journal is read by its owner alone, the archive by all.
///
/// Cancellation: a dropped `append` may have happened or not, like `OutcomeUnknown`; the
/// activation may refuse what follows. Dropped reads and opens leave nothing behind.
#[async_trait]
pub trait JournalStore: fmt::Debug + Send + Sync + 'static {
    /// Claims the journal for a new activation under `epoch` and reads it.
    ///
    /// An entity without rows is no error: `head` is zero, and nothing is written before the
    /// first append. The embedded store writes nothing at all, so that entities stay readable
    /// on a full disk.
    ///
    /// # Errors
    /// [`OpenError::Fenced`] if a newer epoch or activation owns the entity: give up.
    /// [`OpenError::Corrupt`] names the first bad entry. Repeat after `Unavailable`.
    async fn open(&self, entity: EntityId, epoch: Epoch) -> Result<Opened, OpenError>;

    /// Appends `entries`, the first of which is number `first`, and changes the wake index;
    /// resolves when all of it is committed.
    ///
    /// Without entries it changes the wake index alone, and still proves that the activation
    /// is the newest one; `first` is then the number of the next entry, so the append of that
    /// entry must not be started before this one is done. Wake rows are inserted before the
    /// entries can be seen and removed after they are committed.
    ///
    /// # Errors
    /// See [`AppendError`]. All but `Invalid` end the activation: this append, those under way
    /// behind it and all later ones fail, and what of it is there is told by the next `open`.
    async fn append(
        &self,
        at: &Opened,
        first: Seq,
        entries: Vec<Entry>,
        wake: Vec<WakeChange>,
    ) -> Result<(), AppendError>;

    /// Makes `state`, the fold of all entries up to `upto`, the current snapshot; the entries
    /// below move to the archive if the kind keeps one, and go otherwise.
    ///
    /// `upto` must be committed. One that is not above the current snapshot changes nothing.
    /// May run beside appends.
    ///
    /// # Errors
    /// See [`AppendError`]. The activation goes on unless it is `Fenced`: after any other
    /// failure the old or the new snapshot is current and nothing is missing.
    async fn snapshot(&self, at: &Opened, upto: Seq, state: Bytes) -> Result<(), AppendError>;

    /// Archived entries, whole and in order, from the first that holds a frame at or above
    /// `from`; entries without frames are left out. Stops before `bytes_max` bytes of bodies
    /// would be exceeded, but answers at least one entry if there is any. Empty means that
    /// everything at or above `from` is still in the live journal, or does not exist.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn read_archive(
        &self,
        entity: EntityId,
        from: FrameSeq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError>;

    /// Archived entries by number, from `from` on, those without frames too; bounded like
    /// [`read_archive`](Self::read_archive).
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn read_archive_entries(
        &self,
        entity: EntityId,
        from: Seq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError>;
}

/// Checks what every implementation must refuse before it writes: sizes, order, frames.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_append(
    first: Seq,
    entries: &[Entry],
    wake: &[WakeChange],
) -> Result<(), InvalidAppend> {
    if entries.is_empty() && wake.is_empty() {
        return Err(InvalidAppend::Empty);
    }
    let mut bytes = 0;
    let mut frame = entries.first().map(|e| e.first_frame);
    let mut expected = first;
    for entry in entries {
        if entry.seq != expected || Some(entry.first_frame) != frame {
            return Err(InvalidAppend::Order(entry.seq));
        }
        if entry.body.len() > limits::ENTRY_BYTES_MAX {
            let bytes = entry.body.len();
            return Err(InvalidAppend::EntryTooLarge { seq: entry.seq, bytes });
        }
        bytes += entry.body.len();
        expected = expected.next();
        frame = Some(entry.next_frame());
    }
    let entries = entries.len();
    if entries > APPEND_ENTRIES_MAX || bytes > APPEND_BYTES_MAX || wake.len() > APPEND_ENTRIES_MAX {
        return Err(InvalidAppend::TooLarge { entries, bytes });
    }
    Ok(())
}

/// The longest run of `entries` that fits into `bytes_max`, at least one.
pub fn take_bytes<E>(
    entries: impl IntoIterator<Item = Result<Entry, E>>,
    bytes_max: usize,
) -> Result<Vec<Entry>, E> {
    let mut out: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += entry.body.len();
        if bytes > bytes_max && !out.is_empty() {
            break;
        }
        out.push(entry);
    }
    Ok(out)
}
