//! `/api/v1/stream`: the same operations and events over a plain WebSocket.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use troupe_testkit::wait_until;

use crate::node::{DEADLINE, Node};

struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stream {
    async fn open(node: &Node) -> Self {
        let url = format!("{}/api/v1/stream", node.url.replace("http://", "ws://"));
        Self(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    async fn say(&mut self, message: Value) {
        self.text(message.to_string()).await;
    }

    async fn text(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message; `Err` is the close code.
    async fn hear(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.0.next()).await.expect("in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    async fn ack(&mut self, id: Value) -> Value {
        loop {
            let message = self.hear().await.expect("an ack");
            if message.get("ack") == Some(&id) {
                return message["data"].clone();
            }
        }
    }
}

#[tokio::test]
async fn the_stream_has_the_same_operations_and_frames() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let mut stream = Stream::open(&node).await;
    stream.say(json!({ "op": "auth", "id": 0, "token": ann.token })).await;
    assert_eq!(stream.ack(json!(0)).await["user_id"], json!(ann.id));
    stream.say(json!({ "op": "chat:send", "id": "a", "message": "hello" })).await;
    let task = stream.ack(json!("a")).await["task_id"].clone();
    let id = task.as_str().unwrap().parse().unwrap();
    stream.say(json!({ "op": "task:join", "id": 1, "task_id": task })).await;
    let head = stream.ack(json!(1)).await["head"].as_u64().unwrap();
    let seq = node.tasks.say(id, "中").0;
    let frame = loop {
        let message = stream.hear().await.unwrap();
        if message["ev"] == "chat:chunk" {
            break message;
        }
    };
    assert_eq!((frame["data"]["seq"].as_u64(), seq), (Some(head + 1), head + 1));
    stream.say(json!({ "op": "chat:resume", "id": 2, "task_id": task, "after": 0 })).await;
    assert_eq!(stream.ack(json!(2)).await, json!({ "success": true, "head": seq }));
    for expected in 1..=seq {
        let message = stream.hear().await.unwrap();
        assert_eq!(message["data"]["seq"], expected);
    }
    stream.say(json!({ "op": "no:such", "id": 3 })).await;
    assert_eq!(stream.ack(json!(3)).await["code"], "unknown_event");
    stream.text("{not json".into()).await;
    assert_eq!(stream.ack(Value::Null).await["code"], "malformed");
    stream.text(format!("{{\"op\":{}", "[".repeat(10_000))).await;
    assert_eq!(stream.ack(Value::Null).await["code"], "too_deep");
    let mut foreign = Stream::open(&node).await;
    foreign.say(json!({ "op": "auth", "id": 0, "token": bob.token })).await;
    foreign.ack(json!(0)).await;
    foreign.say(json!({ "op": "task:join", "id": 1, "task_id": task })).await;
    assert_eq!(foreign.ack(json!(1)).await["code"], "not_found");
    drop((stream, foreign));
    wait_until(DEADLINE, || async { node.gateway.sockets() == 0 && node.gateway.rooms() == 0 })
        .await;
}

#[tokio::test]
async fn the_first_message_proves_who_it_is() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    for first in [
        json!({ "op": "auth", "token": "x" }),
        json!({ "op": "auth" }),
        json!({ "op": "chat:send", "token": ann.token, "message": "x" }),
        json!([]),
    ] {
        let mut stream = Stream::open(&node).await;
        stream.say(first).await;
        assert_eq!(stream.hear().await.unwrap()["ev"], "auth:error");
        assert_eq!(stream.hear().await, Err(4401));
    }
    let answer = node.http.get(node.at("/api/v1/stream")).send().await.unwrap();
    assert_eq!(answer.status(), 426);
    let mut stream = Stream::open(&node).await;
    stream.say(json!({ "op": "auth", "id": 0, "token": ann.token })).await;
    stream.ack(json!(0)).await;
    let path = "/api/v1/auth/logout";
    let body = json!({ "refresh_token": ann.refresh });
    let out = node.http.post(node.at(path)).json(&body).send().await.unwrap();
    assert_eq!(out.status(), 204);
    let last = stream.hear().await.unwrap();
    assert_eq!(
        (last["ev"].as_str(), last["data"]["code"].as_str()),
        (Some("auth:error"), Some("session_ended"))
    );
    assert!(stream.hear().await.is_err(), "and then it is closed");
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection_only() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let mut stream = Stream::open(&node).await;
    stream.say(json!({ "op": "auth", "id": 0, "token": ann.token })).await;
    stream.ack(json!(0)).await;
    stream.say(json!({ "op": "chat:send", "message": "x".repeat(2 * 1024 * 1024) })).await;
    assert!(stream.hear().await.is_err());
    assert_eq!(node.get(&ann, "/api/v1/users/me").await.0, 200);
}
