//! The loop of a pool: looks, does what the plan says, looks again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use troupe_domain::device::Gone;
use troupe_entities::device::container::{self, ContainerRow, ContainerState, Containers, PoolRow};
use troupe_services::devices::{Authority, EdgePoint};
use troupe_store::{Directory, DirectoryRow};
use troupe_types::{Clock, MonoTime, TaskId};

use crate::{
    engine::{Engine, Waiting},
    plan::{Health, Step, View},
    watch::Watch,
    work::{self, Done, Job},
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How often a pool says that it is there.
const ANNOUNCE: Duration = Duration::from_secs(30);
/// A pool that has said nothing for longer is asked after: its containers may be left.
const OVERDUE: Duration = Duration::from_secs(40);
/// After a container that was to wait did not start.
const WARM_AGAIN: Duration = Duration::from_secs(15);

/// What a pool is told.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Its node.
    pub node: String,
    /// The image of its containers.
    pub image: String,
    /// Other images that Shells may name.
    pub images: Vec<String>,
    /// Containers at once.
    pub max: usize,
    /// Those that wait for a Task, started before one comes.
    pub warm: usize,
    /// How long one is kept after a turn, for the next.
    pub idle: Duration,
    /// A node is given up whose pool has been silent for so long.
    pub abandoned: Duration,
    /// Where containers dial.
    pub edge: EdgePoint,
}

/// A node's containers.
#[derive(Debug)]
pub struct Pool {
    work: Arc<work::Parts>,
    jobs: JoinSet<Done>,
    warm: Vec<Waiting>,
    in_hand: BTreeSet<String>,
    /// What the engine did not take away, tried again at each look.
    stuck: BTreeSet<String>,
    warming: usize,
    warm_after: Option<MonoTime>,
    starting: BTreeSet<TaskId>,
    going: BTreeSet<TaskId>,
    watch: Watch,
    announced: Option<MonoTime>,
}

impl Pool {
    /// A pool over an engine whose network is open.
    #[must_use]
    pub fn new(
        options: PoolOptions,
        engine: Engine,
        directory: Arc<dyn Directory>,
        authority: Arc<Authority>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            work: Arc::new(work::Parts { options, engine, directory, authority, clock }),
            jobs: JoinSet::new(),
            warm: Vec::new(),
            in_hand: BTreeSet::new(),
            stuck: BTreeSet::new(),
            warming: 0,
            warm_after: None,
            starting: BTreeSet::new(),
            going: BTreeSet::new(),
            watch: Watch::default(),
            announced: None,
        }
    }

    /// Until it is dropped.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the containers were not looked at");
            }
            let pause = sleep(LOOK);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                        match done {
                            Ok(done) => self.done(done),
                            Err(error) => tracing::error!(%error, "a job of the pool failed"),
                        }
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let directory = Arc::clone(&self.work.directory);
        let all = Containers::read(directory.as_ref()).await.map_err(|e| e.to_string())?;
        self.announce(&all).await?;
        let (seen, neighbours) = self.work.engine.list().await.map_err(|e| e.to_string())?;
        // What waited and ended waits no more.
        self.warm.retain(|waiting| seen.iter().all(|s| s.name != waiting.name || s.running));
        let said = all.pools.iter().map(|(row, pool)| (pool.node.as_str(), row.version));
        let silent = self.watch.look(self.work.clock.mono(), said);
        let health = self.health(&all, &silent).await;
        let now = self.work.clock.now();
        let rows: Vec<ContainerRow> = all.tasks.iter().map(|(_, row)| row.clone()).collect();
        let warm: Vec<String> = self.warm.iter().map(|waiting| waiting.name.clone()).collect();
        self.stuck.retain(|name| {
            seen.iter().any(|seen| seen.name == *name)
                || neighbours.iter().any(|neighbour| neighbour.name == *name)
        });
        let stuck: Vec<String> = self.stuck.iter().cloned().collect();
        let in_hand: Vec<String> = self.in_hand.iter().cloned().collect();
        let starting: Vec<TaskId> = self.starting.iter().copied().collect();
        let options = &self.work.options;
        let pauses = self.warm_after.is_some_and(|after| self.work.clock.mono() < after);
        let view = View {
            node: &options.node,
            max: options.max,
            warm_wanted: if pauses { 0 } else { options.warm },
            idle_max: options.idle,
            now,
            rows: &rows,
            silent: &silent,
            abandoned: options.abandoned,
            elsewhere: elsewhere(&all, &silent, &options.node),
            seen: &seen,
            neighbours: &neighbours,
            stuck: &stuck,
            warm: &warm,
            in_hand: &in_hand,
            warming: self.warming,
            starting: &starting,
            health: &health,
        };
        for step in view.steps() {
            // The plan took its place for free. It does not at the next look.
            let waits = matches!(step, Step::Start(..) | Step::Warm);
            if waits && self.stuck.len() > stuck.len() {
                continue;
            }
            self.step(step, &all.tasks).await?;
        }
        Ok(())
    }

    /// One that cannot be removed must not keep the pool from the others.
    async fn remove(&mut self, name: String) {
        match self.work.engine.remove(&name).await {
            Ok(()) => {
                if self.stuck.remove(&name) {
                    tracing::info!(container = %name, "the container is removed after all");
                }
            }
            Err(error) if self.stuck.contains(&name) => {
                tracing::debug!(container = %name, %error, "a container is still not removed");
            }
            Err(error) => {
                tracing::warn!(container = %name, %error, "a container cannot be removed: it is tried again");
                self.stuck.insert(name);
            }
        }
    }

    async fn announce(&mut self, all: &Containers) -> Result<(), String> {
        let now = self.work.clock.mono();
        if self.announced.is_some_and(|at| now.since(at) < ANNOUNCE) {
            return Ok(());
        }
        let options = &self.work.options;
        let pool = PoolRow {
            v: 1,
            node: options.node.clone(),
            max: u32::try_from(options.max).unwrap_or(u32::MAX),
            at: self.work.clock.now(),
        };
        let old = all.pools.iter().find(|(_, pool)| pool.node == options.node);
        let old = old.map(|(row, _)| row);
        let said = container::announce(self.work.directory.as_ref(), old, &pool).await;
        // Changed by another process of this name: said again at the next look.
        if said.map_err(|error| error.to_string())? {
            self.announced = Some(now);
        }
        Ok(())
    }

    /// How the containers of this pool do, and those that others may have left.
    async fn health(
        &mut self,
        all: &Containers,
        silent: &BTreeMap<String, Duration>,
    ) -> BTreeMap<TaskId, Health> {
        let mut asking = JoinSet::new();
        for (_, row) in &all.tasks {
            let ContainerState::Running { node, device, .. } = &row.state else { continue };
            let is_looked_after = silent.get(node).is_some_and(|silent| *silent < OVERDUE);
            if *node != self.work.options.node && is_looked_after {
                continue;
            }
            let device = *device;
            let (task, work) = (row.task, Arc::clone(&self.work));
            asking.spawn(async move { (task, work.authority.idleness(device).await) });
        }
        let now = self.work.clock.mono();
        let mut health = BTreeMap::new();
        while let Some(answered) = asking.join_next().await {
            let Ok((task, said)) = answered else { continue };
            // A device that nobody knows has nothing to do.
            let said = said.ok().map(Option::unwrap_or_default);
            health.insert(task, self.watch.heard(task, now, said));
        }
        self.watch.retain(|task| all.tasks.iter().any(|(_, row)| row.task == *task));
        health
    }

    async fn step(
        &mut self,
        step: Step,
        rows: &[(DirectoryRow, ContainerRow)],
    ) -> Result<(), String> {
        let row = |task: TaskId| rows.iter().find(|(_, row)| row.task == task).cloned();
        let work = Arc::clone(&self.work);
        let directory = work.directory.as_ref();
        match step {
            Step::Start(task, ready) => {
                let Some((old, row)) = row(task) else { return Ok(()) };
                let state = ContainerState::Starting { node: work.options.node.clone() };
                let claimed = ContainerRow { state, ..row.clone() };
                let ours = container::change(directory, &old, &claimed).await;
                if !ours.map_err(|error| error.to_string())? {
                    return Ok(());
                }
                let waiting = ready.and_then(|name| {
                    let at = self.warm.iter().position(|waiting| waiting.name == name)?;
                    Some(self.warm.swap_remove(at))
                });
                let name =
                    waiting.as_ref().map_or_else(work::fresh_name, |waiting| waiting.name.clone());
                self.starting.insert(task);
                self.in_hand.insert(name.clone());
                self.begin(Job::Give { row, name, waiting });
            }
            Step::Warm => {
                let name = work::fresh_name();
                self.warming += 1;
                self.in_hand.insert(name.clone());
                self.begin(Job::Warm { name });
            }
            Step::Remove(name) => {
                self.warm.retain(|waiting| waiting.name != name);
                self.remove(name).await;
            }
            Step::Retire(task, gone) => self.end(row(task), Some(gone)),
            Step::Evict(task) => self.end(row(task), None),
            Step::Reset(task) => {
                let Some((old, row)) = row(task) else { return Ok(()) };
                // Its Task did not say so again meanwhile, and keeps its place in the queue.
                let asked_at = work.clock.now();
                let again = ContainerRow { state: ContainerState::Wanted, asked_at, ..row };
                let reset = container::change(directory, &old, &again).await;
                reset.map_err(|error| error.to_string())?;
            }
            Step::Drop(task) => {
                let Some((old, _)) = row(task) else { return Ok(()) };
                container::remove(directory, &old).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// `gone`: it goes, for this reason; `None`: only if it idles.
    fn end(&mut self, row: Option<(DirectoryRow, ContainerRow)>, gone: Option<Gone>) {
        let Some((_, row)) = row else { return };
        if self.going.insert(row.task) {
            self.begin(Job::End { row, gone });
        }
    }

    fn begin(&mut self, job: Job) {
        let work = Arc::clone(&self.work);
        self.jobs.spawn(async move { work.run(job).await });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Given { task, name } => {
                self.starting.remove(&task);
                self.in_hand.remove(&name);
                self.watch.forget(task);
            }
            Done::Warm { name, started } => {
                self.warming = self.warming.saturating_sub(1);
                self.in_hand.remove(&name);
                match started {
                    Ok(waiting) => {
                        tracing::info!(container = %name, "a container waits for a Task");
                        self.warm_after = None;
                        self.warm.push(waiting);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no container waits for a Task");
                        let now = self.work.clock.mono();
                        self.warm_after = Some(now.plus(WARM_AGAIN));
                    }
                }
            }
            Done::Ended { task } => {
                self.going.remove(&task);
            }
        }
    }
}

/// Free places of the pools that are there, but this one's.
fn elsewhere(all: &Containers, silent: &BTreeMap<String, Duration>, here: &str) -> usize {
    let is_there = |node: &str| silent.get(node).is_some_and(|silent| *silent < OVERDUE);
    let others = all.pools.iter().map(|(_, pool)| pool);
    let others = others.filter(|pool| pool.node != here && is_there(&pool.node));
    let free = others.map(|pool| {
        let has = |row: &ContainerRow| row.state.node().is_some_and(|node| node == pool.node);
        let used = all.tasks.iter().filter(|(_, row)| has(row)).count();
        usize::try_from(pool.max).unwrap_or(usize::MAX).saturating_sub(used)
    });
    free.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests;
