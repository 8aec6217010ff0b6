//! A node leaves while model calls are under way on it that take long.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use troupe_testkit::{client::fold::Event, try_until};

use crate::{
    load::{person::Person, step_of},
    stage::{Set, Stage},
};

/// A step that is over within this is waited for; a longer one is interrupted and goes on.
const STEP_MAX: Duration = Duration::from_secs(45);
/// Steps of each length: about a third of them on the node that leaves.
const STEPS: u64 = 9;
/// A node that leaves waits for steps, hands over and ends within this.
const LEAVES: Duration = Duration::from_secs(120);

/// A Task with one step.
struct Long {
    task: String,
    span: Duration,
    /// Whether it was on the node when that was told to leave.
    is_there: bool,
}

pub(super) async fn long_steps(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let spans = match stage.set {
        Set::Ci => [10, 20],
        Set::Full => [35, 90],
    };
    let mut steps = begin(stage, &spans.map(Duration::from_secs)).await?;
    let all: Vec<String> = steps.iter().map(|step| step.task.clone()).collect();
    let there = stage.tasks_on(node, &all).await?;
    steps.iter_mut().for_each(|step| step.is_there = there.contains(&step.task));
    stage.note(format!("{} leaves, with {} long steps on it", stage.node_name(node), there.len()));
    let began = Instant::now();
    stage.cluster.nodes[node].terminate().await?;
    stage.took("left", began.elapsed(), LEAVES);
    stage.cluster.nodes[node].start().await?;
    judge(stage, &steps).await
}

/// All of them stream when it returns.
async fn begin(stage: &mut Stage, spans: &[Duration]) -> Result<Vec<Long>> {
    let mut making = JoinSet::new();
    for (n, span) in (0..).zip(spans.iter().flat_map(|span| (0..STEPS).map(|_| *span))) {
        let rng = StdRng::seed_from_u64(stage.began.wrapping_add(n));
        let mut person = Person::new(20_000 + n, stage.load.around.clone(), rng);
        making.spawn(async move {
            let task = person.create("probe", &step_of(span)).await?;
            Some(Long { task, span, is_there: false })
        });
    }
    let made: Option<Vec<Long>> = making.join_all().await.into_iter().collect();
    let steps = made.context("a task could not be made")?;
    let rest = stage.any_rest()?;
    for step in &steps {
        let streams = try_until(Duration::from_secs(20), async || {
            let frames = rest.frames(&stage.admin, &step.task, 0).await.unwrap_or_default();
            frames.iter().any(|frame| frame.name == "chat:chunk")
        });
        ensure!(streams.await, "{} does not stream", step.task);
    }
    Ok(steps)
}

async fn judge(stage: &mut Stage, steps: &[Long]) -> Result<()> {
    let (mut broken, mut went_on, mut kept) = (Vec::new(), 0, 0);
    for step in steps {
        let frames = ended(stage, step).await?;
        let attempts = frames.iter().filter(|frame| frame.name == "chat:start").count();
        let done = frames.iter().filter(|frame| frame.name == "chat:done").count();
        let may_be_interrupted = step.is_there && step.span > STEP_MAX;
        match (attempts, done) {
            (1, 1) if !may_be_interrupted => kept += 1,
            (2, 1) if may_be_interrupted => went_on += 1,
            _ => broken.push(format!("{} ({:?}: {attempts} attempts)", step.task, step.span)),
        }
        stage.load.around.board.finished(&step.task);
    }
    let spans: BTreeSet<Duration> = steps.iter().map(|step| step.span).collect();
    let text = format!(
        "of steps of {spans:?}, {kept} were left alone, {went_on} over {STEP_MAX:?} went on elsewhere"
    );
    stage.figure(text, Some(broken.is_empty()));
    if !broken.is_empty() {
        stage.figure(format!("not as they should be: {}", broken.join(", ")), Some(false));
    }
    Ok(())
}

/// The log of a step that is over.
async fn ended(stage: &Stage, step: &Long) -> Result<Vec<Event>> {
    let mut frames = Vec::new();
    // Begun again from the start, and the load beside it.
    let over = try_until(2 * step.span + Duration::from_secs(60), async || {
        let Ok(rest) = stage.any_rest() else { return false };
        let read = rest.frames(&stage.admin, &step.task, 0).await;
        frames = read.unwrap_or_default();
        frames.iter().any(|frame| frame.name == "chat:done")
    });
    ensure!(over.await, "{} does not end", step.task);
    Ok(frames)
}
