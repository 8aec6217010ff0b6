//! How long things have been as they are, on this process's own clock.
//!
//! Invariant: nothing counts as silent or away for a time in which this process did not look. A
//! store that said nothing, or a process that stood still, begins anew.

use std::{collections::BTreeMap, time::Duration};

use troupe_services::devices::Idleness;
use troupe_types::{MonoTime, TaskId};

use crate::plan::Health;

/// Between two looks; after a longer pause nobody knows what was in between.
const GAP_MAX: Duration = Duration::from_secs(30);

/// What a pool remembers from look to look.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    looked: Option<MonoTime>,
    /// The version of what a node's pool says, and since when it is that.
    pools: BTreeMap<String, (u64, MonoTime)>,
    tasks: BTreeMap<TaskId, Since>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Since {
    idle: Option<MonoTime>,
    away: Option<MonoTime>,
    unanswered: Option<MonoTime>,
}

impl Watch {
    /// A look begins: what the pools say now. Answers how long each has said nothing new.
    pub(crate) fn look<'a>(
        &mut self,
        now: MonoTime,
        pools: impl Iterator<Item = (&'a str, u64)>,
    ) -> BTreeMap<String, Duration> {
        if self.looked.is_some_and(|at| now.since(at) > GAP_MAX) {
            *self = Self::default();
        }
        self.looked = Some(now);
        let mut heard = BTreeMap::new();
        for (node, version) in pools {
            let known = self.pools.get(node).filter(|(of, _)| *of == version);
            heard.insert(node.to_owned(), known.copied().unwrap_or((version, now)));
        }
        self.pools = heard;
        self.pools.iter().map(|(node, (_, since))| (node.clone(), now.since(*since))).collect()
    }

    /// What the device in a Task's container says; `None`: it does not answer.
    pub(crate) fn heard(&mut self, task: TaskId, now: MonoTime, said: Option<Idleness>) -> Health {
        let since = self.tasks.entry(task).or_default();
        let keep = |at: &mut Option<MonoTime>, holds: bool| {
            *at = holds.then(|| at.unwrap_or(now));
            at.map(|at| now.since(at))
        };
        let unanswered = keep(&mut since.unanswered, said.is_none()).unwrap_or_default();
        // Who cannot be asked may well work.
        let idle = keep(&mut since.idle, said.is_some_and(|said| said.work == 0));
        let away = keep(&mut since.away, said.is_some_and(|said| !said.online));
        let worked = said.is_some_and(|said| said.worked);
        Health { idle, away: away.unwrap_or_default(), unanswered, worked }
    }

    /// A Task has another container.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// Only these have containers.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&TaskId) -> bool) {
        self.tasks.retain(|task, _| is_there(task));
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::Uuid;

    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn silent(watch: &mut Watch, seconds: u64, version: u64) -> u64 {
        watch.look(at(seconds), [("there", version)].into_iter())["there"].as_secs()
    }

    #[test]
    fn a_pool_is_silent_while_it_says_nothing_new_and_is_looked_at() {
        let mut watch = Watch::default();
        let said: Vec<u64> = [(1_000, 7), (1_020, 7), (1_040, 7), (1_050, 8), (1_060, 8)]
            .map(|(seconds, version)| silent(&mut watch, seconds, version))
            .into();
        assert_eq!(said, [0, 20, 40, 0, 10]);
        assert_eq!(silent(&mut watch, 2_000, 8), 0, "nobody looked meanwhile");
    }

    #[test]
    fn a_container_idles_from_its_last_work_on_and_is_away_from_its_last_link_on() {
        let task = TaskId::from_uuid(Uuid::nil());
        let mut watch = Watch::default();
        let mut heard = |seconds, said: Option<(bool, usize)>| {
            let said = said.map(|(online, work)| Idleness { online, work, worked: true });
            let health = watch.heard(task, at(seconds), said);
            let idle = health.idle.map(|idle| idle.as_secs());
            (idle, health.away.as_secs(), health.unanswered.as_secs())
        };
        assert_eq!(heard(1, Some((true, 0))), (Some(0), 0, 0));
        assert_eq!(heard(9, Some((true, 0))), (Some(8), 0, 0));
        assert_eq!(heard(10, Some((true, 1))), (None, 0, 0));
        assert_eq!(heard(12, Some((false, 1))), (None, 0, 0));
        assert_eq!(heard(15, Some((false, 0))), (Some(0), 3, 0));
        assert_eq!(heard(20, None), (None, 0, 0));
        assert_eq!(heard(27, None), (None, 0, 7));
        assert_eq!(heard(28, Some((true, 0))), (Some(0), 0, 0));
    }
}
