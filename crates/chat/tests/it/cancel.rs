//! A cancel, or a sink that is gone, ends a run without a word.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;
use troupe_chat::{NoSecrets, RunEnd};
use troupe_testkit::wait_until;
use troupe_types::Clock as _;

use crate::world::{Log, World, ask, clock, say, services};

/// Starts a run, cancels it once the log has `after` entries, and waits for its end.
async fn cancelled_after(
    world: &World,
    after: impl Fn(&Log) -> bool,
) -> (std::sync::Arc<Log>, RunEnd) {
    let log = Log::new(usize::MAX);
    let services = services(
        std::sync::Arc::new(world.model.clone()),
        world.counter.registry(),
        std::sync::Arc::new(NoSecrets),
    );
    let mut runs = JoinSet::new();
    let (run, sink, cancel) =
        (world.run.clone(), std::sync::Arc::clone(&log), world.cancel.clone());
    runs.spawn(async move { troupe_chat::run(run, &services, &*sink, cancel).await });
    wait_until(Duration::from_secs(10), || std::future::ready(after(&log))).await;
    world.cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), runs.join_next()).await;
    (log, ended.expect("the run ends").expect("there is one").expect("without a panic"))
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_a_stream_closes_it() {
    let world = World::steps(vec![say("one two three").hanging()]);
    let (log, ended) = cancelled_after(&world, |log| log.text(false) == "one two three").await;
    assert_eq!(ended, RunEnd::Cancelled);
    assert!(log.failed().is_none() && log.done().is_none() && log.steps().is_empty());
    assert_eq!(world.model.dropped.load(Ordering::SeqCst), 1, "the stream is dropped");
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_a_tool_drops_it() {
    let world = World::steps(vec![ask("hang", json!({})), say("never")]);
    let counter = world.counter.clone();
    let (log, ended) = cancelled_after(&world, |_| counter.calls() == 1).await;
    assert_eq!(ended, RunEnd::Cancelled);
    assert_eq!((log.steps().len(), world.requests().len()), (1, 1));
    assert!(log.failed().is_none());
}

#[tokio::test]
async fn a_cancel_ends_the_wait_that_a_provider_asked_for() {
    let mut world = World::steps(vec![say("never")]);
    world.run.not_before = Some(clock().now().plus(Duration::from_secs(300)));
    let (log, ended) = cancelled_after(&world, |log| log.statuses("retrying").len() == 1).await;
    assert_eq!((ended, world.requests().len()), (RunEnd::Cancelled, 0));
    assert_eq!(log.statuses("retrying")[0].retry_at, world.run.not_before);
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_waits_as_long_as_the_provider_asked_the_last_one_to() {
    let asked = [
        (300, 300, "rate_limit"),
        (0, 0, "rate_limit"),
        (2 * 60 * 60, 60 * 60, "rate_limit"),
        (20, 20, "model_retry"),
    ];
    for (asked, waits, code) in asked {
        let mut world = World::steps(vec![say("late")]);
        world.run.not_before = Some(clock().now().plus(Duration::from_secs(asked)));
        world.run.wait_code = Some(code.to_owned());
        let start = tokio::time::Instant::now();
        let (log, ended) = world.go().await;
        assert_eq!((ended, start.elapsed().as_secs()), (RunEnd::Done, waits));
        let codes = log.statuses("retrying").into_iter().filter_map(|status| status.wait);
        let codes: Vec<String> = codes.map(|wait| wait.code).collect();
        assert_eq!(codes, vec![code.to_owned(); usize::from(waits > 0)], "as it was told before");
    }
}

/// Starts a run, and asks it to leave once it waits.
async fn asked_to_leave(world: &World) -> (std::sync::Arc<Log>, RunEnd, Duration) {
    let log = Log::new(usize::MAX);
    let (run, cancel) = (world.run.clone(), world.cancel.clone());
    let leave = async {
        wait_until(Duration::from_secs(10), || {
            std::future::ready(log.statuses("retrying").len() == 1)
        })
        .await;
        log.leaving.cancel();
        tokio::time::Instant::now()
    };
    let (ended, asked) = tokio::join!(troupe_chat::run(run, &world.services, &*log, cancel), leave);
    (log, ended, asked.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_only_waits_leaves_at_once() {
    let mut held = World::steps(vec![say("never")]);
    held.run.not_before = Some(clock().now().plus(Duration::from_secs(300)));
    let again = World::steps(vec![say("never").retrying(60)]);
    for (world, asked) in [(held, 0), (again, 1)] {
        let (log, ended, after) = asked_to_leave(&world).await;
        assert_eq!((ended, after.as_secs(), world.requests().len()), (RunEnd::Gone, 0, asked));
        assert!(log.failed().is_none() && log.done().is_none() && log.steps().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_under_way_is_not_left_before_its_step_ends() {
    let world = World::steps(vec![say("a late answer").retrying(60)]);
    let log = Log::new(usize::MAX);
    log.leaves_at_a_word.store(true, std::sync::atomic::Ordering::SeqCst);
    let (run, cancel) = (world.run.clone(), world.cancel.clone());
    let ended = troupe_chat::run(run, &world.services, &*log, cancel).await;
    assert_eq!((ended, log.text(false).as_str()), (RunEnd::Gone, "a late answer"));
    assert_eq!(log.steps().len(), 1, "its step is kept");
}

#[tokio::test]
async fn a_run_that_was_cancelled_before_says_nothing() {
    let world = World::steps(vec![say("x")]);
    world.cancel.cancel();
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.len()), (RunEnd::Cancelled, 0));
}

#[tokio::test]
async fn a_sink_that_is_gone_ends_the_run() {
    let world = World::steps(vec![ask("count", json!({})), say("x")]);
    let whole = world.go().await.0.len();
    for room in 0..whole {
        let world = World::steps(vec![ask("count", json!({})), say("x")]);
        let (log, ended) = world.go_until(room).await;
        assert_eq!((ended, log.len()), (RunEnd::Gone, room));
    }
}
