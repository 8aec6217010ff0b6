//! A node that says what a test has it say, one request after another.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::client::Client;

/// For everything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where it listens.
pub(crate) struct FakeNode {
    listener: TcpListener,
}

impl FakeNode {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    pub(crate) fn client(&self) -> Client {
        Client::anonymous(&self.url(), None).unwrap()
    }

    /// The next request; each has a connection of its own, as answers close theirs.
    pub(crate) async fn next(&self) -> Asked {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut head = vec![0; 4_096];
        stream.readable().await.unwrap();
        let seen = stream.peek(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..seen]).into_owned();
        Asked { stream, head }
    }

    /// The same, of this path.
    pub(crate) async fn asked(&self, path: &str) -> Asked {
        let asked = self.next().await;
        assert_eq!(asked.path(), path);
        asked
    }

    /// A stream whose caller is told to go.
    pub(crate) async fn turned_away(&self, why: &Value) {
        let asked = self.asked("/api/v1/stream").await;
        let mut stream = Stream(tokio_tungstenite::accept_async(asked.stream).await.unwrap());
        stream.0.next().await.unwrap().unwrap();
        stream.event("auth:error", why).await;
        stream.0.close(None).await.unwrap();
    }

    /// A stream of somebody who resumed a Task after a frame.
    pub(crate) async fn resumed(&self, after: u64, ack: &Value) -> Stream {
        let asked = self.asked("/api/v1/stream").await;
        let mut stream = Stream(tokio_tungstenite::accept_async(asked.stream).await.unwrap());
        stream.ack("auth", &json!({"success": true})).await;
        let resume = stream.ack("chat:resume", ack).await;
        assert_eq!(resume["after"], after, "{resume}");
        stream
    }
}

/// A request.
pub(crate) struct Asked {
    stream: TcpStream,
    pub(crate) head: String,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) async fn answer(self, status: u16, body: &Value) {
        self.begin(status, &format!("{body}\n")).await.end().await;
    }

    /// Begins an answer that lasts as long as the connection.
    pub(crate) async fn begin(mut self, status: u16, body: &str) -> Self {
        let (head, end) = self.head.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
        });
        let length: usize = length.map_or(0, |text| text.parse().unwrap());
        let whole = self.head.len() - end.len() + length;
        self.stream.read_exact(&mut vec![0; whole]).await.unwrap();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
        let answer = format!("{head}connection: close\r\n\r\n{body}");
        self.stream.write_all(answer.as_bytes()).await.unwrap();
        self
    }

    pub(crate) async fn end(mut self) {
        self.stream.shutdown().await.unwrap();
    }
}

/// A stream of events.
pub(crate) struct Stream(WebSocketStream<TcpStream>);

impl Stream {
    async fn ack(&mut self, op: &str, data: &Value) -> Value {
        let asked = self.0.next().await.unwrap().unwrap().into_text().unwrap();
        let asked: Value = serde_json::from_str(&asked).unwrap();
        assert_eq!(asked["op"], op, "{asked}");
        self.say(&json!({"ack": asked["id"], "data": data})).await;
        asked
    }

    pub(crate) async fn event(&mut self, name: &str, data: &Value) {
        self.say(&json!({"ev": name, "data": data})).await;
    }

    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }
}
