use serde_json::json;

use super::*;

fn event(seq: u64, name: &str, mut data: Value) -> Event {
    data["seq"] = seq.into();
    data["subtask_id"] = data.get("subtask_id").cloned().unwrap_or_else(|| json!("msg_a"));
    Event::new(name, data).unwrap()
}

fn story(rest: Vec<Event>) -> Vec<Event> {
    let message = json!({"message_id": 1, "turn_id": "trn_1", "kind": "answer",
        "status": "PENDING", "content": ""});
    let mut all = vec![
        event(1, "chat:message", message),
        event(2, "chat:start", json!({"attempt": 1, "keeps": 0, "offset": 0})),
        text(3, 1, "1.1.1", 0, "漢字🙂"),
        tool(4, 1, "running"),
        event(
            5,
            "chat:block_updated",
            json!({"attempt": 1, "block_id": "1.1.2",
            "status": "done", "tool_output": "7"}),
        ),
        text(6, 1, "1.1.3", 3, "half of"),
    ];
    all.extend(rest);
    all
}

fn text(seq: u64, attempt: u64, block: &str, offset: u64, content: &str) -> Event {
    let data = json!({"attempt": attempt, "block_id": block, "offset": offset, "content": content});
    event(seq, "chat:chunk", data)
}

fn tool(seq: u64, attempt: u64, status: &str) -> Event {
    let block = json!({"id": "1.1.2", "type": "tool", "status": status});
    event(seq, "chat:block_created", json!({"attempt": attempt, "block": block}))
}

fn lost(seq: u64) -> Event {
    event(seq, "chat:error", json!({"attempt": 1, "type": "lost", "continues": true}))
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_a_lost_attempt_finished_is_kept_and_the_rest_is_interrupted() {
    let fold = Fold::of(&story(vec![
        lost(7),
        event(8, "chat:start", json!({"attempt": 2, "keeps": 5, "offset": 3})),
        text(9, 2, "1.2.1", 3, "!"),
        event(10, "chat:done", json!({"attempt": 2, "offset": 4, "sha256": hash("漢字🙂!")})),
    ]));
    assert_eq!(fold.faults(), &[] as &[String]);
    let row = &fold.rows()[0];
    assert_eq!(row.text(), "漢字🙂!");
    assert_eq!(row.status, "COMPLETED");
    assert_eq!(row.attempts(), [(1, "FAILED".to_owned()), (2, "COMPLETED".to_owned())]);
    let told = json!({"messages": [{"subtask_id": "msg_a", "message_id": 1, "turn_id": "trn_1",
        "kind": "answer", "status": "COMPLETED", "content": "漢字🙂!",
        "blocks": [{"id": "1.1.1", "type": "text", "content": "漢字🙂"},
            {"id": "1.1.2", "type": "tool", "status": "done", "tool_output": "7"},
            {"id": "1.2.1", "type": "text", "content": "!"}],
        "attempts": [{"attempt": 1, "status": "FAILED",
            "interrupted": [{"id": "1.1.3", "type": "text", "content": "half of"}]},
            {"attempt": 2, "status": "COMPLETED"}]}]});
    assert_eq!(fold.differences(std::slice::from_ref(&told)), [] as [String; 0]);
    let mut mixed = told;
    mixed["messages"][0]["content"] = "漢字🙂half of!".into();
    assert_eq!(fold.differences(&[mixed]).len(), 1, "another text is found");
}

#[test]
fn faults_are_found() {
    let start = |keeps: u64, offset: u64| {
        event(8, "chat:start", json!({"attempt": 2, "keeps": keeps, "offset": offset}))
    };
    let done =
        |sha: &str| event(7, "chat:done", json!({"attempt": 1, "offset": 10, "sha256": sha}));
    let bad: Vec<(&str, Vec<Event>)> = vec![
        ("a gap", vec![text(8, 1, "1.1.3", 10, "x")]),
        ("a wrong offset", vec![text(7, 1, "1.1.3", 9, "x")]),
        ("text of an attempt that is over", vec![lost(7), text(8, 1, "1.1.3", 10, "x")]),
        ("text of an attempt to come", vec![text(7, 2, "1.1.3", 10, "x")]),
        (
            "an attempt beside another",
            vec![event(7, "chat:start", json!({"attempt": 2, "keeps": 0, "offset": 0}))],
        ),
        ("an offset that cuts text in two", vec![lost(7), start(7, 5)]),
        ("keeping what is to come", vec![lost(7), start(8, 10)]),
        ("another answer's hash", vec![done(&hash("something else"))]),
        (
            "two ends",
            vec![done(&hash("漢字🙂half of")), event(8, "chat:cancelled", json!({"attempt": 1}))],
        ),
        ("an unknown event", vec![event(7, "chat:news", json!({}))]),
    ];
    assert_eq!(Fold::of(&story(vec![done(&hash("漢字🙂half of"))])).faults(), &[] as &[String]);
    for (what, rest) in bad {
        assert_eq!(Fold::of(&story(rest)).faults().len(), 1, "{what}");
    }
}

#[test]
fn late_pieces_change_nothing_and_an_edit_removes() {
    let mut piece = text(8, 1, "1.1.3", 10, " late");
    piece.data["late"] = true.into();
    let edited = json!({"message_id": 1, "removed": ["msg_a"]});
    let mut events = story(vec![event(7, "chat:cancelled", json!({"attempt": 1})), piece]);
    let fold = Fold::of(&events);
    assert_eq!(fold.faults(), &[] as &[String]);
    assert_eq!(fold.rows()[0].text(), "漢字🙂half of");
    assert_eq!(fold.rows()[0].status, "CANCELLED");
    events.push(event(9, "chat:edited", edited));
    assert!(Fold::of(&events).rows().is_empty());
}
