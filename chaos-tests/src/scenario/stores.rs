//! Faults of the store and of Redis.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::RngExt as _;
use tokio::time::Instant;

use crate::{
    check::Invariant,
    cluster::{SOFT_STATE, SoftState},
    proxy::tcp::Mode,
    stage::Stage,
};

const FAIL_OVER: Duration = Duration::from_secs(15);
/// After the store is back.
const BACK: Duration = Duration::from_secs(5);

fn all_slow(stage: &mut Stage, least: u64, most: u64) {
    let mode = Mode::Slow(Duration::from_millis(least), Duration::from_millis(most));
    stage.note(format!("answers of the store take {least} to {most} ms"));
    stage.cluster.cql.iter().for_each(|proxy| proxy.set(mode));
}

fn all_well(stage: &mut Stage) {
    stage.note("the store is well again");
    stage.cluster.cql.iter().for_each(|proxy| proxy.set(Mode::Pass));
}

/// Asks for some answers once the store is back.
async fn ask_when_back(stage: &mut Stage, most: Duration) {
    let probes: Vec<_> = stage.probes.iter().take(8).cloned().collect();
    let asking = stage.ask(&probes, usize::MAX);
    stage.answered("answers once it is back", asking, most).await;
}

pub(super) async fn cut_store(stage: &mut Stage) -> Result<()> {
    let node = stage.any_owner().await?;
    let probes = stage.probes_of(node).await?;
    let mode = if stage.rng.random_bool(0.5) { Mode::Silent } else { Mode::Closed };
    stage.note(format!("{} and the store: {mode:?}", stage.node_name(node)));
    stage.cluster.cql[node].set(mode);
    let asking = stage.ask(&probes, node);
    stage.cluster.watch(stage.span(15, 40)).await;
    stage.answered("fail-over", asking, FAIL_OVER).await;
    Ok(())
}

pub(super) async fn slow(stage: &mut Stage) -> Result<()> {
    stage.rest().await;
    let claims = stage.claims().await?;
    all_slow(stage, 300, 1_500);
    stage.cluster.watch(stage.span(15, 60)).await;
    stage.expect_progress("the load goes on", Duration::from_secs(20)).await;
    let moves = stage.moves(claims).await?;
    stage.figure(format!("{moves} shards moved"), Some(moves == 0));
    all_well(stage);
    ask_when_back(stage, BACK).await;
    Ok(())
}

pub(super) async fn very_slow(stage: &mut Stage) -> Result<()> {
    all_slow(stage, 2_200, 3_500);
    stage.cluster.watch(stage.span(14, 60)).await;
    all_well(stage);
    // Answers that are on their way are still late.
    ask_when_back(stage, BACK + Duration::from_secs(4)).await;
    Ok(())
}

pub(super) async fn lost_answers(stage: &mut Stage) -> Result<()> {
    let share = stage.rng.random_range(0.02..0.10);
    stage.note(format!("{:.0} % of the store's answers are lost", share * 100.0));
    stage.cluster.cql.iter().for_each(|proxy| proxy.set(Mode::LoseAnswers(share)));
    stage.cluster.watch(stage.span(15, 60)).await;
    all_well(stage);
    ask_when_back(stage, BACK).await;
    Ok(())
}

pub(super) async fn down(stage: &mut Stage) -> Result<()> {
    stage.note("kill -9 of the store");
    stage.cluster.store.kill().await?;
    let down = Instant::now();
    stage.cluster.watch(stage.span(10, 60)).await;
    stage.cluster.store.start().await?;
    stage.note(format!("the store is back after {:.1} s", down.elapsed().as_secs_f64()));
    ask_when_back(stage, BACK).await;
    stage.expect_progress("the load goes on", Duration::from_secs(20)).await;
    Ok(())
}

async fn say(stage: &mut Stage, how: &str, wanted: SoftState) -> Result<()> {
    let took = stage.cluster.soft_state_is(wanted, SOFT_STATE).await;
    let took = took.with_context(|| format!("not all nodes say: soft state is {how}"))?;
    stage.took(&format!("all nodes say: soft state is {how}"), took, SOFT_STATE);
    Ok(())
}

pub(super) async fn redis_down(stage: &mut Stage) -> Result<()> {
    stage.note("kill -9 of Redis");
    let from = stage.history.now();
    stage.cluster.redis.kill().await?;
    say(stage, "degraded", SoftState::Degraded).await?;
    stage.expect_progress("the load goes on without Redis", Duration::from_secs(5)).await;
    stage.cluster.watch(stage.span(6, 30)).await;
    stage.cluster.redis.start().await?;
    stage.note("Redis is back");
    say(stage, "shared again", SoftState::Shared).await?;
    stage.expect_progress("the load goes on with Redis", Duration::from_secs(5)).await;
    let records = stage.history.records()?;
    let cut = records.iter().filter(|record| {
        let closed = matches!(record.what, crate::history::What::Closed { .. });
        record.at >= from && closed
    });
    let cut = cut.count();
    stage.figure(format!("{cut} streams were cut"), Some(cut == 0));
    if cut > 0 {
        stage.violates(Invariant::I5, format!("{cut} streams were cut while only Redis was down"));
    }
    Ok(())
}
