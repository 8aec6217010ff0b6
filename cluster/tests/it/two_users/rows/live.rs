//! The operations of Socket.IO and of the stream.

use serde_json::{Value, json};

use crate::two_users::world::{FIRST, Ids};

/// Payloads of one operation.
pub(in crate::two_users) type Payloads = fn(&Ids) -> Vec<Value>;

/// What is asked of a live operation.
#[derive(Clone, Copy, Debug)]
pub(in crate::two_users) enum LiveCheck {
    /// It names nothing that could be somebody else's: why.
    Nothing(&'static str),
    /// It is refused with this code, exactly alike for what is hers and for what nobody has.
    Hidden {
        code: &'static str,
        payloads: Payloads,
        /// It only reads, and gives her what she asks for.
        reads: bool,
    },
    /// It is done, and says nothing.
    Alike(Payloads),
}

/// An operation by its name.
pub(in crate::two_users) type LiveRow = (&'static str, Vec<LiveCheck>);

const fn hidden(payloads: Payloads) -> LiveCheck {
    LiveCheck::Hidden { code: "not_found", payloads, reads: false }
}

const fn read(payloads: Payloads) -> LiveCheck {
    LiveCheck::Hidden { code: "not_found", payloads, reads: true }
}

pub(in crate::two_users) fn live() -> Vec<LiveRow> {
    let mut rows = reads();
    rows.extend(writes());
    rows.extend(steers());
    rows
}

/// Of her Task, and of one's own with what is hers.
fn of_row(i: &Ids, task: &str, row: &str) -> [Value; 2] {
    [&i[task], &i["mine"]].map(|task| json!({"task_id": task, "subtask_id": i[row]}))
}

fn with(mut payload: Value, field: &str, value: impl Into<Value>) -> Value {
    payload[field] = value.into();
    payload
}

fn reads() -> Vec<LiveRow> {
    vec![
        (
            "task:join",
            vec![read(|i| {
                let tasks = ["task", "gated", "running", "asking"];
                tasks.map(|task| json!({"task_id": i[task]})).into()
            })],
        ),
        ("task:leave", vec![LiveCheck::Alike(|i| vec![json!({"task_id": i["running"]})])]),
        (
            "chat:resume",
            vec![
                read(|i| {
                    let after = |seq: u64| json!({"task_id": i["running"], "after": seq});
                    let [hers, _] = of_row(i, "task", "answer");
                    let text = with(with(hers, "offset", 2), "attempt", 1);
                    vec![after(0), after(2), text]
                }),
                hidden(|i| {
                    let [_, mine] = of_row(i, "task", "answer");
                    vec![with(mine, "offset", 0)]
                }),
            ],
        ),
        (
            "history:sync",
            vec![read(|i| vec![json!({"task_id": i["task"], "after_message_id": 0})])],
        ),
        ("auth:refresh", vec![LiveCheck::Nothing("whoever has the token is its user")]),
    ]
}

fn writes() -> Vec<LiveRow> {
    vec![
        (
            "chat:send",
            vec![hidden(|i| {
                let key = &i["client_message_id"];
                vec![
                    json!({"task_id": i["task"], "message": "hello"}),
                    // Her own words under her own key: the answer would be her ack.
                    json!({"task_id": i["task"], "message": FIRST, "client_message_id": key}),
                    json!({"task_id": i["gated"], "message": "", "action": "pipeline:confirm"}),
                    json!({"team_id": i["team"], "message": "hello"}),
                ]
            })],
        ),
        (
            "chat:edit",
            vec![hidden(|i| {
                of_row(i, "task", "row").map(|payload| with(payload, "message", "taken")).into()
            })],
        ),
        ("chat:retry", vec![hidden(|i| of_row(i, "task", "answer").into())]),
    ]
}

fn steers() -> Vec<LiveRow> {
    vec![
        (
            "chat:answer",
            vec![hidden(|i| {
                vec![json!({"task_id": i["asking"], "block_id": i["block"], "answer": "allow"})]
            })],
        ),
        (
            "queue:edit",
            vec![hidden(|i| {
                of_row(i, "running", "queued").map(|payload| with(payload, "op", "remove")).into()
            })],
        ),
        (
            "chat:cancel",
            vec![
                hidden(|i| {
                    let [hers, _] = of_row(i, "running", "running_row");
                    let row = json!({"subtask_id": i["running_row"]});
                    vec![json!({"task_id": i["running"]}), hers, row]
                }),
                LiveCheck::Hidden {
                    code: "wrong_state",
                    payloads: |i| of_row(i, "running", "running_row")[1..].to_vec(),
                    reads: false,
                },
            ],
        ),
    ]
}
