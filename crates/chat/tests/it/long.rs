//! A conversation that is longer than its model's window.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use troupe_chat::{HistoryItem, RunEnd};
use troupe_domain::task::{RunEvent, StepRecord, Work};
use troupe_llm::{ErrorType, ModelError, Request, ToolChoice};
use troupe_types::{MessageId, Uuid};

use crate::world::{Answer, Log, Said, World, ask, lock, say};

fn person(n: usize) -> HistoryItem {
    let text = format!("{n} {}", "word ".repeat(10_000));
    HistoryItem::Person { name: "Eve".into(), text }
}

fn sums_up(request: &Request) -> bool {
    request.system.as_deref().is_some_and(|system| system.contains("Write the summary alone"))
}

/// Thirty long messages; who is asked to sum up gets `summary`, and the answer has two steps.
fn long(summary: impl Fn(&Request) -> Result<Answer, ModelError> + Send + Sync + 'static) -> World {
    let mut world = World::new(move |request, step| match step {
        _ if sums_up(request) => summary(request),
        0 => Ok(ask("look", json!({}))),
        _ => Ok(say("done")),
    });
    world.run.conversation.items = (0..30).map(person).collect();
    world
}

fn summaries(world: &World) -> usize {
    world.requests().iter().filter(|request| sums_up(request)).count()
}

fn is_summary(record: &StepRecord) -> bool {
    matches!(record, StepRecord::Model { message, .. } if message.get("summary").is_some())
}

/// Checks a request that tells `n` messages, the third of them the summary.
fn check_told(request: &Request, n: usize) {
    assert_eq!(request.messages.len(), n);
    let text = request.messages[2].text();
    assert!(text.starts_with("[summary]") && text.ends_with("\nEve counts."), "{text}");
    let firsts: Vec<String> = request.messages[3..n.min(13)]
        .iter()
        .map(|message| message.text().chars().take(3).collect())
        .collect();
    assert_eq!(firsts[..], (20..30).map(|n| format!("{n} ")).collect::<Vec<_>>()[..]);
}

#[tokio::test]
async fn the_oldest_part_is_summed_up_by_the_same_model() {
    let world = long(|_| Ok(say("Eve counts.")));
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.text(false).as_str()), (RunEnd::Done, "done"), "it is no answer");
    let requests = world.requests();
    assert_eq!((requests.len(), summaries(&world)), (3, 1));
    let (asked, text) = (&requests[0], requests[0].messages[0].text());
    assert!(asked.tools.is_empty() && asked.tool_choice == ToolChoice::None);
    assert_eq!(asked.messages.len(), 1);
    for n in 2..20 {
        assert!(text.contains(&format!("\n{n} word")), "message {n} is summed up");
    }
    assert!(!text.contains("\n1 word") && !text.contains("\n20 word"));
    check_told(&requests[1], 13);
    check_told(&requests[2], 15);
    let told = log.statuses("compacting");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].text.as_deref(), Some("Summing up the earlier conversation."));
    assert!(is_summary(&log.steps()[0]) && log.steps().len() == 4);
    // Its tokens count as those of any call.
    let used = |said: &Said| matches!(said, Said::Step(_, Some(usage)) if usage.input_tokens == 10);
    assert_eq!(lock(&log.said).iter().filter(|said| used(said)).count(), 3);
}

#[tokio::test]
async fn later_attempts_and_turns_use_the_summary() {
    let mut world = long(|_| Ok(say("Eve counts.")));
    let (first, _) = world.go().await;
    lock(&world.model.requests).clear();
    // The next attempt, after the first was lost behind the summary.
    world.run.conversation.resume = first.steps()[..1].to_vec();
    let (log, ended) = world.go().await;
    assert_eq!((ended, world.requests().len(), summaries(&world)), (RunEnd::Done, 2, 0));
    check_told(&world.requests()[0], 13);
    assert!(log.statuses("compacting").is_empty());
    // The next turn.
    lock(&world.model.requests).clear();
    world.run.conversation.resume.clear();
    let message = MessageId::from_uuid(Uuid::from_u128(9));
    let steps = first.steps();
    let before = world.run.conversation.items.clone();
    let next = [
        HistoryItem::OwnSteps { message, steps },
        HistoryItem::Person { name: "Eve".into(), text: "And now?".into() },
    ];
    world.run.conversation.items = [before, next.to_vec()].concat();
    let (_, ended) = world.go().await;
    assert_eq!((ended, summaries(&world)), (RunEnd::Done, 0));
    check_told(&world.requests()[0], 17);
    // An earlier message is another one.
    lock(&world.model.requests).clear();
    world.run.conversation.items[5] = person(500);
    let (_, ended) = world.go().await;
    assert_eq!((ended, summaries(&world)), (RunEnd::Done, 1), "it is void");
}

#[tokio::test]
async fn a_run_with_a_summary_that_is_cut_anywhere_goes_on() {
    let whole = long(|_| Ok(say("Eve counts."))).go().await.0.len();
    for room in 0..whole {
        let mut world = long(|_| Ok(say("Eve counts.")));
        let (log, ended) = world.go_until(room).await;
        assert_eq!((ended, log.len()), (RunEnd::Gone, room));
        let kept = log.steps();
        lock(&world.model.requests).clear();
        world.run.conversation.resume = kept.clone();
        world.run.conversation.kept_text = log.text(true);
        let (log, ended) = world.go().await;
        assert_eq!(ended, RunEnd::Done);
        let Some(RunEvent::Done { answer, .. }) = log.done() else { panic!("{log:?}") };
        assert_eq!(answer, "done");
        let asked = !kept.iter().any(is_summary) && !world.requests().is_empty();
        assert_eq!(summaries(&world), usize::from(asked), "cut at {room}");
    }
}

/// Checks that messages were left out, and that people were told.
fn check_dropped(world: &World, log: &Log, tries: usize) {
    assert_eq!(summaries(world), tries);
    let told = log.statuses("compacting");
    let cuts: Vec<_> = told.iter().filter_map(|status| status.compaction.as_ref()).collect();
    assert_eq!(cuts.len(), 1, "once, not with every call: {told:?}");
    assert_eq!(cuts[0]["dropped_messages"], json!(18));
    let request = &world.requests()[tries];
    assert_eq!(request.messages.len(), 13);
    assert_eq!(request.messages[2].text(), "[18 earlier messages left out]");
    assert!(request.messages[12].text().starts_with("29 "));
    assert!(!log.steps().iter().any(is_summary));
}

#[tokio::test]
async fn without_a_summary_messages_are_left_out_and_people_are_told() {
    type Fails = fn(&Request) -> Result<Answer, ModelError>;
    let cases: [(Fails, usize); 4] = [
        (|_| Err(ModelError::Cut), 1),
        (|_| Ok(say("  \n")), 2),
        (|_| Ok(ask("look", json!({}))), 2),
        (|_| Err(too_long()), 2),
    ];
    for (fails, tries) in cases {
        let world = long(fails);
        let (log, ended) = world.go().await;
        assert_eq!((ended, log.text(false).as_str()), (RunEnd::Done, "done"));
        check_dropped(&world, &log, tries);
    }
}

fn too_long() -> ModelError {
    ModelError::Provider {
        kind: ErrorType::ContextLengthExceeded,
        text: "prompt is too long".into(),
        status: Some(400),
        retry_after: None,
        request_id: None,
        transient: false,
    }
}

#[tokio::test]
async fn what_does_not_fit_is_tried_again_with_half_of_it() {
    let tries = Arc::new(AtomicUsize::new(0));
    let world = long(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Err(too_long()),
        _ => Ok(say("Eve counts.")),
    });
    let (_, ended) = world.go().await;
    assert_eq!((ended, summaries(&world)), (RunEnd::Done, 2));
    let requests = world.requests();
    let bytes = |n: usize| requests[n].messages[0].text().len();
    assert!(bytes(1) * 10 < bytes(0) * 6, "{} {}", bytes(0), bytes(1));
    check_told(&requests[2], 13);
}

#[tokio::test]
async fn who_only_decides_does_not_sum_up() {
    let world =
        World::new(|_, _| Ok(ask("choose_member", json!({"member": "ann", "reason": "x"}))));
    let mut world = world.working(Work::Choose, &["lead", "ann"]);
    world.run.conversation.items = (0..30).map(person).collect();
    let (log, ended) = world.go().await;
    assert_eq!((ended, world.requests().len()), (RunEnd::Done, 1), "{:?}", log.failed());
    check_dropped(&world, &log, 0);
}
