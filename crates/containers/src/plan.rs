//! What a pool does next: a pure function of what it sees.
//!
//! Invariants: never more containers than the pool may have; the oldest want comes first; a
//! container that no row and no start of this process knows is taken away; one that works is not.

use std::{collections::BTreeMap, time::Duration};

use troupe_domain::device::Gone;
use troupe_entities::device::container::{ContainerRow, ContainerState, WANT_STALE};
use troupe_types::{ErrorType, TaskId, Timestamp};

/// A failure that no Task came for goes after so long.
const FAILED_STALE: Duration = Duration::from_secs(300);
/// So long a container of a node that is given up has to be without a link, too: links come back
/// some seconds after a device's entity has moved.
pub(crate) const AWAY_MIN: Duration = Duration::from_secs(60);
/// A container that came up and was given nothing yet is its Task's for so long, whoever waits;
/// one that has no link in all that time is broken.
pub(crate) const AWAITED: Duration = Duration::from_secs(120);
/// The same for one that has worked, and that its Task wants kept.
pub(crate) const AWAY_MAX: Duration = Duration::from_secs(30 * 60);
/// A container whose entity answers nothing for so long is not held any longer.
pub(crate) const UNANSWERED_MAX: Duration = Duration::from_secs(600);
/// For so long a wish is left to another pool that has room.
pub(crate) const ELSEWHERE: Duration = Duration::from_secs(10);
/// Nobody takes a container from a Task that ended a turn a moment ago: the next may follow.
pub(crate) const EVICT_AFTER: Duration = Duration::from_secs(10);

/// A container of this pool, as its engine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its name.
    pub name: String,
    /// Its first process lives.
    pub running: bool,
}

/// A container that is in this pool's engine and belongs to the pool of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Its name.
    pub name: String,
    /// The node.
    pub node: String,
}

/// How a container of a Task does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// How long it has had nothing to do; `None`: it works, or nobody knows.
    pub idle: Option<Duration>,
    /// How long it has had no link.
    pub away: Duration,
    /// How long nobody has known.
    pub unanswered: Duration,
    /// It was given something once.
    pub worked: bool,
}

/// What a pool sees.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    /// Its node.
    pub node: &'a str,
    /// Containers at once.
    pub max: usize,
    /// Those that wait for a Task.
    pub warm_wanted: usize,
    /// How long an idle one is kept for the next turn.
    pub idle_max: Duration,
    /// Now.
    pub now: Timestamp,
    /// Of all Tasks.
    pub rows: &'a [ContainerRow],
    /// How long the pool of a node has been silent; one that is not here was never heard of.
    pub silent: &'a BTreeMap<String, Duration>,
    /// A node is given up whose pool has been silent for so long.
    pub abandoned: Duration,
    /// Free places of other pools that are there.
    pub elsewhere: usize,
    /// Containers of this pool.
    pub seen: &'a [Seen],
    /// Those of others in the same engine.
    pub neighbours: &'a [Neighbour],
    /// Names of those that could not be taken away: each takes a place as long as it is there.
    pub stuck: &'a [String],
    /// Names of those that wait for a Task.
    pub warm: &'a [String],
    /// Names of containers that this process has in hand: being made, or being given to a Task.
    pub in_hand: &'a [String],
    /// How many are being made that will wait for a Task.
    pub warming: usize,
    /// Tasks whose container is being made, by this process.
    pub starting: &'a [TaskId],
    /// How the containers of Tasks do.
    pub health: &'a BTreeMap<TaskId, Health>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Give a Task a container: this warm one, or a new one.
    Start(TaskId, Option<String>),
    /// Make one that waits.
    Warm,
    /// Nobody knows it, or nobody needs it.
    Remove(String),
    /// A Task's container is to go.
    Retire(TaskId, Gone),
    /// A Task's container is to go if it still idles.
    Evict(TaskId),
    /// Whoever started it is gone: the Task waits again.
    Reset(TaskId),
    /// Nobody wants it any more.
    Drop(TaskId),
}

impl View<'_> {
    /// What to do, in order.
    #[must_use]
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = self.strangers();
        steps.extend(self.left_behind());
        let mut used = self.seen.iter().filter(|seen| self.stuck.contains(&seen.name)).count();
        let mut evictable: Vec<(Duration, TaskId)> = Vec::new();
        for row in self.rows {
            match self.standing(row) {
                Standing::Other => {}
                Standing::Uses => used += 1,
                Standing::Idles(idle) => {
                    used += 1;
                    if !row.keep && idle >= EVICT_AFTER {
                        evictable.push((idle, row.task));
                    }
                }
                Standing::Needs(step) => {
                    used += usize::from(self.has_place(row));
                    steps.push(step);
                }
            }
        }
        let wants = self.wants();
        let mut elsewhere = self.elsewhere;
        let mut warm = self.warm.to_vec();
        for row in &wants {
            // A warm one has the pool's own image.
            let ready = row.image.is_none().then(|| warm.pop()).flatten();
            if ready.is_none() && used + warm.len() + self.warming >= self.max {
                // Nothing has to give way here while another pool has room, if it takes it.
                if elsewhere > 0 && self.now.since(row.since) < ELSEWHERE {
                    elsewhere -= 1;
                    continue;
                }
                // Room is made, and used at the next look.
                if let Some(name) = warm.pop() {
                    steps.push(Step::Remove(name));
                } else if let Some(at) = longest(&evictable) {
                    steps.push(Step::Evict(evictable.swap_remove(at).1));
                }
                continue;
            }
            used += 1;
            steps.push(Step::Start(row.task, ready));
        }
        let there = used + warm.len() + self.warming;
        let ready = warm.len() + self.warming;
        if wants.is_empty() && ready < self.warm_wanted && there < self.max {
            steps.push(Step::Warm);
        }
        steps
    }

    fn strangers(&self) -> Vec<Step> {
        let is_known = |seen: &&Seen| {
            self.warm.contains(&seen.name)
                || self.in_hand.contains(&seen.name)
                || self.is_named(&seen.name)
        };
        let strangers = self.seen.iter().filter(|seen| !is_known(seen));
        strangers.map(|seen| Step::Remove(seen.name.clone())).collect()
    }

    /// Containers in this engine of a node that is given up: nobody else takes them away.
    fn left_behind(&self) -> Vec<Step> {
        let is_left = |of: &&Neighbour| {
            // A node that was never heard of is of another cluster of this name.
            self.silent.get(&of.node).is_some_and(|silent| *silent >= self.abandoned)
                && !self.is_named(&of.name)
        };
        let left = self.neighbours.iter().filter(is_left);
        left.map(|of| Step::Remove(of.name.clone())).collect()
    }

    /// Whether a Task has it.
    fn is_named(&self, container: &str) -> bool {
        let has = |row: &ContainerRow| matches!(&row.state, ContainerState::Running { name, .. } if name == container);
        self.rows.iter().any(has)
    }

    /// Whether a Task's container is there and takes a place of this pool.
    fn has_place(&self, row: &ContainerRow) -> bool {
        let ContainerState::Running { name, .. } = &row.state else { return false };
        self.seen.iter().any(|seen| seen.name == *name)
    }

    /// Wishes that count, the oldest first.
    fn wants(&self) -> Vec<&ContainerRow> {
        let fresh = |row: &&ContainerRow| {
            row.state == ContainerState::Wanted
                && self.now.since(row.asked_at) < WANT_STALE
                && !self.starting.contains(&row.task)
        };
        let mut wants: Vec<&ContainerRow> = self.rows.iter().filter(fresh).collect();
        wants.sort_by_key(|row| (row.since, row.task));
        wants
    }

    fn standing(&self, row: &ContainerRow) -> Standing {
        let task = row.task;
        match &row.state {
            // Its row says so in a moment.
            _ if self.starting.contains(&task) => Standing::Uses,
            ContainerState::Wanted if self.now.since(row.asked_at) >= WANT_STALE * 2 => {
                Standing::Needs(Step::Drop(task))
            }
            ContainerState::Failed { .. } if self.now.since(row.asked_at) >= FAILED_STALE => {
                Standing::Needs(Step::Drop(task))
            }
            ContainerState::Wanted | ContainerState::Failed { .. } => Standing::Other,
            ContainerState::Starting { node } if node == self.node => {
                Standing::Needs(Step::Reset(task))
            }
            ContainerState::Running { node, name, .. } if node == self.node => {
                self.running(row, name)
            }
            state => self.foreign(row, state),
        }
    }

    fn running(&self, row: &ContainerRow, name: &str) -> Standing {
        let lives = self.seen.iter().any(|seen| seen.name == name && seen.running);
        if !lives {
            // Its engine says why when it is taken away.
            let gone = Gone::failed(ErrorType::ContainerError, "");
            return Standing::Needs(Step::Retire(row.task, gone));
        }
        let health = self.health.get(&row.task).copied().unwrap_or_default();
        let away_max = if health.worked { AWAY_MAX } else { AWAITED };
        let is_deaf = health.idle.is_some() && health.away >= away_max;
        if is_deaf || health.unanswered >= UNANSWERED_MAX {
            let gone = Gone::lost("the container does not answer: retry it, and it gets a new one");
            return Standing::Needs(Step::Retire(row.task, gone));
        }
        let is_awaited = !health.worked && self.now.since(row.asked_at) < AWAITED;
        match health.idle {
            None => Standing::Uses,
            Some(_) if is_awaited => Standing::Uses,
            Some(idle) if !row.keep && idle >= self.idle_max => {
                Standing::Needs(Step::Evict(row.task))
            }
            Some(idle) => Standing::Idles(idle),
        }
    }

    /// A container of another node's pool.
    fn foreign(&self, row: &ContainerRow, state: &ContainerState) -> Standing {
        let Some(node) = state.node() else { return Standing::Other };
        let silent = self.silent.get(node).copied().unwrap_or(Duration::MAX);
        if silent < self.abandoned {
            return Standing::Other;
        }
        if matches!(state, ContainerState::Starting { .. }) {
            return Standing::Needs(Step::Reset(row.task));
        }
        // Who cannot be asked may well work.
        let health = self.health.get(&row.task).copied().unwrap_or_default();
        if health.away >= AWAY_MIN {
            let text = format!("the node {node}, where its container was, is gone");
            return Standing::Needs(Step::Retire(row.task, Gone::anew(text)));
        }
        match health.idle {
            // It works on without its node, and nobody else would end it.
            Some(idle) if !row.keep && idle >= self.idle_max => {
                Standing::Needs(Step::Evict(row.task))
            }
            _ => Standing::Other,
        }
    }
}

/// What a row means to this pool.
enum Standing {
    /// Nothing, now.
    Other,
    /// It takes one of our places.
    Uses,
    /// The same, for so long without work.
    Idles(Duration),
    /// Something is to be done.
    Needs(Step),
}

fn longest(of: &[(Duration, TaskId)]) -> Option<usize> {
    (0..of.len()).max_by_key(|at| of[*at].0)
}

#[cfg(test)]
mod tests;
