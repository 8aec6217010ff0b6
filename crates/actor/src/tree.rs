//! Which actors there are, for an operator's page.
//!
//! An actor keeps its [`ActorEntry`]; the tree only looks, so an entry goes with its actor.
//! Entities are not in here: their Shards know them and list them on demand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use troupe_types::{Clock, MonoTime};

/// Last error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// What an actor tells about itself; cheap to update.
#[derive(Debug)]
pub struct ActorEntry {
    number: u64,
    parent: Option<u64>,
    name: String,
    started: MonoTime,
    queue_depth: AtomicUsize,
    restarts: AtomicU64,
    last_error: Mutex<Option<String>>,
    tree: Weak<Inner>,
}

impl ActorEntry {
    /// Messages that wait for it.
    pub fn set_queue_depth(&self, depth: usize) {
        self.queue_depth.store(depth, Ordering::Relaxed);
    }

    /// It, or a child of it, was started again because of this. Never payloads.
    pub fn restarted(&self, error: &str) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let end = error.floor_char_boundary(ERROR_BYTES_MAX);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(error[..end].to_owned());
    }
}

impl Drop for ActorEntry {
    fn drop(&mut self) {
        if let Some(tree) = self.tree.upgrade() {
            tree.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        }
    }
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorInfo {
    /// Unique in this process.
    pub number: u64,
    /// The number of its supervisor.
    pub parent: Option<u64>,
    /// Its name.
    pub name: String,
    /// How long it has been there.
    pub age: Duration,
    /// Messages that wait for it, as it last said.
    pub queue_depth: usize,
    /// How often it or a child of it was started again.
    pub restarts: u64,
    /// Why, the last time.
    pub last_error: Option<String>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    entries: Mutex<HashMap<u64, Weak<ActorEntry>>>,
}

/// The actors of this process. Cloning gives the same tree.
#[derive(Clone, Debug)]
pub struct ActorTree(Arc<Inner>);

impl ActorTree {
    /// An empty tree.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let entries = Mutex::new(HashMap::new());
        Self(Arc::new(Inner { clock, next: AtomicU64::new(1), entries }))
    }

    /// Adds an actor; it is listed until the entry is dropped.
    #[must_use]
    pub fn add(&self, name: impl Into<String>, parent: Option<&ActorEntry>) -> Arc<ActorEntry> {
        let entry = Arc::new(ActorEntry {
            number: self.0.next.fetch_add(1, Ordering::Relaxed),
            parent: parent.map(|parent| parent.number),
            name: name.into(),
            started: self.0.clock.mono(),
            queue_depth: AtomicUsize::new(0),
            restarts: AtomicU64::new(0),
            last_error: Mutex::new(None),
            tree: Arc::downgrade(&self.0),
        });
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(entry.number, Arc::downgrade(&entry));
        drop(entries);
        entry
    }

    /// All actors, parents before their children.
    #[must_use]
    pub fn list(&self) -> Vec<ActorInfo> {
        let now = self.0.clock.mono();
        let entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let alive: Vec<_> = entries.values().filter_map(Weak::upgrade).collect();
        // An entry that is dropped below takes the lock itself.
        drop(entries);
        let mut list: Vec<_> = alive
            .iter()
            .map(|entry| ActorInfo {
                number: entry.number,
                parent: entry.parent,
                name: entry.name.clone(),
                age: now.since(entry.started),
                queue_depth: entry.queue_depth.load(Ordering::Relaxed),
                restarts: entry.restarts.load(Ordering::Relaxed),
                last_error: entry.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            })
            .collect();
        list.sort_by_key(|info| info.number);
        list
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn entries_come_and_go_with_their_actors() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let tree = ActorTree::new(clock.clone());
        let parent = tree.add("shard host", None);
        let child = tree.add("shard 7", Some(&parent));
        clock.advance(Duration::from_secs(3));
        child.set_queue_depth(5);
        child.restarted(&"é".repeat(400));
        let list = tree.list();
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].parent, Some(list[0].number));
        assert_eq!(list[1].age, Duration::from_secs(3));
        assert_eq!((list[1].queue_depth, list[1].restarts), (5, 1));
        assert_eq!(list[1].last_error.as_ref().unwrap().len(), ERROR_BYTES_MAX);
        drop(child);
        assert_eq!(tree.list().len(), 1);
    }
}
