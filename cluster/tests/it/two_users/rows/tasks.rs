//! Tasks, and what is said to them.

use serde_json::{Value, json};

use super::{Call, Check, Row, at, hidden, nowhere, row};
use crate::two_users::world::{FIRST, Ids};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = reads();
    rows.extend(new());
    rows.extend(writes());
    rows.extend(steers());
    rows
}

/// Whatever state it is in.
fn any(i: &Ids) -> Vec<Call> {
    ["task", "gated", "running", "asking"].map(|task| at([&i[task]])).into()
}

fn reads() -> Vec<Row> {
    vec![
        row(
            "list_tasks",
            [Check::Own(|_| {
                let queries =
                    ["", "asks=true", "text=ulla", "status=running,completed", "limit=100"];
                queries.map(|query| at([]).query(query)).into()
            })],
        ),
        row("list_asks", [Check::Own(|_| vec![at([])])]),
        row("get_task", [hidden(any)]),
        row(
            "join_task",
            [hidden(|i| {
                let queries = ["", "turns=5", "after_message_id=0"];
                queries.map(|query| at([&i["task"]]).query(query)).into()
            })],
        ),
        row("list_turns", [hidden(any)]),
        row(
            "list_frames",
            [hidden(|i| {
                let queries = ["", "after=3", "after=1000000"];
                queries.map(|query| at([&i["task"]]).query(query)).into()
            })],
        ),
        row("why_task", [hidden(any)]),
        row("get_stage", [hidden(|i| vec![at([&i["gated"]])])]),
    ]
}

/// A new Task with one more field.
fn with(field: &str, value: &str) -> Call {
    let mut body = json!({"team_id": "assistant", "message": "hello"});
    body[field] = json!(value);
    at([]).json(body)
}

fn new() -> Vec<Row> {
    vec![row(
        "create_task",
        [
            hidden(|i| {
                vec![with("team_id", &i["team"]), with("force_override_bot_model", &i["model"])]
            }),
            // Her device is waited for like one that will never be.
            Check::Alike(201, |i| {
                vec![
                    with("device_id", &i["device_name"]),
                    with("client_message_id", &i["client_message_id"]),
                ]
            }),
        ],
    )]
}

fn writes() -> Vec<Row> {
    vec![
        row(
            "patch_task",
            [hidden(|i| {
                let change = json!({"title": "taken", "labels": {"taken": "yes"}});
                any(i).into_iter().map(|call| call.json(change.clone())).collect()
            })],
        ),
        row(
            "send_message",
            [hidden(|i| {
                let key = &i["client_message_id"];
                vec![
                    at([&i["task"]]).json(json!({"message": "hello"})),
                    // Her own words under her own key: the answer would be her ack.
                    at([&i["task"]]).json(json!({"message": FIRST, "client_message_id": key})),
                    at([&i["running"]]).json(json!({"message": "hello"})),
                ]
            })],
        ),
        row(
            "answer_block",
            [hidden(|i| {
                let answer = json!({"block_id": i["block"], "answer": "allow"});
                vec![at([&i["asking"]]).json(answer)]
            })],
        ),
        row(
            "retry_message",
            [
                hidden(|i| vec![at([&i["task"]]).json(json!({"subtask_id": i["answer"]}))]),
                nowhere(404, |i| vec![at([&i["mine"]]).json(json!({"subtask_id": i["answer"]}))]),
            ],
        ),
        row(
            "edit_message",
            [
                hidden(|i| vec![at([&i["task"]]).json(edit(i))]),
                nowhere(404, |i| vec![at([&i["mine"]]).json(edit(i))]),
            ],
        ),
    ]
}

fn edit(i: &Ids) -> Value {
    json!({"subtask_id": i["row"], "message": "taken"})
}

fn steers() -> Vec<Row> {
    vec![
        row(
            "confirm_stage",
            [hidden(|i| {
                let bodies = [json!({}), json!({"message": "x"})];
                bodies.map(|body| at([&i["gated"]]).json(body)).into()
            })],
        ),
        row(
            "edit_queue",
            [
                hidden(|i| {
                    let ops = [
                        json!({"op": "replace", "subtask_id": i["queued"], "message": "taken"}),
                        json!({"op": "reorder", "order": [i["queued"]]}),
                        json!({"op": "remove", "subtask_id": i["queued"]}),
                        json!({"op": "resume"}),
                    ];
                    ops.map(|op| at([&i["running"]]).json(op)).into()
                }),
                nowhere(404, |i| {
                    let op = json!({"op": "remove", "subtask_id": i["queued"]});
                    vec![at([&i["mine"]]).json(op)]
                }),
            ],
        ),
        row("cancel_task", [hidden(|i| ["running", "asking"].map(|task| at([&i[task]])).into())]),
        row("delete_task", [hidden(any)]),
    ]
}
