//! From the network's return to the next frame that a viewer is shown.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use tokio::{sync::watch, time::Instant};
use troupe_testkit::try_until;

use crate::{
    node::{PATIENCE, Person, Rest},
    viewer::{Habit, Viewer},
};

/// What all but one of twenty times must stay below, restarts of the node left out.
pub(super) const P95_MAX: Duration = Duration::from_secs(1);
/// The fault after which it is not the network alone that comes back.
pub(super) const KILL: &str = "kill -9 of the node";

/// Somebody who looks on, and how long each time took.
pub(super) struct Back {
    viewer: Viewer,
    url: watch::Sender<Option<String>>,
    took: BTreeMap<&'static str, Vec<Duration>>,
}

impl Back {
    pub(super) fn watch(node: &Rest, who: &Person, task: &str) -> Self {
        let (url, at) = watch::channel(Some(node.url.clone()));
        let viewer = Viewer::follow(at, &who.token, task, Habit::Resumes);
        Self { viewer, url, took: BTreeMap::new() }
    }

    /// The node is gone.
    pub(super) fn gone(&self) {
        self.url.send_replace(None);
    }

    /// Another process of it is there.
    pub(super) fn again(&self, node: &Rest) {
        self.url.send_replace(Some(node.url.clone()));
    }

    /// Waits for the next frame after a fault.
    pub(super) async fn streams(&mut self, fault: &'static str) -> Result<()> {
        let (begun, before) = (Instant::now(), self.viewer.last());
        let streams = try_until(PATIENCE, async || self.viewer.last() > before).await;
        let faults = self.viewer.faults();
        ensure!(streams && faults.is_empty(), "no frame after {before}: {faults:?}");
        self.took.entry(fault).or_default().push(begun.elapsed());
        Ok(())
    }

    /// Says what was measured; the 95th percentile of all faults of the network.
    pub(super) fn report(&self) -> Option<Duration> {
        let all = |of: &dyn Fn(&str) -> bool| {
            let some = self.took.iter().filter(|(fault, _)| of(fault));
            some.flat_map(|(_, took)| took.iter().copied()).collect::<Vec<_>>()
        };
        for fault in self.took.keys() {
            say(fault, all(&|other| other == *fault));
        }
        say("the network", all(&|fault| fault != KILL))
    }
}

/// Prints the spread of some times; their 95th percentile.
fn say(what: &str, mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    let at = |percent: usize| took.get((took.len() * percent).div_ceil(100).checked_sub(1)?);
    let [p50, p95, max] = [50, 95, 100].map(|percent| at(percent).copied());
    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
    let (count, p50, max) = (took.len(), seconds(p50), seconds(max));
    let told = seconds(p95);
    println!("{what:20} {count:4} times: p50 {p50:.2} s, p95 {told:.2} s, max {max:.2} s");
    p95
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_twenty_may_be_slow() {
        let took =
            |slow: u64| (1..=20).map(move |n| Duration::from_secs(if n <= slow { 9 } else { 1 }));
        assert_eq!(say("one", took(1).collect()), Some(Duration::from_secs(1)));
        assert_eq!(say("two", took(2).collect()), Some(Duration::from_secs(9)));
        assert_eq!(say("none", Vec::new()), None);
    }
}
