//! The twin without a server: for a node on its own, for tests, and behind Redis while that is
//! away.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use troupe_api::task::Viewer;
use troupe_types::{Clock, MonoTime, TaskId};

use crate::{
    Health, Lifetimes, Limits, News, Notice, Presence, Rule, SoftState, Statuses, TaskNote,
    Verdict, gcra, limits, news::Ears, presence::named,
};

/// Tasks with viewers, notes and counters that are remembered, each.
const ROWS_MAX: usize = 50_000;
/// Under it the counters of all names are kept for which there is no room.
const REST: &str = "";

type Viewers = HashMap<u64, (MonoTime, Vec<Viewer>)>;

/// Soft state within one process. Several nodes of one process share it through
/// [`another`](Self::another).
pub struct InProcess {
    hub: Arc<Hub>,
    node: u64,
    ears: Arc<Ears>,
    health: watch::Sender<Health>,
}

struct Hub {
    clock: Arc<dyn Clock>,
    lifetimes: Lifetimes,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    nodes: Vec<(u64, Weak<Ears>)>,
    last_node: u64,
    /// Per Task, per node: until when it holds, and who.
    presence: HashMap<TaskId, Viewers>,
    statuses: HashMap<TaskId, (MonoTime, TaskNote)>,
    /// Theoretical arrival times.
    counters: HashMap<String, MonoTime>,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("node", &self.node).finish_non_exhaustive()
    }
}

impl InProcess {
    /// A node of its own.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, lifetimes: Lifetimes) -> Self {
        Self::join(Arc::new(Hub { clock, lifetimes, tables: Mutex::default() }))
    }

    /// Ready to be shared, with lifetimes as designed.
    #[must_use]
    pub fn shared(clock: Arc<dyn Clock>) -> Arc<dyn SoftState> {
        Arc::new(Self::new(clock, Lifetimes::default()))
    }

    /// Another node that shares all of it.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::join(Arc::clone(&self.hub))
    }

    fn join(hub: Arc<Hub>) -> Self {
        let ears = Arc::new(Ears::new());
        let node = {
            let mut tables = hub.lock();
            tables.last_node += 1;
            let node = tables.last_node;
            tables.nodes.retain(|(_, ears)| ears.strong_count() > 0);
            tables.nodes.push((node, Arc::downgrade(&ears)));
            node
        };
        Self { hub, node, ears, health: watch::Sender::new(Health::Whole) }
    }

    /// The other nodes.
    fn others(&self) -> Vec<Arc<Ears>> {
        let tables = self.hub.lock();
        let others = tables.nodes.iter().filter(|(node, _)| *node != self.node);
        others.filter_map(|(_, ears)| ears.upgrade()).collect()
    }

    fn elsewhere_of(&self, task: TaskId) -> Vec<Viewer> {
        let now = self.hub.clock.mono();
        let tables = self.hub.lock();
        let nodes = tables.presence.get(&task).into_iter().flatten();
        let others = nodes.filter(|(node, (until, _))| **node != self.node && *until > now);
        named(others.flat_map(|(_, (_, viewers))| viewers.iter().cloned()).collect())
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reading in which counters are kept, in microseconds.
    fn micros(at: MonoTime) -> u64 {
        u64::try_from(at.since(MonoTime::ZERO).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Makes room for `key`: what is over goes first, then whatever comes.
fn make_room<K: Hash + Eq + Clone, V>(
    rows: &mut HashMap<K, V>,
    key: &K,
    is_over: impl Fn(&V) -> bool,
) {
    if rows.len() < ROWS_MAX || rows.contains_key(key) {
        return;
    }
    rows.retain(|_, row| !is_over(row));
    // A tenth at once, so that the next ones need no sweep.
    let surplus = rows.len().saturating_sub(ROWS_MAX - ROWS_MAX / 10);
    let gone: Vec<K> = rows.keys().take(surplus).cloned().collect();
    for key in gone {
        rows.remove(&key);
    }
}

#[async_trait]
impl Presence for InProcess {
    async fn announce(&self, task: TaskId, here: &[Viewer]) -> Vec<Viewer> {
        let now = self.hub.clock.mono();
        let here = named(here.to_vec());
        let changed = {
            let mut tables = self.hub.lock();
            let is_over = |nodes: &Viewers| nodes.values().all(|(until, _)| *until <= now);
            make_room(&mut tables.presence, &task, is_over);
            let nodes = tables.presence.entry(task).or_default();
            nodes.retain(|_, (until, _)| *until > now);
            let known = nodes.get(&self.node).map_or(&[][..], |(_, viewers)| viewers);
            let changed = known != here;
            if here.is_empty() {
                nodes.remove(&self.node);
            } else {
                nodes.insert(self.node, (now.plus(self.hub.lifetimes.presence), here));
            }
            if nodes.is_empty() {
                tables.presence.remove(&task);
            }
            changed
        };
        if changed {
            self.others().iter().for_each(|ears| ears.presence(task));
        }
        self.elsewhere_of(task)
    }

    async fn elsewhere(&self, task: TaskId) -> Vec<Viewer> {
        self.elsewhere_of(task)
    }

    fn presence_changes(&self) -> broadcast::Receiver<TaskId> {
        self.ears.presence.subscribe()
    }
}

#[async_trait]
impl Statuses for InProcess {
    async fn put_status(&self, task: TaskId, note: &TaskNote) {
        let now = self.hub.clock.mono();
        let mut tables = self.hub.lock();
        make_room(&mut tables.statuses, &task, |(until, _)| *until <= now);
        let known = tables.statuses.get(&task).filter(|(until, _)| *until > now);
        if known.is_none_or(|(_, known)| known.seq <= note.seq) {
            let until = now.plus(self.hub.lifetimes.status);
            tables.statuses.insert(task, (until, note.bounded()));
        }
    }

    async fn statuses(&self, tasks: &[TaskId]) -> Vec<Option<TaskNote>> {
        let now = self.hub.clock.mono();
        let tables = self.hub.lock();
        let known = |task| tables.statuses.get(task).filter(|(until, _)| *until > now);
        tasks.iter().map(|task| known(task).map(|(_, note)| note.clone())).collect()
    }
}

#[async_trait]
impl Limits for InProcess {
    async fn take(&self, name: &str, rule: Rule) -> Verdict {
        let at = self.hub.clock.mono();
        let mut tables = self.hub.lock();
        let counters = &mut tables.counters;
        if counters.len() >= ROWS_MAX && !counters.contains_key(limits::cut(name)) {
            counters.retain(|_, tat| *tat > at);
        }
        // To forget a counter would be to allow more: the rest shares one instead.
        let full = counters.len() >= ROWS_MAX && !counters.contains_key(limits::cut(name));
        let name = if full { REST } else { limits::cut(name) };
        let tat = counters.get(name).copied().map_or(0, Hub::micros);
        let (verdict, next) = gcra::take(tat, Hub::micros(at), rule);
        if let Some(next) = next {
            let next = MonoTime::ZERO.plus(Duration::from_micros(next));
            counters.insert(name.to_owned(), next);
        }
        verdict
    }

    async fn give_back(&self, name: &str, rule: Rule) {
        let now = Hub::micros(self.hub.clock.mono());
        let mut tables = self.hub.lock();
        let name = limits::cut(name);
        let Some(tat) = tables.counters.get(name).copied().map(Hub::micros) else { return };
        match gcra::give_back(tat, now, rule) {
            Some(tat) => {
                let tat = MonoTime::ZERO.plus(Duration::from_micros(tat));
                tables.counters.insert(name.to_owned(), tat);
            }
            None => drop(tables.counters.remove(name)),
        }
    }

    async fn forget(&self, name: &str) {
        self.hub.lock().counters.remove(limits::cut(name));
    }
}

impl News for InProcess {
    fn notify(&self, notice: Notice) {
        self.others().iter().for_each(|ears| ears.notice(notice.clone()));
        self.ears.notice(notice);
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.ears.notices.subscribe()
    }

    fn tell_revoked(&self) {
        self.others().iter().for_each(|ears| ears.revoked());
    }

    fn revocations(&self) -> watch::Receiver<u64> {
        self.ears.revocations.subscribe()
    }
}

impl SoftState for InProcess {
    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::{ManualClock, Seq, Status, Timestamp, UserId, Uuid};

    use super::*;

    fn state() -> (InProcess, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        (InProcess::new(shared, Lifetimes::default()), clock)
    }

    #[tokio::test]
    async fn tables_are_bounded() {
        let (state, clock) = state();
        let note = TaskNote {
            seq: Seq(1),
            status: Status::Running,
            updated_at: clock.now(),
            last_line: None,
        };
        let user_id = UserId::from_uuid(Uuid::from_u128(1));
        let viewer = Viewer { user_id, user_name: "ann".into() };
        for n in 0..u128::try_from(ROWS_MAX + 100).unwrap() {
            let task = TaskId::from_uuid(Uuid::from_u128(n));
            state.put_status(task, &note).await;
            state.announce(task, std::slice::from_ref(&viewer)).await;
        }
        let tables = state.hub.lock();
        assert!(tables.statuses.len() <= ROWS_MAX && tables.presence.len() <= ROWS_MAX);
    }

    #[tokio::test]
    async fn counters_without_room_share_one() {
        let (state, clock) = state();
        let rule = Rule { burst: 3, per: Duration::from_secs(60) };
        for n in 0..ROWS_MAX + 10 {
            state.take(&format!("name-{n}"), rule).await;
        }
        assert!(state.hub.lock().counters.len() <= ROWS_MAX + 1);
        let refused = state.take("one-more", rule).await;
        assert!(matches!(refused, Verdict::Refused { .. }), "the rest has used up its three");
        clock.advance(Duration::from_secs(60));
        assert_eq!(state.take("one-more", rule).await, Verdict::Allowed, "all are over");
    }
}
