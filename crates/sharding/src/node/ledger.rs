//! What is under way, and when each of it is due: many things, one look at all of them now and
//! then in place of a timer for each.
//!
//! Whoever makes an entry in an empty ledger starts the looks; they end with the last entry.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use troupe_types::Uuid;

/// Time between two looks: so late is what is due, at most.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Book<T> {
    entries: HashMap<Uuid, (Instant, T)>,
    is_watched: bool,
}

/// Entries by the ids of their envelopes.
#[derive(Debug)]
pub(crate) struct Ledger<T>(Mutex<Book<T>>);

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self(Mutex::new(Book { entries: HashMap::new(), is_watched: false }))
    }
}

impl<T> Ledger<T> {
    fn lock(&self) -> MutexGuard<'_, Book<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `true`: nobody looks, the caller has to see to it.
    #[must_use]
    pub(crate) fn enter(&self, id: Uuid, due: Instant, entry: T) -> bool {
        let mut book = self.lock();
        book.entries.insert(id, (due, entry));
        !std::mem::replace(&mut book.is_watched, true)
    }

    pub(crate) fn remove(&self, id: Uuid) -> Option<T> {
        self.lock().entries.remove(&id).map(|(_, entry)| entry)
    }

    /// Takes the entry if it is as wanted.
    pub(crate) fn remove_if(&self, id: Uuid, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut book = self.lock();
        book.entries.get(&id).filter(|(_, entry)| is_it(entry))?;
        book.entries.remove(&id).map(|(_, entry)| entry)
    }

    /// Takes what is due and as wanted. `None`: nothing is left, and the looks are over.
    pub(crate) fn due(&self, now: Instant, is_it: impl Fn(&T) -> bool) -> Option<Vec<(Uuid, T)>> {
        let mut book = self.lock();
        if book.entries.is_empty() {
            book.is_watched = false;
            // What a busy hour needed is not kept for ever.
            book.entries.shrink_to_fit();
            return None;
        }
        let due = book.entries.extract_if(|_, (due, entry)| *due <= now && is_it(entry));
        Some(due.map(|(id, (_, entry))| (id, entry)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_taken_once_and_the_looks_end_with_the_last_entry() {
        let (ledger, now) = (Ledger::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let id = Uuid::from_u128;
        assert!(ledger.enter(id(1), now, "first"), "nobody looks yet");
        assert!(!ledger.enter(id(2), later, "second"));
        assert!(!ledger.enter(id(3), later, "third"));
        assert_eq!(ledger.due(now, |_| false), Some(Vec::new()));
        assert_eq!(ledger.due(now, |_| true), Some(vec![(id(1), "first")]));
        assert_eq!(ledger.remove(id(1)), None);
        assert_eq!(ledger.remove_if(id(2), |what| *what == "other"), None);
        assert_eq!(ledger.remove_if(id(2), |what| *what == "second"), Some("second"));
        assert_eq!(ledger.due(now, |_| true), Some(Vec::new()), "one is left");
        assert_eq!(ledger.remove(id(3)), Some("third"));
        assert_eq!(ledger.due(later, |_| true), None);
        assert!(ledger.enter(id(4), later, "fourth"), "the looks begin again");
    }
}
