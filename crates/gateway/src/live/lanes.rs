//! Keeps the operations of one connection in order, a lane per Task, so that a slow Task does
//! not hold up the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use troupe_services::Problem;

use super::peer::Ack;

/// Operations of one connection that wait or run.
pub(super) const WAITING_MAX: usize = 64;

/// An operation that a client asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) payload: Result<Value, Problem>,
    pub(super) ack: Ack,
}

/// What became of a submitted job.
#[derive(Debug)]
pub(super) enum Submitted {
    /// The caller has to run this lane until it is empty.
    Run(String),
    /// Whoever runs its lane will come to it.
    Queued,
    /// Too many wait already.
    Refused(Job),
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    // A lane is here as long as somebody runs it.
    lanes: Mutex<(HashMap<String, VecDeque<Job>>, usize)>,
}

impl Lanes {
    pub(super) fn submit(&self, job: Job) -> Submitted {
        let mut guard = self.lock();
        let (lanes, waiting) = &mut *guard;
        if *waiting >= WAITING_MAX {
            return Submitted::Refused(job);
        }
        *waiting += 1;
        let lane = lane(&job);
        if let Some(queue) = lanes.get_mut(&lane) {
            queue.push_back(job);
            return Submitted::Queued;
        }
        lanes.insert(lane.clone(), VecDeque::from([job]));
        Submitted::Run(lane)
    }

    /// The next job of a lane that the caller runs; `None` ends the lane.
    pub(super) fn next(&self, lane: &str) -> Option<Job> {
        let mut guard = self.lock();
        let (lanes, waiting) = &mut *guard;
        match lanes.get_mut(lane).and_then(VecDeque::pop_front) {
            Some(job) => {
                *waiting = waiting.saturating_sub(1);
                Some(job)
            }
            None => {
                lanes.remove(lane);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, (HashMap<String, VecDeque<Job>>, usize)> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lane(job: &Job) -> String {
    let task = job.payload.as_ref().ok().and_then(|p| p.get("task_id")).and_then(Value::as_str);
    task.unwrap_or_default().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(task: &str, name: &str) -> Job {
        let payload = Ok(serde_json::json!({ "task_id": task }));
        Job { name: name.to_owned(), payload, ack: Ack::Stream { id: None } }
    }

    #[test]
    fn jobs_of_a_task_stay_in_order_and_others_do_not_wait_for_them() {
        let lanes = Lanes::default();
        let Submitted::Run(a) = lanes.submit(job("a", "1")) else { panic!("first of its lane") };
        assert!(matches!(lanes.submit(job("a", "2")), Submitted::Queued));
        let Submitted::Run(b) = lanes.submit(job("b", "3")) else { panic!("another lane") };
        assert_eq!(lanes.next(&a).unwrap().name, "1");
        assert!(matches!(lanes.submit(job("a", "4")), Submitted::Queued), "1 still runs");
        assert_eq!(lanes.next(&b).unwrap().name, "3");
        assert_eq!(lanes.next(&a).unwrap().name, "2");
        assert_eq!(lanes.next(&a).unwrap().name, "4");
        assert!(lanes.next(&a).is_none());
        assert!(matches!(lanes.submit(job("a", "5")), Submitted::Run(_)), "a new lane");
    }

    #[test]
    fn what_waits_is_bounded() {
        let lanes = Lanes::default();
        for i in 0..WAITING_MAX {
            assert!(!matches!(lanes.submit(job("a", &i.to_string())), Submitted::Refused(_)));
        }
        assert!(matches!(lanes.submit(job("b", "x")), Submitted::Refused(_)));
        lanes.next("a").unwrap();
        assert!(matches!(lanes.submit(job("b", "x")), Submitted::Run(_)));
    }
}
