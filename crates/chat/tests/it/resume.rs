//! A run that is cut anywhere goes on at its last finished step.

use std::collections::HashSet;

use serde_json::{Value, json};
use troupe_chat::{Conversation, RunEnd};
use troupe_domain::task::{RunEvent, StepRecord};
use troupe_llm::Part;

use crate::world::{Log, World, ask, lock, say};

/// What the domain makes of a lost attempt: its steps are kept, open calls closed as unknown.
fn lost(before: &Conversation, log: &Log) -> Conversation {
    let mut resume = before.resume.clone();
    resume.extend(log.steps());
    let mut open = Vec::new();
    for step in &resume {
        match step {
            StepRecord::Model { calls, .. } => {
                open.extend(calls.iter().map(|call| call.tool_use_id.clone()));
            }
            StepRecord::Tool { tool_use_id, .. } => open.retain(|id| id != tool_use_id),
        }
    }
    resume.extend(open.into_iter().map(|tool_use_id| StepRecord::Tool {
        tool_use_id,
        result: Value::Null,
        unknown: true,
    }));
    let kept_text = format!("{}{}", before.kept_text, log.text(true));
    Conversation { items: before.items.clone(), resume, kept_text }
}

/// Two tool steps, then the answer; the text differs from attempt to attempt.
fn world() -> World {
    World::new(|request, step| {
        let attempt = request.attempt;
        Ok(match step {
            0 => say(&format!("first {attempt}."))
                .and("count", json!({"n": 1}))
                .and("look", json!({})),
            1 => ask("look", json!({})).and("look", json!({})).and("count", json!({"n": 2})),
            _ => say(&format!("the end {attempt}")),
        })
    })
}

fn ids(steps: &[StepRecord], unknown_only: bool) -> Vec<String> {
    let tool = |step: &StepRecord| match step {
        StepRecord::Tool { tool_use_id, unknown, .. } if *unknown || !unknown_only => {
            Some(tool_use_id.clone())
        }
        _ => None,
    };
    steps.iter().filter_map(tool).collect()
}

/// Checks a finished run: its answer is what was said, calls and results belong together.
fn check(world: &World, before: &Conversation, log: &Log) {
    let Some(RunEvent::Done { answer, .. }) = log.done() else { panic!("no end: {log:?}") };
    assert_eq!(answer, format!("{}{}", before.kept_text, log.text(false)));
    let mut all = before.resume.clone();
    all.extend(log.steps());
    let results = ids(&all, false);
    let distinct: HashSet<&String> = results.iter().collect();
    assert_eq!(results.len(), distinct.len(), "one result a call: {results:?}");
    assert_eq!(results.len(), 5, "all calls have a result");
    let keys = lock(&world.counter.keys).clone();
    let distinct: HashSet<&String> = keys.iter().collect();
    assert_eq!(keys.len(), distinct.len(), "no call is made twice: {keys:?}");
    // What was not run for certain is at most what is told as unknown.
    assert!(keys.len() + ids(&all, true).len() >= 5, "{keys:?}");
}

#[tokio::test]
async fn a_run_that_is_not_cut_does_all() {
    let world = world();
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    check(&world, &Conversation::default(), &log);
    assert_eq!(world.counter.calls(), 5);
    assert_eq!(log.text(false), "first 1.\n\nthe end 1");
    assert!(log.steps().len() == 8 && log.result("call_1").is_some());
    assert!(log.result("call_1_s1").is_some(), "an id that comes again gets another name");
}

#[tokio::test]
async fn every_cut_is_survived() {
    let whole = world().go().await.0.len();
    for first in 0..whole {
        for second in [0, 1, 2, 5, 9] {
            let mut world = world();
            for room in [first, second, usize::MAX] {
                let before = world.run.conversation.clone();
                let (log, ended) = world.go_until(room).await;
                if ended == RunEnd::Done {
                    check(&world, &before, &log);
                    break;
                }
                assert_eq!((ended, log.len()), (RunEnd::Gone, room), "cut at {first}, {second}");
                world.run.conversation = lost(&before, &log);
                world.run.attempt = world.run.attempt.next();
            }
        }
    }
}

#[tokio::test]
async fn the_model_is_told_of_a_lost_call() {
    let mut world = world();
    // Up to the first model step: its calls are journaled, none of them has run.
    let cut = world.go().await.0;
    let at = lock(&cut.said).iter().position(|s| matches!(s, crate::world::Said::Step(..)));
    let (log, _) = world.go_until(at.unwrap() + 1).await;
    assert_eq!(log.steps().len(), 1);
    world.run.conversation = lost(&world.run.conversation, &log);
    lock(&world.model.requests).clear();
    world.go().await;
    let request = &world.requests()[0];
    let Some(Part::ToolResult { content, unknown, is_error, .. }) =
        request.messages.last().and_then(|m| m.parts.first())
    else {
        panic!("{request:?}")
    };
    assert_eq!(
        (content.as_str(), *unknown, *is_error),
        ("outcome unknown: it may have run", true, true)
    );
}

#[tokio::test]
async fn a_call_that_nobody_closed_is_closed_as_unknown() {
    let mut world = world();
    let (log, _) = world.go().await;
    let steps = log.steps();
    world.run.conversation.resume = steps[..2].to_vec();
    let calls = world.counter.calls();
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    let (_, _, unknown) = log.result("call_2").unwrap();
    assert!(unknown && matches!(log.steps()[0], StepRecord::Tool { unknown: true, .. }));
    assert_eq!(world.counter.calls() - calls, 3, "only those of the second step");
}

#[tokio::test]
async fn a_finished_answer_is_not_asked_for_again() {
    let mut world = world();
    let (log, _) = world.go().await;
    world.run.conversation.resume = log.steps();
    world.run.conversation.kept_text = log.text(true);
    lock(&world.model.requests).clear();
    let (again, ended) = world.go().await;
    assert_eq!((ended, world.requests().len(), again.len()), (RunEnd::Done, 0, 1));
    let Some(RunEvent::Done { answer, stop_reason, .. }) = again.done() else { panic!() };
    assert_eq!((answer, stop_reason.as_deref()), (log.text(false), Some("end_turn")));
}

async fn bytes_of(rounds: usize) -> usize {
    let world = World::new(move |_, step| {
        Ok(if step < rounds { say("a step").and("look", json!({"n": step})) } else { say("end") })
    });
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.steps().len()), (RunEnd::Done, rounds * 2 + 1));
    log.steps().iter().map(|step| json!(step).to_string().len()).sum()
}

#[tokio::test]
async fn records_grow_with_the_steps_alone() {
    // Each step adds the same; a record that held the history would add ever more.
    let (none, one) = (bytes_of(0).await, bytes_of(1).await);
    let step = one - none + 32;
    for rounds in [2, 8, 15, 29] {
        let many = bytes_of(rounds).await;
        assert!(many <= none + step * rounds, "{many} > {none} + {step} * {rounds}");
    }
}
