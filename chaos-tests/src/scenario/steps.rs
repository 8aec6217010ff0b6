//! A node leaves while model calls are under way on it that take long.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use troupe_testkit::{client::fold::Event, try_until};
use troupe_types::Timestamp;

use crate::{
    load::{person::Person, step_of},
    stage::{Set, Stage},
};

/// A step that is over within this is waited for; a longer one is interrupted and goes on.
const STEP_MAX: Duration = Duration::from_secs(45);
/// Steps of each length: about a third of them on the node that leaves.
const STEPS: u64 = 9;
/// One that was interrupted is begun again within this.
const GOES_ON: Duration = Duration::from_secs(10);
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
    let mut pause = Duration::ZERO;
    for step in steps {
        let frames = ended(stage, step).await?;
        let long = step.span > STEP_MAX;
        match interruption(&frames)? {
            None if !(long && step.is_there) => kept += 1,
            Some(lasted) if long => {
                went_on += 1;
                pause = pause.max(lasted);
            }
            found => {
                let how = if found.is_some() { "interrupted" } else { "not interrupted" };
                broken.push(format!("{} of {:?} was {how}", step.task, step.span));
            }
        }
        stage.load.around.board.finished(&step.task);
    }
    let text = format!("{kept} steps ended as they were, {went_on} of over {STEP_MAX:?} went on");
    stage.figure(text, Some(broken.is_empty()));
    if went_on > 0 {
        stage.took("longest time from an interruption to going on", pause, GOES_ON);
    }
    if !broken.is_empty() {
        stage.figure(broken.join(", "), Some(false));
    }
    Ok(())
}

/// How long it took until a step that was thrown away was begun again; `None`: none was. A step
/// that ended may have been followed by another attempt, which keeps all of it.
fn interruption(frames: &[Event]) -> Result<Option<Duration>> {
    let at = |frame: &Event| -> Result<i64> {
        let at: Timestamp = serde_json::from_value(frame.data["at"].clone())?;
        Ok(at.as_millis())
    };
    let mut longest = None;
    for start in frames.iter().filter(|frame| frame.name == "chat:start") {
        let keeps = start.data["keeps"].as_u64().context("a start that keeps nothing known")?;
        let lost = |frame: &&Event| {
            frame.name == "chat:chunk" && frame.seq > keeps && frame.seq < start.seq
        };
        let Some(last) = frames.iter().rfind(lost) else { continue };
        let lasted = u64::try_from(at(start)? - at(last)?).unwrap_or_default();
        longest = longest.max(Some(Duration::from_millis(lasted)));
    }
    Ok(longest)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_interruption_is_told_from_an_attempt_that_keeps_all() {
        let event = |name: &str, data| Event::new(name, data).unwrap();
        let at = |second: u32| format!("2026-01-01T00:00:{second:02}.000Z");
        let start = |seq: u64, keeps: u64, second| {
            event("chat:start", json!({"seq": seq, "keeps": keeps, "at": at(second)}))
        };
        let chunk = |seq: u64, second| event("chat:chunk", json!({"seq": seq, "at": at(second)}));
        let mut frames = vec![start(1, 0, 0), chunk(2, 1), chunk(3, 2)];
        assert_eq!(interruption(&frames).unwrap(), None);
        frames.push(start(4, 3, 5));
        assert_eq!(interruption(&frames).unwrap(), None, "it keeps all");
        frames.extend([chunk(5, 7), start(6, 3, 9)]);
        assert_eq!(interruption(&frames).unwrap(), Some(Duration::from_secs(2)));
    }
}
