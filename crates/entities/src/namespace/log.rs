//! The newest changes of a Namespace, for those who watch it.

use std::collections::VecDeque;

use troupe_domain::namespace::{ItemChange, NamespaceEntry};
use troupe_types::Seq;

use super::address::WatchEvent;

/// Changes that a watcher may be behind.
const CHANGES_MAX: usize = 4_096;
/// The same in bytes as JSON; the last change stays.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of one answer; one version is told as a whole, whatever it has.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Changes in the order of their versions, and where they begin.
#[derive(Debug)]
pub(super) struct Log {
    changes: VecDeque<Logged>,
    begins: Seq,
    bytes: usize,
}

#[derive(Debug)]
struct Logged {
    event: WatchEvent,
    bytes: usize,
}

impl Log {
    /// What was before `begins` is not known.
    pub(super) fn new(begins: Seq) -> Self {
        Self { changes: VecDeque::new(), begins, bytes: 0 }
    }

    /// The oldest version that can be watched from.
    pub(super) fn begins(&self) -> Seq {
        self.begins
    }

    pub(super) fn push(&mut self, entry: &NamespaceEntry, version: Seq) {
        for change in &entry.changes {
            let bytes = change.bytes();
            let (key, item) = match change {
                ItemChange::Written { key, item } => (key.clone(), Some(item.as_ref().clone())),
                ItemChange::Removed { key, .. } => (key.clone(), None),
            };
            self.bytes += bytes;
            self.changes.push_back(Logged { event: WatchEvent { key, item, version }, bytes });
        }
        while self.changes.len() > CHANGES_MAX || (self.bytes > BYTES_MAX && self.changes.len() > 1)
        {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.begins = oldest.event.version;
        }
    }

    /// Changes after a version that is known, and the version up to which these are all: whole
    /// versions, as many as fit into an answer; `newest` if nothing is left out.
    pub(super) fn since(&self, since: Seq, newest: Seq) -> (Vec<WatchEvent>, Seq) {
        let (mut events, mut bytes) = (Vec::<WatchEvent>::new(), 0);
        for logged in self.changes.iter().filter(|logged| logged.event.version > since) {
            bytes += logged.bytes;
            if let Some(last) = events.last().map(|event| event.version)
                && bytes > ANSWER_BYTES_MAX
                && last < logged.event.version
            {
                return (events, last);
            }
            events.push(logged.event.clone());
        }
        (events, newest)
    }
}
