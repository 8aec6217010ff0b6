//! The checks that close a scenario, and the last ones that close a run.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;
use troupe_testkit::client::{
    fold::Fold,
    rest::{Person as Account, Rest},
    tasks::compare,
};

use super::{Figure, GROWTH_KIB_MAX, Stage};
use crate::{
    check::{
        Invariant, Logs, TaskLog, Violation, acked, bounds, converge, epochs, fence, isolation,
        orphans, stream as streams, terminal,
    },
    cluster::SHARDS,
    history::{Record, What},
};

/// After the last fault.
const CONVERGE: Duration = Duration::from_secs(30);
/// Logs that are read at once.
const READS: usize = 4;
/// Tries to read one log.
const TRIES: u32 = 5;
/// Between two looks at what runs.
const MOVE: Duration = Duration::from_secs(3);

impl Stage {
    /// Heals everything, waits until all goes on, checks what can be checked while people work.
    pub(crate) async fn close(&mut self) -> Result<()> {
        self.cluster.heal().await?;
        self.cluster.raise().await?;
        self.note("healed");
        match self.cluster.converged(CONVERGE).await {
            Ok(converged) => {
                self.took("all owned again after healing", converged.took, CONVERGE);
                let running = self.look_at_running().await;
                let (before, after) = (&converged.earlier, &converged.leases);
                self.keep(converge::check(before, after, &converged.shards, SHARDS, &running));
            }
            Err(error) => self.violates(Invariant::I6, format!("{}: {error:#}", self.name)),
        }
        let records = self.history.records()?;
        let growth = bounds::growth(records.iter().map(AsRef::as_ref), self.began..u64::MAX);
        self.keep(bounds::check(&growth, GROWTH_KIB_MAX, ""));
        self.check_store().await?;
        self.check_logs(false).await?;
        let given_up = self.load.around.board.take_given_up();
        let given_up = given_up.into_iter().map(|what| Violation::new(Invariant::I6, what));
        self.keep(given_up.collect());
        Ok(())
    }

    /// I6 for Tasks: each moves, or says why it does not.
    async fn look_at_running(&mut self) -> Vec<converge::Running> {
        let board = Arc::clone(&self.load.around.board);
        let open = board.unfinished();
        let before: Vec<u64> = open.iter().map(|(task, _)| board.seen(task)).collect();
        self.cluster.watch(MOVE).await;
        let mut all = Vec::new();
        for ((task, _), head_before) in open.into_iter().zip(before) {
            let head_after = board.seen(&task);
            let (status, why) = if head_after == head_before {
                self.ask_why(&task).await
            } else {
                (Some("RUNNING".to_owned()), None)
            };
            all.push(converge::Running { task, status, head_before, head_after, why });
        }
        all
    }

    async fn ask_why(&self, task: &str) -> (Option<String>, Option<String>) {
        for _ in 0..TRIES {
            let Ok(rest) = self.any_rest() else { continue };
            let path = format!("/api/v1/tasks/{task}/why");
            let answer = rest.call("GET", &path, Some(&self.admin), None).await;
            if let Ok(answer) = answer.as_ref()
                && answer.status == 200
            {
                let text = |field: &str| answer.body[field].as_str().map(str::to_owned);
                return (text("status"), text("summary"));
            }
            sleep(Duration::from_millis(300)).await;
        }
        (None, None)
    }

    pub(crate) fn any_rest(&self) -> Result<Rest> {
        // Not the scenario's own chance: how often this is asked differs from run to run.
        let mut rng = StdRng::seed_from_u64(self.history.now());
        let (_, url) = self.cluster.roster.pick(&mut rng, &[]);
        Ok(Rest::new(&url)?.patient(Duration::from_secs(15)))
    }

    /// I1, I2, I3 by the rows.
    async fn check_store(&mut self) -> Result<()> {
        let log = self.cluster.witness().await?.shard_log().await?;
        self.cluster.look().await?;
        let found = epochs::check(&self.cluster.looks, &log);
        self.keep(found);
        // Looks are kept from here on only: what was checked need not be checked again.
        let last = self.cluster.looks.pop();
        self.cluster.looks = last.into_iter().collect();
        let now = self.cluster.witness().await?.journals().await?;
        let found = fence::check(&self.cluster.journals, &now);
        self.keep(found);
        self.cluster.journals = now;
        Ok(())
    }

    /// I4, I5, I9, I10 of finished Tasks; `all` at the end.
    async fn check_logs(&mut self, all: bool) -> Result<()> {
        let board = Arc::clone(&self.load.around.board);
        let mut tasks = if all { board.names() } else { board.to_check() };
        if all {
            tasks.extend(self.probes.iter().map(|probe| probe.task.clone()));
            tasks.append(&mut self.others);
        }
        let rests = (0..READS).map(|_| self.any_rest()).collect::<Result<Vec<_>>>()?;
        let read = |(n, task): (usize, String)| {
            let (rest, who) = (&rests[n % READS], &self.admin);
            async move { (read_log(rest, who, &task).await, task) }
        };
        let reading = stream::iter(tasks.into_iter().enumerate()).map(read);
        let read: Vec<_> = reading.buffer_unordered(READS).collect().await;
        let mut logs = Logs::new();
        for (log, task) in read {
            match log {
                Ok((log, fault)) => {
                    if let Some(fault) = fault {
                        self.violates(Invariant::I5, format!("{task}: {fault}"));
                    }
                    logs.insert(task, log);
                }
                Err(error) if all => {
                    self.violates(Invariant::I6, format!("{task} cannot be read: {error:#}"));
                }
                Err(error) => self.note(format!("{task} is read later: {error:#}")),
            }
        }
        if !all {
            // What a viewer is still on its way through is looked at in the next scenario.
            logs.retain(|task, log| board.caught_up(task, log.head()));
        }
        self.judge_logs(&logs, all)
    }

    fn judge_logs(&mut self, logs: &Logs, all: bool) -> Result<()> {
        let records = self.history.records()?;
        let every = || records.iter().map(AsRef::as_ref);
        let of_logs = every().filter(|record| match &record.what {
            What::Opened { task, .. }
            | What::Jumped { task, .. }
            | What::Shown { task, .. }
            | What::Closed { task, .. } => logs.contains_key(task),
            _ => false,
        });
        let mut found = acked::check(every(), logs, |task| all || logs.contains_key(task));
        found.extend(streams::check(of_logs, logs, |_| true));
        found.extend(terminal::check(logs));
        found.extend(isolation::check(every(), usize::from(all)));
        found.extend(wrong_answers(every()));
        self.keep(found);
        for (task, log) in logs {
            self.load.around.board.checked(task, log.head());
        }
        self.note(format!("{} logs of tasks were checked", logs.len()));
        Ok(())
    }

    /// Lets all come to rest and checks everything once more, then ends it.
    pub(crate) async fn finish(mut self) -> Result<(Vec<Figure>, Vec<Violation>)> {
        let rng = StdRng::seed_from_u64(self.plan.seed);
        self.begin("the end", rng).await?;
        if let Err(error) = self.load.settle().await {
            self.violates(Invariant::I6, format!("{error:#}"));
        }
        self.check_store().await?;
        self.check_logs(true).await?;
        self.ask_the_doctor().await;
        let model_calls = self.cluster.model.active();
        let calls = self.cluster.tools.calls();
        let counted = calls.into_iter().filter(|call| call.tool == "count");
        let effects: Vec<_> = counted.map(|call| call.idempotency_key).collect();
        self.figure(
            format!("{} effects of tools, each under a key of its own", effects.len()),
            None,
        );
        let Self { cluster, load, figures, mut violations, .. } = self;
        load.stop().await;
        let processes = cluster.end().await?;
        violations.extend(orphans::check(&orphans::Leftovers { processes, model_calls, effects }));
        Ok((figures, violations))
    }
}

/// A client whose key is good and whose Task is there is never told otherwise.
fn wrong_answers<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Violation> {
    let told = records.into_iter().filter_map(|record| match &record.what {
        What::Refused { key, node, status: status @ (401 | 403 | 404), code } => {
            Some(format!("{node} refused {key} with {status} {code}"))
        }
        _ => None,
    });
    told.map(|what| Violation::new(Invariant::I4, what)).collect()
}

/// The log, and where its fold is not what the owner tells.
async fn read_log(rest: &Rest, who: &Account, task: &str) -> Result<(TaskLog, Option<String>)> {
    let mut tried = 0;
    loop {
        let read = async {
            let (head, turns) = rest.turns(who, task).await?;
            let frames = rest.frames(who, task, 0).await?;
            anyhow::Ok((head, turns, frames))
        };
        match read.await {
            Ok((head, turns, frames)) => {
                let fault = compare(task, head, &turns, &frames).err();
                let fold = Fold::of(&frames);
                let queue = fold.queue.as_array().into_iter().flatten();
                let key =
                    |row: &serde_json::Value| row["client_message_id"].as_str().map(str::to_owned);
                let queued = queue.filter_map(key).collect();
                return Ok((TaskLog { frames, queued }, fault.map(|error| format!("{error:#}"))));
            }
            Err(error) if tried >= TRIES => return Err(error).context("read a log"),
            Err(_) => {
                tried += 1;
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
