//! Tasks that only serve to ask when their owner answers again.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use troupe_types::{EntityId, TaskId};

use super::Stage;
use crate::{
    load::{
        QUICK,
        person::{Command, Person},
    },
    node::Node,
};

/// Probes over all nodes: about six for each.
const PROBES: u64 = 18;
/// Probes of one measurement.
const ASKED: usize = 6;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) task: String,
    pub(crate) shard: u16,
}

/// Probes that ask until they are answered.
#[derive(Debug)]
pub(crate) struct Asking {
    /// How long each took, and in which shard it is.
    running: JoinSet<Option<(Duration, u16)>>,
    count: usize,
}

fn shard_of(task: &str) -> Result<u16> {
    let id: TaskId = task.parse().ok().context("an id of a task")?;
    Ok(EntityId::from(id).shard().0)
}

impl Stage {
    pub(super) async fn make_probes(&mut self) -> Result<()> {
        let mut running = JoinSet::new();
        for n in 0..PROBES {
            let rng = StdRng::seed_from_u64(self.plan.seed.wrapping_mul(31).wrapping_add(n));
            let mut person = Person::new(1_000 + n, self.load.around.clone(), rng);
            running.spawn(async move {
                let ack = person.command(&Command::create("probe", QUICK)).await?;
                ack["task_id"].as_str().map(str::to_owned)
            });
        }
        for task in running.join_all().await {
            let task = task.context("a probe could not be made")?;
            let shard = shard_of(&task)?;
            self.probes.push(Probe { task, shard });
        }
        Ok(())
    }

    /// Probes that a node owns now.
    pub(crate) async fn probes_of(&mut self, node: usize) -> Result<Vec<Probe>> {
        let shards = self.shards_of(node).await?;
        let owned = self.probes.iter().filter(|probe| shards.contains(&probe.shard));
        Ok(owned.take(ASKED).cloned().collect())
    }

    /// Which of these Tasks a node owns now.
    pub(crate) async fn tasks_on(
        &mut self,
        node: usize,
        tasks: &[String],
    ) -> Result<BTreeSet<String>> {
        let shards = self.shards_of(node).await?;
        let mut on = BTreeSet::new();
        for task in tasks {
            if shards.contains(&shard_of(task)?) {
                on.insert(task.clone());
            }
        }
        Ok(on)
    }

    async fn shards_of(&mut self, node: usize) -> Result<BTreeSet<u16>> {
        let name = self.node_name(node);
        let grants = self.cluster.look().await?.into_iter();
        let owned = grants.filter(|grant| grant.owner == name);
        Ok(owned.filter_map(|grant| u16::try_from(grant.shard).ok()).collect())
    }

    pub(crate) fn node_name(&self, node: usize) -> String {
        self.cluster.nodes.get(node).map(Node::name).unwrap_or_default().to_owned()
    }

    /// Asks each probe, never through the node `not`, until somebody acknowledges.
    pub(crate) fn ask(&self, probes: &[Probe], not: usize) -> Asking {
        let mut running = JoinSet::new();
        let began = Instant::now();
        for (n, probe) in (0..).zip(probes) {
            let rng = StdRng::seed_from_u64(self.began.wrapping_add(n));
            let mut person = Person::new(2_000 + n, self.load.around.clone(), rng);
            person.shun(&self.node_name(not));
            let command = Command::say(&probe.task, QUICK);
            let shard = probe.shard;
            running.spawn(async move {
                person.command(&command).await.map(|_| (began.elapsed(), shard))
            });
        }
        Asking { running, count: probes.len() }
    }

    /// Waits for the answers; the figure is what 95 of 100 waited at most, and the longest.
    pub(crate) async fn answered(&mut self, what: &str, asking: Asking, most: Duration) {
        let count = asking.count;
        let mut times: Vec<(Duration, u16)> =
            asking.running.join_all().await.into_iter().flatten().collect();
        times.sort();
        let each = times.iter().map(|(took, shard)| format!("{shard}: {:.1}", took.as_secs_f64()));
        self.note(format!("seconds by shard: {}", each.collect::<Vec<_>>().join(", ")));
        if times.len() < count || count == 0 {
            self.figure(format!("{what}: {} of {count} answered", times.len()), Some(count == 0));
            return;
        }
        let at = |share: usize| times[(count * share).div_ceil(100).max(1) - 1].0.as_secs_f64();
        let most = most.as_secs_f64();
        let (p50, p95, longest) = (at(50), at(95), at(100));
        let text = format!(
            "{what}: {count} tasks, p50 {p50:.1} s, p95 {p95:.1} s, longest {longest:.1} s \
             (at most {most:.0} s)"
        );
        self.figure(text, Some(p95 <= most));
    }
}
