//! The newest committed entries of a Task, in memory: what followers and reads use first.

use std::{collections::VecDeque, sync::Arc};

use troupe_domain::task::TaskEntry;
use troupe_types::{Frame, FrameSeq, Seq};

/// Entries that stay in memory after a snapshot took them over.
const KEEP_ENTRIES: usize = 256;
/// ..and their bytes.
const KEEP_BYTES: usize = 512 * 1024;

/// A committed entry.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) seq: Seq,
    pub(super) bytes: usize,
    pub(super) entry: Arc<TaskEntry>,
}

/// A contiguous run of the newest committed entries. Everything above the current snapshot is
/// in it; some older ones too.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Held>,
    bytes: usize,
    /// The last committed frame.
    head: FrameSeq,
    /// Entries up to here are in a snapshot, so they may leave.
    snapshot: Seq,
}

impl Window {
    pub(super) fn new(snapshot: Seq, head: FrameSeq) -> Self {
        Self { head, snapshot, ..Self::default() }
    }

    pub(super) const fn snapshot(&self) -> Seq {
        self.snapshot
    }

    /// Bytes of the entries in memory.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) const fn head(&self) -> FrameSeq {
        self.head
    }

    pub(super) fn push(&mut self, held: Held) {
        if let Some(last) = held.entry.frames.last() {
            self.head = last.seq;
        }
        self.bytes += held.bytes;
        self.entries.push_back(held);
        self.shrink();
    }

    /// A snapshot covers everything up to `upto` now.
    pub(super) fn snapshotted(&mut self, upto: Seq) {
        self.snapshot = self.snapshot.max(upto);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.entries.len() > KEEP_ENTRIES || self.bytes > KEEP_BYTES {
            match self.entries.front() {
                Some(front) if front.seq <= self.snapshot => {
                    self.bytes -= front.bytes;
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    /// All entries in memory, oldest first.
    pub(super) fn entries(&self) -> Vec<Held> {
        self.entries.iter().cloned().collect()
    }

    /// The committed frames after `after`, if all of them are in memory.
    pub(super) fn frames_after(&self, after: FrameSeq) -> Option<Vec<Frame>> {
        if after >= self.head {
            return Some(Vec::new());
        }
        let first = self.entries.iter().find_map(|h| h.entry.frames.first())?;
        if first.seq > after.next() {
            return None;
        }
        let frames = self.entries.iter().flat_map(|h| &h.entry.frames);
        Some(frames.filter(|f| f.seq > after).cloned().collect())
    }
}
