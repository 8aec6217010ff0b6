//! Decisions of leaders and of members of a discussion.

use serde_json::{Value, json};
use troupe_chat::RunEnd;
use troupe_domain::task::{LeaderDecision, RunEvent, Work, WorkItem};
use troupe_llm::ToolChoice;

use crate::world::{Answer, Log, World, ask, say};

const NAMES: [&str; 3] = ["lead", "ann", "bob"];

fn choose(member: &str) -> Value {
    json!({"member": member, "reason": "knows it"})
}

fn decided(log: &Log) -> (String, Option<LeaderDecision>) {
    match log.done() {
        Some(RunEvent::Done { answer, decision, .. }) => {
            assert_eq!(answer, log.text(false), "the answer is what was said");
            (answer, decision)
        }
        other => panic!("{other:?}"),
    }
}

/// A leader that answers so each time it is asked.
fn leader(work: Work, answers: Vec<Answer>) -> World {
    World::new(move |request, _| {
        let asked = request.messages.iter().filter(|m| m.role == troupe_llm::Role::Assistant);
        Ok(answers[asked.count()].clone())
    })
    .working(work, &NAMES)
}

#[tokio::test]
async fn a_choice_ends_the_run() {
    let world = leader(Work::Choose, vec![ask("choose_member", choose("bob"))]);
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    let (answer, decision) = decided(&log);
    assert_eq!(answer, "knows it");
    let want = LeaderDecision::ChooseMember { member: "bob".into(), reason: "knows it".into() };
    assert_eq!(decision, Some(want));
    let request = &world.requests()[0];
    assert_eq!(request.tools.len(), 1, "a leader that decides has no other tool");
    assert_eq!(request.tool_choice, ToolChoice::Tool("choose_member".into()));
    assert_eq!(log.result("call_0").unwrap().0, "accepted");
}

#[tokio::test]
async fn a_split_is_listed_unless_the_leader_wrote() {
    let items = json!({"items": [
        {"member": "ann", "instructions": "one"}, {"member": "bob", "instructions": "two"},
    ]});
    let world = leader(Work::Split, vec![ask("split_work", items.clone())]);
    let (answer, decision) = decided(&world.go().await.0);
    assert_eq!(answer, "1. **ann**: one\n2. **bob**: two");
    let item = |m: &str, i: &str| WorkItem { member: m.into(), instructions: i.into() };
    let items_want = vec![item("ann", "one"), item("bob", "two")];
    assert_eq!(decision, Some(LeaderDecision::SplitWork { items: items_want }));
    let world = leader(Work::Split, vec![say("My split.").and("split_work", items)]);
    assert_eq!(decided(&world.go().await.0).0, "My split.");
}

#[tokio::test]
async fn an_invalid_choice_is_asked_about_once() {
    let bad = || ask("choose_member", choose("eve"));
    let world = leader(Work::Choose, vec![bad(), ask("choose_member", choose("ann"))]);
    let (log, _) = world.go().await;
    assert!(
        matches!(decided(&log).1, Some(LeaderDecision::ChooseMember { member, .. }) if member == "ann")
    );
    let (told, is_error, _) = log.result("call_0").unwrap();
    assert!(is_error && told.contains("there is no member `eve`") && told.contains("ann, bob"));
    let world = leader(Work::Choose, vec![bad(), bad(), bad()]);
    let (log, ended) = world.go().await;
    assert_eq!((ended, world.requests().len()), (RunEnd::Done, 2));
    let (answer, decision) = decided(&log);
    assert_eq!(answer, "");
    assert!(matches!(decision, Some(LeaderDecision::Invalid { error }) if error.contains("`eve`")));
}

#[tokio::test]
async fn a_text_is_looked_through_for_one_block() {
    let block = "Here:\n```json\n{\"member\": \"ann\", \"reason\": \"r\"}\n```\n";
    let world = leader(Work::Choose, vec![say(block)]);
    let (answer, decision) = decided(&world.go().await.0);
    assert_eq!(answer, block);
    assert!(matches!(decision, Some(LeaderDecision::ChooseMember { .. })));
    let world = leader(Work::Choose, vec![say("ann, please"), say(block)]);
    let (answer, decision) = decided(&world.go().await.0);
    assert_eq!(answer, format!("ann, please\n\n{block}"));
    assert!(decision.is_some());
    let again = world.requests()[1].messages.last().unwrap().text();
    assert!(again.contains("you did not call it") && again.contains("choose_member"), "{again}");
    let world = leader(Work::Split, vec![say("no"), say("no")]);
    let (log, ended) = world.go().await;
    assert_eq!((ended, decided(&log).1), (RunEnd::Done, None));
}

#[tokio::test]
async fn a_member_of_a_discussion_may_conclude() {
    let work = Work::Discuss { round: 1 };
    let done = json!({"done": true, "summary": "I agree"});
    let world = leader(work.clone(), vec![say("Yes.").and("conclude", done.clone())]);
    let (answer, decision) = decided(&world.go().await.0);
    assert_eq!(answer, "Yes.");
    assert!(matches!(decision, Some(LeaderDecision::Conclude { done: true, .. })));
    let request = &world.requests()[0];
    assert!(
        request.tools.iter().any(|t| t.name == "count") && request.tool_choice == ToolChoice::Auto
    );

    let world = leader(work.clone(), vec![ask("conclude", done.clone())]);
    assert_eq!(decided(&world.go().await.0).0, "I agree");
    let world = leader(work.clone(), vec![say("more to say")]);
    assert_eq!(decided(&world.go().await.0).1, None);
    let both = vec![ask("count", json!({})).and("conclude", done), say("counted")];
    let world = leader(work.clone(), both);
    let (answer, decision) = decided(&world.go().await.0);
    assert_eq!((answer.as_str(), world.counter.calls()), ("counted", 1));
    assert!(decision.is_some());
    let bad = || ask("conclude", json!({"done": "perhaps"}));
    let world = leader(work, vec![bad(), bad()]);
    assert!(matches!(decided(&world.go().await.0).1, Some(LeaderDecision::Invalid { .. })));
}

#[tokio::test]
async fn a_decision_survives_every_cut() {
    let answers = || vec![ask("choose_member", choose("eve")), ask("choose_member", choose("bob"))];
    let whole = leader(Work::Choose, answers()).go().await.0.len();
    for room in 0..whole {
        let mut world = leader(Work::Choose, answers());
        let (log, ended) = world.go_until(room).await;
        assert_eq!(ended, RunEnd::Gone);
        world.run.conversation.resume = log.steps();
        world.run.conversation.kept_text = log.text(true);
        let kept = log.text(true);
        let (log, ended) = world.go().await;
        assert_eq!(ended, RunEnd::Done);
        let Some(RunEvent::Done { answer, decision, .. }) = log.done() else { panic!() };
        assert_eq!(answer, format!("{kept}{}", log.text(false)));
        assert_eq!(answer, "knows it", "cut at {room}");
        assert!(matches!(decision, Some(LeaderDecision::ChooseMember { .. })));
    }
}
