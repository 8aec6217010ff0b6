//! The rows of the failure matrix, each a function over a [`Stage`].

mod links;
mod load;
mod processes;
mod steps;
mod stores;

use anyhow::Result;
use futures::future::LocalBoxFuture;

use crate::stage::Stage;

/// A row.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Result<()>>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! scenarios {
    ($($name:literal, $about:literal, $run:path;)*) => {
        /// All of them, in the order in which `all` runs them.
        pub(crate) const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: $name,
            about: $about,
            run: |stage| Box::pin($run(stage)),
        },)*];
    };
}

scenarios! {
    "crash", "kill -9 of the process of a node; its launcher starts it again", processes::crash;
    "crash-launcher", "kill -9 of a launcher; its node leaves in order", processes::crash_launcher;
    "crash-both", "kill -9 of a node and its launcher: the host is lost", processes::crash_both;
    "pause", "SIGSTOP for less than a lease", processes::pause;
    "freeze", "SIGSTOP for 60 s under load; memory of the others is bounded", processes::freeze;
    "cut-nodes", "two nodes cannot reach each other, both reach the store", links::cut;
    "cut-one-way", "one node cannot send to another", links::cut_one_way;
    "loss", "packets between nodes and to the store are lost", links::loss;
    "weather", "datagrams between nodes are late, doubled, out of order", links::weather;
    "big-payload", "17 MiB to every port of a node", links::big_payload;
    "cut-store", "one node cannot reach the store", stores::cut_store;
    "slow-store", "answers of the store take 0.3 to 1.5 s", stores::slow;
    "very-slow-store", "answers of the store take over 2 s", stores::very_slow;
    "lost-answers", "writes take place, their answers are lost", stores::lost_answers;
    "store-down", "kill -9 of the store, started again later", stores::down;
    "redis-down", "kill -9 of Redis, started again later", stores::redis_down;
    "hot-task", "hundreds of messages to one Task at once", load::hot_task;
    "slow-viewer", "viewers that do not read", load::slow_viewers;
    "storm", "thousands of Tasks are activated at once", load::storm;
    "same-name", "a second process of the same name while the first is frozen", processes::same_name;
    "clock-jump", "the wall clock of a node jumps", processes::clock_jump;
    "rolling-restart", "every node is restarted in turn under load", processes::rolling_restart;
    "long-steps", "a node leaves while long model calls are under way on it", steps::long_steps;
    "crash-all", "kill -9 of all nodes at once", processes::crash_all;
}
