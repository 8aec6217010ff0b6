//! The invariants I1 to I10 (`docs/INVARIANTS.md`) as pure functions over what was recorded.
//!
//! Each has tests with histories made by hand that it must find bad.

pub(crate) mod acked;
pub(crate) mod bounds;
pub(crate) mod converge;
pub(crate) mod epochs;
pub(crate) mod fence;
pub(crate) mod isolation;
pub(crate) mod orphans;
pub(crate) mod stream;
pub(crate) mod terminal;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use troupe_testkit::client::fold::Event;

/// A numbered promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) enum Invariant {
    /// Epochs of a shard rise, and each has one owner.
    I1,
    /// Nothing is committed under an older fence than the newest.
    I2,
    /// One activation at a time.
    I3,
    /// What was acknowledged is there exactly once.
    I4,
    /// What a client assembles is the log.
    I5,
    /// Soon after the last fault all goes on.
    I6,
    /// Memory stays bounded.
    I7,
    /// Nothing is left behind.
    I8,
    /// Terminal states are final.
    I9,
    /// Nobody sees what is not theirs.
    I10,
}

impl Invariant {
    /// All, in order.
    pub(crate) const ALL: [Self; 10] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// A Task's log as its owner tells it in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskLog {
    /// From seq 1 on.
    pub(crate) frames: Vec<Event>,
    /// Keys of the messages that wait in the queue.
    pub(crate) queued: Vec<String>,
}

impl TaskLog {
    pub(crate) fn head(&self) -> u64 {
        self.frames.last().map_or(0, |event| event.seq)
    }
}

/// Logs by Task.
pub(crate) type Logs = BTreeMap<String, TaskLog>;
