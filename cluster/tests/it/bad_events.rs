//! Wrong types on every client event of the stream, and garbage on the wire.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use troupe_api::chat::CLIENT_EVENTS;

use crate::{
    node::{Home, Node, PATIENCE, Person},
    stream::{Said, Socket},
};

/// What is wrong in its place, whatever the place.
fn wrong() -> Vec<Value> {
    vec![json!(7), json!(-1.5), json!(true), json!([]), json!({"a": 1}), json!("no such thing")]
}

/// For every event: a payload with all its fields, and the fields whose type is checked.
fn rows(task: &str, row: &str) -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let of_task = json!({"task_id": task});
    let queue = json!({"op": "remove", "task_id": task, "subtask_id": row});
    vec![
        (
            "chat:send",
            json!({"task_id": task, "message": "hi"}),
            vec!["task_id", "message", "team_id", "client_message_id", "action"],
        ),
        ("chat:cancel", of_task.clone(), vec!["task_id", "subtask_id"]),
        (
            "chat:resume",
            json!({"task_id": task, "after": 0}),
            vec!["task_id", "after", "subtask_id", "offset", "attempt"],
        ),
        ("chat:retry", json!({"task_id": task, "subtask_id": row}), vec!["task_id", "subtask_id"]),
        (
            "chat:edit",
            json!({"task_id": task, "subtask_id": row, "message": "hi"}),
            vec!["task_id", "subtask_id", "message"],
        ),
        (
            "chat:answer",
            json!({"task_id": task, "block_id": "2.1.1", "answer": "allow"}),
            vec!["task_id", "block_id", "answer"],
        ),
        ("task:join", of_task.clone(), vec!["task_id", "turns", "after_message_id"]),
        ("task:leave", of_task, vec!["task_id"]),
        ("queue:edit", queue, vec!["op", "task_id", "subtask_id"]),
        ("auth:refresh", json!({"token": "nonsense"}), vec!["token"]),
        (
            "history:sync",
            json!({"task_id": task, "after_message_id": 0}),
            vec!["task_id", "after_message_id"],
        ),
    ]
}

struct Table {
    _home: Home,
    node: Node,
    who: Person,
    task: String,
    row: String,
}

impl Table {
    async fn new() -> Result<Self> {
        let home = Home::new()?;
        let node = Node::start(&home).await?;
        let who = node.setup().await?;
        let task = node.run(&who, "assistant", "What can you do?").await?;
        node.settled(&who, &task, "COMPLETED").await?;
        let (_, turns) = node.turns(&who, &task).await?;
        let row = turns[0]["messages"][0]["subtask_id"].as_str().context("no row")?.to_owned();
        Ok(Self { _home: home, node, who, task, row })
    }

    async fn head(&self) -> Result<Value> {
        Ok(self.node.task(&self.who, &self.task).await?["head"].clone())
    }
}

/// Refused with a sentence, a code, and the field where there is one.
fn assert_refused(what: &str, ack: &Value) {
    let sentence = ack["error"].as_str().is_some_and(|e| !e.is_empty());
    let code = ack["code"].as_str().is_some_and(|c| !c.is_empty());
    assert!(sentence && code, "{what}: {ack}");
    let status = ack["problem"]["status"].as_u64().unwrap_or(0);
    assert!((400..500).contains(&status), "{what} is the client's fault: {ack}");
}

#[tokio::test]
async fn wrong_types_on_every_event_are_refused_and_change_nothing() -> Result<()> {
    let table = Table::new().await?;
    let rows = rows(&table.task, &table.row);
    let covered: Vec<&str> = rows.iter().map(|(event, ..)| *event).collect();
    assert_eq!(covered, CLIENT_EVENTS, "every event has a row here");
    let head = table.head().await?;
    let mut socket = Socket::open(&table.node.url, &table.who.token).await?;
    for (event, payload, fields) in rows {
        for field in &fields {
            for bad in wrong() {
                let fits_type = bad.is_string() && ["message", "token", "block_id"].contains(field);
                let is_count = ["turns", "after", "offset", "attempt", "after_message_id"];
                if fits_type || (bad == 7 && is_count.contains(field)) {
                    continue;
                }
                let mut payload = payload.clone();
                payload[*field] = bad.clone();
                let what = format!("{event} with {field}: {bad}");
                assert_refused(&what, &call_raw(&mut socket, event, payload).await?);
            }
        }
        let missing = call_raw(&mut socket, event, json!({})).await?;
        assert_refused(&format!("{event} without anything"), &missing);
    }
    assert_eq!(table.head().await?, head, "nothing changed");
    table.node.assert_well(&table.who).await
}

/// As [`Socket::call`], but `op` of the payload (as `queue:edit` has one) stays beside the event.
async fn call_raw(socket: &mut Socket, event: &str, mut payload: Value) -> Result<Value> {
    if event == "queue:edit" {
        payload = json!({"data": payload});
    }
    socket.call(event, payload).await.with_context(|| event.to_owned())
}

#[tokio::test]
async fn the_right_types_on_every_event_are_taken() -> Result<()> {
    let table = Table::new().await?;
    let mut socket = Socket::open(&table.node.url, &table.who.token).await?;
    for (event, payload, _) in rows(&table.task, &table.row) {
        let ack = call_raw(&mut socket, event, payload).await?;
        let status = ack["problem"]["status"].as_u64().unwrap_or(200);
        // It may be too late for it, or no such message may wait; but it was understood.
        let expected: &[u64] = match event {
            "auth:refresh" => &[401],
            "chat:cancel" => &[200, 409],
            "chat:retry" | "chat:edit" => &[200, 409],
            "queue:edit" => &[404, 409],
            // Nothing was asked.
            "chat:answer" => &[409],
            _ => &[200],
        };
        assert!(expected.contains(&status), "{event}: {ack}");
    }
    table.node.rests(&table.who, &table.task).await?;
    table.node.assert_fold(&table.who, &table.task).await?;
    Ok(())
}

#[tokio::test]
async fn foreign_and_unknown_ids_answer_alike_on_every_event() -> Result<()> {
    let table = Table::new().await?;
    let other = table.node.user(&table.who, "eve").await?;
    let unknown = troupe_types::TaskId::derived(&["nobody's"]).to_string();
    let mut socket = Socket::open(&table.node.url, &other.token).await?;
    for (event, payload, fields) in rows(&table.task, &table.row) {
        if !fields.contains(&"task_id") {
            continue;
        }
        let foreign = call_raw(&mut socket, event, payload.clone()).await?;
        let mut never = payload;
        never["task_id"] = unknown.clone().into();
        let never = call_raw(&mut socket, event, never).await?;
        let hide = |ack: &Value| ack.to_string().replace(&table.task, "X").replace(&unknown, "X");
        let strip = |ack: &Value| {
            let mut ack = ack.clone();
            ack["problem"]["request_id"] = Value::Null;
            hide(&ack)
        };
        assert_eq!(strip(&foreign), strip(&never), "{event}");
        if event != "task:leave" {
            assert_eq!(foreign["code"], "not_found", "{event}: {foreign}");
        }
    }
    Ok(())
}

type Deed = fn(Socket) -> BoxFuture<'static, Result<Socket>>;

/// What is thrown at a stream that is logged in. It may answer or close, never harm the node.
fn garbage() -> Vec<(&'static str, Deed)> {
    async fn throw(mut socket: Socket, message: Message) -> Result<Socket> {
        // A node that has closed already refuses to take more.
        let _ = socket.send(message).await;
        Ok(socket)
    }
    vec![
        ("no JSON", |s| Box::pin(throw(s, Message::text("}{")))),
        ("not an object", |s| Box::pin(throw(s, Message::text("[1, 2]")))),
        ("no op", |s| Box::pin(throw(s, Message::text("{\"id\": 1}")))),
        ("an unknown op", |s| {
            Box::pin(throw(s, Message::text("{\"op\": \"chat:sing\", \"id\": 1}")))
        }),
        ("an op of another type", |s| {
            Box::pin(throw(s, Message::text("{\"op\": {\"a\": 1}, \"id\": {}}")))
        }),
        ("bytes", |s| Box::pin(throw(s, Message::binary(Bytes::from_static(&[0xff; 64]))))),
        ("deep nesting", |s| {
            let deep = format!(
                "{{\"op\": \"chat:send\", \"id\": 1, \"message\": {}1{}}}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            );
            Box::pin(throw(s, Message::text(deep)))
        }),
        ("far too much", |s| {
            let long = format!(
                "{{\"op\": \"chat:send\", \"id\": 1, \"message\": \"{}\"}}",
                "x".repeat(10 * 1024 * 1024)
            );
            Box::pin(throw(s, Message::text(long)))
        }),
        ("an endless ping", |s| Box::pin(throw(s, Message::Ping(Bytes::from_static(&[1; 125]))))),
    ]
}

#[tokio::test]
async fn garbage_on_the_wire_harms_nobody() -> Result<()> {
    let table = Table::new().await?;
    let head = table.head().await?;
    let mut neighbour = Socket::open(&table.node.url, &table.who.token).await?;
    for (what, throw) in garbage() {
        let socket = Socket::open(&table.node.url, &table.who.token).await?;
        let mut socket = throw(socket).await?;
        // Still there, or closed: but it answers something or ends, it never hangs.
        let ask = socket.call("task:join", json!({"task_id": table.task, "turns": 0}));
        let alive = tokio::time::timeout(PATIENCE, ask).await;
        assert!(alive.is_ok(), "{what}: neither an answer nor an end");
        let ack = neighbour.call("task:join", json!({"task_id": table.task, "turns": 0})).await?;
        assert!(ack["error"].is_null(), "{what}: the neighbour gets {ack}");
    }
    assert_eq!(table.head().await?, head, "nothing changed");
    table.node.assert_well(&table.who).await
}

#[tokio::test]
async fn before_the_login_nothing_is_told() -> Result<()> {
    let table = Table::new().await?;
    let attempts = [
        json!({"op": "task:join", "id": 1, "task_id": table.task}),
        json!({"op": "auth", "id": 1, "token": "trp_nonsense"}),
        json!({"op": "auth", "id": 1, "token": 7}),
        json!({"op": "auth", "id": 1}),
    ];
    for attempt in attempts {
        let mut socket = Socket::connect(&table.node.url).await?;
        socket.send(Message::text(attempt.to_string())).await?;
        let mut said = Vec::new();
        while let Some(one) = socket.read(Duration::from_secs(40)).await? {
            said.push(one);
            if said.len() > 3 {
                break;
            }
        }
        let told = said.iter().any(|one| match one {
            Said::Ack { data, .. } => data["error"].is_null(),
            Said::Event { name, .. } => !name.starts_with("auth:"),
        });
        assert!(!told, "{attempt} is answered with {said:?}");
    }
    table.node.assert_well(&table.who).await
}
