//! A small Socket.IO client over a bare WebSocket, so that each packet is seen as it is.

use std::collections::VecDeque;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::node::{DEADLINE, Node};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Sio {
    socket: Socket,
    last_ack: i64,
    events: VecDeque<(String, Value)>,
    acks: VecDeque<(i64, Value)>,
    /// The server ended the namespace or the connection.
    pub(crate) is_closed: bool,
}

impl Sio {
    /// Connects to `/chat`; `Err` is what `connect_error` says.
    pub(crate) async fn connect(node: &Node, token: &str) -> Result<Self, String> {
        Self::with_auth(node, &json!({ "token": token })).await
    }

    pub(crate) async fn with_auth(node: &Node, auth: &Value) -> Result<Self, String> {
        let url = node.url.replace("http://", "ws://");
        let url = format!("{url}/socket.io/?EIO=4&transport=websocket");
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
        let (mut socket, _) = connecting.await.unwrap();
        let open = next_text(&mut socket).await.expect("an open packet");
        assert!(open.starts_with('0'), "{open}");
        socket.send(Message::text(format!("40/chat,{auth}"))).await.unwrap();
        let mut answer = next_text(&mut socket).await.expect("an answer to connect");
        while answer == "2" {
            socket.send(Message::text("3")).await.unwrap();
            answer = next_text(&mut socket).await.expect("an answer to connect");
        }
        if let Some(error) = answer.strip_prefix("44/chat,") {
            let error: Value = serde_json::from_str(error).unwrap();
            return Err(error["message"].as_str().unwrap().to_owned());
        }
        assert!(answer.starts_with("40/chat,"), "{answer}");
        let (events, acks) = (VecDeque::new(), VecDeque::new());
        Ok(Self { socket, last_ack: 0, events, acks, is_closed: false })
    }

    /// Sends an event without waiting for its ack.
    pub(crate) async fn emit(&mut self, name: &str, payload: &Value) -> i64 {
        self.last_ack += 1;
        let packet = format!("42/chat,{}{}", self.last_ack, json!([name, payload]));
        self.socket.send(Message::text(packet)).await.unwrap();
        self.last_ack
    }

    /// Sends a raw packet.
    pub(crate) async fn raw(&mut self, packet: &str) {
        self.socket.send(Message::text(packet.to_owned())).await.unwrap();
    }

    /// Sends an event and waits for its ack.
    pub(crate) async fn ask(&mut self, name: &str, payload: Value) -> Value {
        let number = self.emit(name, &payload).await;
        self.ack(number).await
    }

    pub(crate) async fn ack(&mut self, number: i64) -> Value {
        loop {
            if let Some(at) = self.acks.iter().position(|(n, _)| *n == number) {
                return self.acks.remove(at).unwrap().1;
            }
            assert!(self.read().await, "closed before the ack of {number}");
        }
    }

    /// Drops events that came before the last ack.
    pub(crate) fn forget(&mut self) {
        self.events.clear();
    }

    /// The next event; `None` if the server ended it.
    pub(crate) async fn event(&mut self) -> Option<(String, Value)> {
        while self.events.is_empty() {
            if !self.read().await {
                return None;
            }
        }
        self.events.pop_front()
    }

    /// The next event of a name, others are dropped.
    pub(crate) async fn event_named(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.event().await.unwrap_or_else(|| panic!("no {name}"));
            if event == name {
                return data;
            }
        }
    }

    /// The next event that is a frame.
    pub(crate) async fn frame(&mut self) -> Option<(String, Value)> {
        loop {
            let (event, data) = self.event().await?;
            if data.get("seq").is_some() {
                return Some((event, data));
            }
        }
    }

    /// Waits until the server ends it; whatever comes before is dropped, frames are counted.
    pub(crate) async fn until_closed(&mut self) -> usize {
        let mut frames = 0;
        while let Some((_, data)) = self.event().await {
            frames += usize::from(data.get("seq").is_some());
        }
        frames
    }

    async fn read(&mut self) -> bool {
        if self.is_closed {
            return false;
        }
        let Some(text) = next_text(&mut self.socket).await else {
            self.is_closed = true;
            return false;
        };
        if text == "2" {
            self.socket.send(Message::text("3")).await.unwrap();
        } else if let Some(packet) = text.strip_prefix("42/chat,") {
            let mut packet: Vec<Value> = serde_json::from_str(packet).unwrap();
            let data = if packet.len() > 1 { packet.remove(1) } else { Value::Null };
            self.events.push_back((packet[0].as_str().unwrap().to_owned(), data));
        } else if let Some(ack) = text.strip_prefix("43/chat,") {
            let start = ack.find('[').unwrap();
            let mut data: Vec<Value> = serde_json::from_str(&ack[start..]).unwrap();
            self.acks.push_back((ack[..start].parse().unwrap(), data.remove(0)));
        } else if text.starts_with("41/chat") || text == "1" {
            self.is_closed = true;
            return false;
        }
        true
    }
}

async fn next_text(socket: &mut Socket) -> Option<String> {
    loop {
        let message = tokio::time::timeout(DEADLINE, socket.next()).await.expect("in time");
        match message {
            Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}
