//! Bad input: a clear refusal, nothing changed, the node healthy.

use serde_json::{Value, json};
use troupe_gateway::live;

use crate::{node::Node, sio::Sio};

#[tokio::test]
async fn every_event_refuses_invalid_payloads_and_changes_nothing() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    let deep = (0..80).fold(json!(1), |inner, _| json!([inner]));
    let sent = node.tasks.sent.lock().unwrap().len();
    for op in live::ops() {
        for payload in [
            json!(null),
            json!([]),
            json!("text"),
            json!(7),
            json!({ "task_id": 7, "token": 7 }),
            json!({ "task_id": "tsk_short", "token": [] }),
            json!({ "task_id": { "$gt": "" }, "op": {}, "token": {} }),
            json!({ "task_id": task, "deep": deep, "token": "x" }),
        ] {
            let ack = sio.ask(op.name, payload.clone()).await;
            let error = ack["error"].as_str().unwrap_or_else(|| panic!("{} {ack}", op.name));
            assert!(!error.is_empty() && ack["code"].is_string(), "{} {payload}: {ack}", op.name);
        }
    }
    let ack = sio.ask("chat:send", json!({ "message": 7 })).await;
    let error = ack["error"].as_str().unwrap();
    assert!(error.starts_with("Invalid payload: message: "), "{error}");
    assert_eq!(ack["problem"]["errors"][0]["path"], "message");
    let ack = sio.ask("no:such", json!({})).await;
    assert_eq!(ack["code"], "unknown_event");
    let ack = sio.ask("chat:resume", json!({ "task_id": task })).await;
    assert_eq!(ack["code"], "invalid", "neither seq nor row");
    let long = "x".repeat(60_001);
    let ack = sio.ask("chat:send", json!({ "task_id": task, "message": long })).await;
    assert_eq!(ack["code"], "payload_too_large");
    assert_eq!(node.tasks.sent.lock().unwrap().len(), sent, "nothing was sent");
    assert_eq!(node.get(&ann, "/health").await.0, 200);
}

#[tokio::test]
async fn packets_that_are_none_do_not_hurt_others() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    for packet in [
        "42/chat,1",
        "42/chat,1[]",
        "42/chat,1[7]",
        "42/chat,1{\"a\":1}",
        "42/chat,1[\"chat:send\"]",
        "451-/chat,1[\"chat:send\",{\"_placeholder\":true,\"num\":0}]",
        "9",
        "",
        "42/other,1[\"chat:send\",{}]",
        "43/chat,99[1]",
        "41/chat,",
        &format!("42/chat,1[\"chat:send\",{}]", "[".repeat(5_000)),
    ] {
        let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
        sio.raw(packet).await;
        drop(sio);
    }
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    let huge = "x".repeat(2 * 1024 * 1024);
    let packet = format!("42/chat,1{}", json!(["chat:send", { "message": huge }]));
    sio.raw(&packet).await;
    sio.until_closed().await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    let ack = sio.ask("task:join", json!({ "task_id": task })).await;
    assert!(ack["head"].is_u64());
}

#[tokio::test]
async fn a_flood_of_operations_is_bounded_and_answered() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let mut sio = Sio::connect(&node, &ann.token).await.unwrap();
    for _ in 0..2_000 {
        sio.emit("task:leave", &json!({ "task_id": "nothing" })).await;
    }
    // The connection lives, whatever was refused; who floods may miss acks of refusals.
    let served = async {
        loop {
            let asking = sio.ask("chat:send", json!({ "message": "still here" }));
            match tokio::time::timeout(std::time::Duration::from_secs(1), asking).await {
                Ok(ack) if ack["task_id"].is_string() => return,
                Ok(ack) => assert_eq!(ack["code"], "overloaded", "{ack}"),
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(crate::node::DEADLINE, served).await.expect("it is served again");
}

#[tokio::test]
async fn bodies_are_refused_with_the_place_of_the_fault() {
    let mut node = Node::start().await;
    let (admin, ann, _) = node.people().await;
    let task = node.task(&ann).await;
    let post = |path: &str, kind: &str, body: String| {
        let request = node.http.post(node.at(path)).bearer_auth(&ann.token);
        let request = request.header("content-type", kind).body(body);
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(kind, "application/problem+json");
            assert_eq!(problem["status"], status);
            assert!(problem["request_id"].is_string() && problem["detail"].is_string());
            (status, problem)
        }
    };
    let json_type = "application/json";
    let (status, _) = post("/api/v1/tasks", "text/plain", "{}".into()).await;
    assert_eq!(status, 415);
    let (status, problem) = post("/api/v1/tasks", json_type, "{\"message\": ".into()).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("malformed")));
    let (status, problem) = post("/api/v1/tasks", json_type, "{\"message\": []}".into()).await;
    assert_eq!((status, problem["errors"][0]["path"].as_str()), (422, Some("message")));
    assert_eq!(problem["errors"][0]["line"], 1);
    let deep = format!("{{\"message\": {}", "[".repeat(100_000));
    let (status, problem) = post("/api/v1/tasks", json_type, deep).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("too_deep")));
    let large = format!("{{\"message\": \"{}\"}}", "x".repeat(10 * 1024 * 1024));
    let (status, problem) = post("/api/v1/tasks", json_type, large).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("payload_too_large")));
    let (status, problem) =
        post("/api/v1/tasks", json_type, format!("{{\"task_id\": \"{task}\"}}")).await;
    assert_eq!((status, problem["errors"][0]["path"].as_str()), (422, Some("task_id")));
    let other = troupe_types::TaskId::derived(&["other"]);
    let (status, _) = post(
        &format!("/api/v1/tasks/{task}/messages"),
        json_type,
        format!("{{\"task_id\": \"{other}\", \"message\": \"x\"}}"),
    )
    .await;
    assert_eq!(status, 422, "path and body name different Tasks");
    let (status, problem) = node.get(&ann, "/api/v1/tasks?limit=many").await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("invalid")));
    let (status, _) = node.get(&ann, "/api/v1/tasks?status=RUNNING,NONE").await;
    assert_eq!(status, 422);
    let unknown = json!({ "user_name": "carl", "password": "long-enough", "is_admin": true });
    let (status, problem) = node.post(&admin, "/api/v1/users", unknown).await;
    assert_eq!(status, 422, "unknown fields of users are errors: {problem}");
    let (status, _) = post("/api/v1/apply", "application/yaml", String::new()).await;
    assert_eq!(status, 422);
}
