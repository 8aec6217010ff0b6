use serde_json::json;
use troupe_llm::{Completion, Role, Usage};

use super::*;
use crate::prompt::tests::team;

fn said(text: &str, calls: &[(&str, &str, Value)], stop: StopReason) -> StepRecord {
    let mut parts = vec![Part::Text { text: text.into() }];
    parts.extend(calls.iter().map(|(id, name, args)| Part::ToolCall {
        id: (*id).into(),
        name: (*name).into(),
        args: args.clone(),
    }));
    record::of_model(&Completion {
        message: Message { role: Role::Assistant, parts },
        usage: Usage::default(),
        stop,
        model: "m".into(),
        response_id: None,
    })
}

fn result(id: &str) -> StepRecord {
    let (id, content) = (id.to_owned(), "ok".to_owned());
    record::of_tool(
        &id,
        &Part::ToolResult { id: id.clone(), content, is_error: false, unknown: false },
    )
}

fn run(work: &Work, steps: &[StepRecord]) -> Progress {
    let mut progress = Progress::new(Arc::new(team(&["lead", "ann", "bob"])), work);
    for step in steps {
        progress.apply(step);
    }
    progress
}

fn choose(member: &str) -> Value {
    json!({"member": member, "reason": "r"})
}

#[test]
fn a_tool_loop_goes_round() {
    let two = [("a", "t", json!({})), ("b", "t", json!({}))];
    let mut steps = vec![said("x", &two, StopReason::ToolUse)];
    let progress = run(&Work::Answer, &steps);
    assert_eq!((progress.next(), progress.open_calls().len()), (Next::Tools, 2));
    steps.push(result("b"));
    assert_eq!(run(&Work::Answer, &steps).open_calls()[0].id, "a");
    steps.extend([result("a"), result("a"), result("z")]);
    let progress = run(&Work::Answer, &steps);
    assert_eq!((progress.next(), progress.rounds()), (Next::Model, 1));
    let ids: Vec<_> = progress.messages()[1].parts.iter().map(|p| json!(p)["id"].clone()).collect();
    assert_eq!(ids, ["a", "b"], "results stand in the order of their calls");
    steps.push(said("done", &[], StopReason::EndTurn));
    assert_eq!(run(&Work::Answer, &steps).next(), Next::Finish);
}

#[test]
fn a_repeated_call_id_gets_another_name() {
    let progress = run(&Work::Answer, &[said("", &[("a", "t", json!({}))], StopReason::ToolUse)]);
    assert_eq!(progress.fresh_id("b", &[]), "b");
    assert_eq!(progress.fresh_id("a", &[]), "a_s1");
    assert_eq!(progress.fresh_id("a", &["a_s1".into()]), "a_s2");
}

#[test]
fn a_paused_answer_goes_on() {
    let progress = run(&Work::Answer, &[said("half", &[], StopReason::Pause)]);
    assert_eq!((progress.next(), progress.rounds()), (Next::Model, 1));
}

#[test]
fn a_choice_is_asked_for_twice() {
    let bad = |id: &str| said("", &[(id, "choose_member", choose("eve"))], StopReason::ToolUse);
    let mut steps = vec![bad("a"), result("a")];
    assert_eq!(run(&Work::Choose, &steps).next(), Next::Model);
    let mut good = steps.clone();
    good.extend([
        said("", &[("b", "choose_member", choose("bob"))], StopReason::ToolUse),
        result("b"),
    ]);
    let progress = run(&Work::Choose, &good);
    assert_eq!(progress.next(), Next::Finish);
    assert!(matches!(progress.decision(), Some(LeaderDecision::ChooseMember { .. })));
    steps.extend([bad("b"), result("b")]);
    let progress = run(&Work::Choose, &steps);
    assert_eq!(progress.next(), Next::Finish);
    assert!(matches!(progress.decision(), Some(LeaderDecision::Invalid { .. })));
}

#[test]
fn a_text_instead_of_a_choice_is_asked_about_once() {
    let text = said("I choose ann", &[], StopReason::EndTurn);
    let progress = run(&Work::Choose, std::slice::from_ref(&text));
    assert_eq!(progress.next(), Next::Model);
    let ask = progress.messages().last().unwrap();
    assert_eq!(ask.role, Role::User);
    assert!(ask.text().contains("choose_member"), "{}", ask.text());
    let progress = run(&Work::Choose, &[text.clone(), text]);
    assert_eq!((progress.next(), progress.decision()), (Next::Finish, None));
    let fenced =
        said("```json\n{\"member\": \"ann\", \"reason\": \"r\"}\n```", &[], StopReason::EndTurn);
    let progress = run(&Work::Choose, &[fenced]);
    assert!(matches!(progress.decision(), Some(LeaderDecision::ChooseMember { .. })));
}

#[test]
fn a_discussion_may_go_on_without_conclude() {
    let work = Work::Discuss { round: 1 };
    let plain = said("I think..", &[], StopReason::EndTurn);
    let progress = run(&work, &[plain]);
    assert_eq!((progress.next(), progress.decision()), (Next::Finish, None));
    let done = json!({"done": true, "summary": "s"});
    let both = said("", &[("a", "t", json!({})), ("b", "conclude", done)], StopReason::ToolUse);
    let progress = run(&work, &[both, result("a"), result("b")]);
    assert_eq!(progress.next(), Next::Model, "the other tool's result is wanted");
    assert!(matches!(progress.decision(), Some(LeaderDecision::Conclude { done: true, .. })));
}

#[test]
fn a_lost_result_of_a_decision_changes_nothing() {
    let lost = StepRecord::Tool { tool_use_id: "a".into(), result: Value::Null, unknown: true };
    let step = said("", &[("a", "choose_member", choose("ann"))], StopReason::ToolUse);
    let progress = run(&Work::Choose, &[step, lost]);
    assert_eq!(progress.next(), Next::Finish);
    assert!(matches!(progress.decision(), Some(LeaderDecision::ChooseMember { .. })));
}
