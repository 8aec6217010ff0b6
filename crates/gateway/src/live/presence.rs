//! Who looks at a Task, through this node and through others: told to all who look. Best effort.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt;
use serde_json::json;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior},
};
use troupe_api::task::Viewer;
use troupe_soft_state::VIEWERS_MAX;
use troupe_types::TaskId;

use super::{encoded::raw, room::Room};
use crate::gateway::{Inner, Shared};

/// How often changed presence is told at most.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How often the other nodes hear that nothing changed; a third of what they believe it for.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// Rooms told of at once.
const ROOMS_AT_ONCE: usize = 32;

/// Tells the others who looks through this node, and those who look about everybody.
pub(crate) async fn run(shared: Weak<Inner>) {
    let Some((mut changes, mut health)) = shared.upgrade().map(|shared| {
        let soft = &shared.state.soft;
        (soft.presence_changes(), soft.health())
    }) else {
        return;
    };
    let mut tick = tokio::time::interval(TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut all, mut renewed) = (HashSet::new(), false, Instant::now());
    loop {
        tokio::select! {
            change = changes.recv() => {
                let Some(shared) = shared.upgrade() else { return };
                match change {
                    Ok(task) if shared.hub.rooms.get(task).is_some() => {
                        told.insert(task);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => all = true,
                    Err(RecvError::Closed) => return,
                }
            }
            _ = tick.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                // Nobody is left to be seen, or nobody knows of us any more.
                all |= health.has_changed().unwrap_or(false);
                health.mark_unchanged();
                if renewed.elapsed() >= RENEW_EVERY {
                    (all, renewed) = (true, Instant::now());
                }
                withdraw(&shared).await;
                tell(&shared, &told, all).await;
                told.clear();
                all = false;
            }
        }
    }
}

/// Says that nobody looks any more where nobody does.
pub(crate) async fn withdraw(shared: &Shared) {
    let soft = &shared.state.soft;
    futures::stream::iter(shared.hub.rooms.take_emptied())
        .for_each_concurrent(ROOMS_AT_ONCE, |task| async move {
            soft.announce(task, &[]).await;
        })
        .await;
}

/// Announces rooms that changed, that another node told of, or all.
async fn tell(shared: &Shared, told: &HashSet<TaskId>, all: bool) {
    let due = shared.hub.rooms.pick(|room| {
        let changed = room.presence_changed.swap(false, Ordering::AcqRel);
        (changed || all || told.contains(&room.task)).then(|| (Arc::clone(room), changed))
    });
    let soft = &shared.state.soft;
    futures::stream::iter(due)
        .for_each_concurrent(ROOMS_AT_ONCE, |(room, changed)| async move {
            let elsewhere = soft.announce(room.task, &room.here()).await;
            if room.set_elsewhere(elsewhere) || changed {
                room.tell_presence();
            }
        })
        .await;
}

/// Who looks at a Task.
pub(crate) async fn viewers(shared: &Shared, task: TaskId) -> Vec<Viewer> {
    match shared.hub.rooms.get(task) {
        Some(room) => room.named(),
        None => shared.state.soft.elsewhere(task).await,
    }
}

/// Each person once.
fn once(mut people: Vec<Viewer>) -> Vec<Viewer> {
    people.sort_by_key(|viewer| viewer.user_id);
    people.dedup_by_key(|viewer| viewer.user_id);
    people.truncate(VIEWERS_MAX);
    people
}

impl Room {
    /// Who looks through this node, each person once.
    fn here(&self) -> Vec<Viewer> {
        let viewer = |user_id, user_name: &String| Viewer { user_id, user_name: user_name.clone() };
        once(self.connections().iter().map(|c| viewer(c.user, &c.user_name)).collect())
    }

    /// Who looks, each person once.
    pub(super) fn named(&self) -> Vec<Viewer> {
        let mut people = self.here();
        people.extend(self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone());
        once(people)
    }

    /// Whether that is news.
    fn set_elsewhere(&self, people: Vec<Viewer>) -> bool {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *elsewhere != people;
        *elsewhere = people;
        changed
    }

    /// Tells everybody who looks through this node.
    fn tell_presence(&self) {
        let Some(payload) = raw(&json!({ "task_id": self.task, "viewers": self.named() })) else {
            return;
        };
        for connection in self.connections() {
            // Whoever has no room for it right now hears of the next change.
            let _ = connection.peer.try_event("task:presence", &payload);
        }
    }
}
