//! The translation, and the domain that takes it.

use serde_json::json;
use troupe_types::ErrorType;

use super::*;
use crate::{event::Question, job::Grant};

fn now() -> Timestamp {
    Timestamp::from_millis(1_000)
}

fn all(events: Vec<RuntimeEvent>) -> (Translator, Vec<RunEvent>) {
    let mut translator = Translator::new("", "m");
    let out = events.into_iter().flat_map(|event| translator.event(event, now())).collect();
    (translator, out)
}

fn text(text: &str) -> RuntimeEvent {
    RuntimeEvent::Text { text: text.to_owned(), parent: None }
}

fn call(id: &str) -> RuntimeEvent {
    RuntimeEvent::ToolStarted(ToolCall {
        id: id.to_owned(),
        tool: "Bash".to_owned(),
        title: None,
        server: None,
        input: json!({"command": "ls"}),
        parent: None,
    })
}

fn ended(id: &str, outcome: ToolOutcome) -> RuntimeEvent {
    RuntimeEvent::ToolEnded { id: id.to_owned(), outcome, output: "out".to_owned() }
}

fn model_done() -> RuntimeEvent {
    RuntimeEvent::ModelDone { stop: Some("tool_use".to_owned()), usage: None }
}

fn done() -> RuntimeEvent {
    RuntimeEvent::TurnEnded(TurnEnd::Completed { stop: Some("end_turn".to_owned()) })
}

/// What was streamed, as the domain counts it.
fn streamed(events: &[RunEvent]) -> String {
    let pieces = events.iter().filter_map(|event| match event {
        RunEvent::Output { pieces } => Some(pieces),
        _ => None,
    });
    let texts = pieces.flatten().filter_map(|piece| match piece {
        Output::Text(text) => Some(text.as_str()),
        Output::Thinking(_) => None,
    });
    texts.collect()
}

#[test]
fn the_answer_is_what_was_streamed() {
    let (translator, out) = all(vec![
        text("I will "),
        text("look."),
        call("a"),
        model_done(),
        ended("a", ToolOutcome::Done),
        text("Done 你好."),
        RuntimeEvent::ModelDone { stop: Some("end_turn".into()), usage: None },
        done(),
    ]);
    let answer = "I will look.\n\nDone 你好.";
    assert_eq!(streamed(&out), answer);
    assert!(matches!(out.last(), Some(RunEvent::Done { answer: said, .. }) if said == answer));
    assert_eq!((translator.answer(), translator.standing()), (answer, Standing::Ended));
}

#[test]
fn steps_come_with_their_results_after_them() {
    // Codex tells a result before the end of its model call, Claude Code after it.
    for events in [
        vec![call("a"), ended("a", ToolOutcome::Done), model_done()],
        vec![call("a"), model_done(), ended("a", ToolOutcome::Done)],
    ] {
        let (_, out) = all(events);
        let steps: Vec<&StepRecord> = out
            .iter()
            .filter_map(|event| match event {
                RunEvent::Step { record, .. } => Some(record),
                _ => None,
            })
            .collect();
        let [StepRecord::Model { calls, message }, StepRecord::Tool { tool_use_id, result, .. }] =
            steps[..]
        else {
            panic!("{steps:#?}")
        };
        assert_eq!((calls.len(), tool_use_id.as_str()), (1, "a"));
        assert_eq!(result["content"], "out");
        assert_eq!(message["message"]["parts"][0]["name"], "Bash");
        assert_eq!(message["stop"], "tool_use");
    }
}

#[test]
fn an_approval_is_a_block_that_waits() {
    let request = RuntimeEvent::Approval(ApprovalRequest {
        id: "r1".to_owned(),
        tool: "Bash".to_owned(),
        title: "ls".to_owned(),
        input: json!({"command": "ls"}),
        tool_call: Some("a".to_owned()),
        reason: None,
        always: Some(Grant { tool: "Bash".to_owned(), command: Some("ls".to_owned()) }),
    });
    let (mut translator, out) = all(vec![call("a"), request]);
    assert_eq!(translator.standing(), Standing::Waiting);
    let Some(RunEvent::Block { block, name }) = out.last() else { panic!("{out:#?}") };
    assert_eq!((name.as_str(), block.status), ("r1", BlockStatus::Pending));
    let told = serde_json::to_value(block).unwrap();
    assert_eq!(told["type"], "approval");
    let options = told["options"].as_array().unwrap().iter().map(|o| o["id"].clone());
    assert_eq!(options.collect::<Vec<_>>(), ["allow", "allow_always", "deny"]);
    let closed = RuntimeEvent::Closed { id: "r1".to_owned(), how: Closing::Expired };
    let out = translator.event(closed.clone(), now());
    let [RunEvent::BlockChanged { name, patch }] = &out[..] else { panic!("{out:#?}") };
    assert_eq!((name.as_str(), patch.tool_output.as_deref()), ("r1", Some("expired")));
    assert_eq!(translator.standing(), Standing::Running);
    // A block that is final does not change again.
    assert_eq!(translator.event(closed, now()), []);
    let question = Question {
        id: "q".into(),
        header: String::new(),
        text: "?".into(),
        options: Vec::new(),
        multiple: false,
    };
    let question =
        RuntimeEvent::Question(QuestionRequest { id: "r2".into(), questions: vec![question] });
    translator.event(question, now());
    assert_eq!(translator.standing(), Standing::Waiting);
}

/// However many tools ran, a person is asked and the turn's diff is shown.
#[test]
fn a_person_is_asked_after_any_number_of_blocks() {
    let shown = |out: &[RunEvent], wanted: &str| {
        out.iter().any(|event| matches!(event, RunEvent::Block { name, .. } if name == wanted))
    };
    let ask = |id: &str| {
        RuntimeEvent::Approval(ApprovalRequest {
            id: id.to_owned(),
            tool: "Bash".to_owned(),
            title: "ls".to_owned(),
            input: json!({}),
            tool_call: None,
            reason: None,
            always: None,
        })
    };
    let closed = |id: &str| RuntimeEvent::Closed { id: id.to_owned(), how: Closing::Allowed };
    let mut translator = Translator::new("", "m");
    // A sub-agent calls tools without a step of the Bot in between.
    for n in 0..2_000 {
        translator.event(call(&n.to_string()), now());
        translator.event(ended(&n.to_string(), ToolOutcome::Done), now());
    }
    assert!(!shown(&translator.event(call("unseen"), now()), "unseen"));
    assert!(shown(&translator.event(ask("r1"), now()), "r1"));
    assert_eq!(translator.standing(), Standing::Waiting);
    translator.event(closed("r1"), now());
    let diff = Diff { id: "diff".to_owned(), ..Diff::default() };
    assert!(shown(&translator.event(RuntimeEvent::Diff(diff), now()), "diff"));
    // A step makes room again: what is final has left the Task's names, too.
    translator.event(model_done(), now());
    for n in 0..3_000 {
        let name = format!("later-{n}");
        assert!(shown(&translator.event(call(&name), now()), &name), "{n}");
        translator.event(ended(&name, ToolOutcome::Done), now());
        translator.event(model_done(), now());
    }
}

#[test]
fn text_goes_before_what_follows_it_and_is_bounded() {
    let (_, out) = all(vec![text("a"), call("x"), text("b")]);
    assert!(matches!(out[0], RunEvent::Output { .. }) && matches!(out[1], RunEvent::Block { .. }));
    assert_eq!(out.len(), 2, "the last text waits for more");
    let (mut translator, mut out) = all((0..100).map(|_| text(&"x".repeat(1_000))).collect());
    out.extend(translator.flush());
    assert_eq!(streamed(&out).len(), 100_000);
    for event in &out {
        let RunEvent::Output { pieces } = event else { panic!("{event:?}") };
        let bytes: usize = pieces
            .iter()
            .map(|piece| match piece {
                Output::Text(text) | Output::Thinking(text) => text.len(),
            })
            .sum();
        assert!(bytes <= TEXT_BUFFER_BYTES_MAX, "{bytes}");
    }
}

#[test]
fn sub_agents_stay_out_of_the_answer() {
    let parent = Some("s".to_owned());
    let (_, out) = all(vec![
        RuntimeEvent::SubagentStarted { id: "s".into(), title: "look".into() },
        model_done(),
        RuntimeEvent::Text { text: "inner\n\n".into(), parent: parent.clone() },
        RuntimeEvent::Text { text: "x".repeat(SUBAGENT_BYTES_MAX - 4), parent: parent.clone() },
        RuntimeEvent::Text { text: "y\n\n".into(), parent: parent.clone() },
        RuntimeEvent::ToolStarted(ToolCall {
            id: "b".into(),
            tool: "Read".into(),
            title: None,
            server: None,
            input: json!({}),
            parent,
        }),
        RuntimeEvent::SubagentEnded { id: "s".into(), ok: true },
        ended("s", ToolOutcome::Done),
        done(),
    ]);
    assert_eq!(streamed(&out), "");
    let mut contents = out.iter().filter_map(|event| match event {
        RunEvent::BlockChanged { patch, .. } => patch.content.as_deref(),
        _ => None,
    });
    assert_eq!(contents.next(), Some("inner"));
    assert!(contents.next().is_some_and(|text| text.starts_with("er\n\nxxx")));
    assert!(contents.next().is_some_and(|text| text.starts_with("xxx") && text.ends_with("xy")));
    let nested = out.iter().any(|event| {
        matches!(event, RunEvent::Block { block, .. } if block.parent_tool_use_id.as_deref() == Some("s"))
    });
    assert!(nested);
    let steps = out.iter().filter(|event| matches!(event, RunEvent::Step { .. })).count();
    assert_eq!(steps, 2);
}

#[test]
fn a_kept_text_is_part_of_the_answer() {
    let mut translator = Translator::new("Kept.", "m");
    let mut out = translator.event(text("New."), now());
    out.extend(translator.event(done(), now()));
    assert_eq!(streamed(&out), "\n\nNew.");
    assert!(matches!(out.last(), Some(RunEvent::Done { answer, .. }) if answer == "Kept.\n\nNew."));
    assert_eq!(translator.event(text("late"), now()), []);
}

#[test]
fn failures_retries_and_unknowns_are_told() {
    let (translator, out) = all(vec![
        RuntimeEvent::Retry {
            attempt: 1,
            max: 4,
            wait_ms: 500,
            error: ErrorType::RateLimit,
            text: "429".into(),
        },
        RuntimeEvent::Unknown { kind: "new".into(), raw: "{}".into() },
        RuntimeEvent::TurnEnded(TurnEnd::Failed {
            error: ErrorType::RateLimit,
            text: "429".into(),
        }),
    ]);
    let [RunEvent::Status(status), RunEvent::Block { .. }, RunEvent::Failed { error, .. }] =
        &out[..]
    else {
        panic!("{out:#?}")
    };
    assert_eq!((status.phase.as_str(), *error), ("retrying", ErrorType::RateLimit));
    assert_eq!(status.retry_at, Some(Timestamp::from_millis(1_500)));
    assert_eq!(translator.standing(), Standing::Ended);
}
