//! A bare Socket.IO client, so that each packet is seen as it is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection to `/chat`.
pub(super) struct Sio {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_ack: u64,
    events: VecDeque<(String, Value)>,
}

/// What one packet was.
enum Packet {
    Event,
    Ack(u64, Value),
    Other,
    End,
}

impl Sio {
    /// The inner error is what `connect_error` says.
    pub(super) async fn connect(url: &str, token: &str) -> Result<Result<Self, String>> {
        let url = url.replacen("http", "ws", 1);
        let url = format!("{url}/socket.io/?EIO=4&transport=websocket");
        let connecting = tokio_tungstenite::connect_async(url);
        let (socket, _) = tokio::time::timeout(ANSWER_MAX, connecting).await??;
        let mut sio = Self { socket, last_ack: 0, events: VecDeque::new() };
        let auth = json!({"token": token});
        loop {
            let text = sio.text(ANSWER_MAX).await?.context("it ended before it began")?;
            if text.starts_with('0') {
                sio.send(format!("40/chat,{auth}")).await?;
            } else if let Some(error) = text.strip_prefix("44/chat,") {
                let error: Value = serde_json::from_str(error)?;
                return Ok(Err(error["message"].as_str().unwrap_or_default().to_owned()));
            } else if text.starts_with("40/chat,") {
                return Ok(Ok(sio));
            } else {
                ensure!(text == "2", "an unknown packet: {text}");
                sio.send("3".to_owned()).await?;
            }
        }
    }

    /// One operation; its ack, refusals included.
    pub(super) async fn call(&mut self, name: &str, payload: &Value) -> Result<Value> {
        self.last_ack += 1;
        let wanted = self.last_ack;
        self.send(format!("42/chat,{wanted}{}", json!([name, payload]))).await?;
        loop {
            match self.packet(ANSWER_MAX).await? {
                Packet::Ack(number, data) if number == wanted => return Ok(data),
                Packet::End => bail!("it ended before the ack of {name}"),
                _ => {}
            }
        }
    }

    /// Events that came so far and were not taken.
    pub(super) fn taken(&mut self) -> Vec<(String, Value)> {
        self.events.drain(..).collect()
    }

    /// When the last frame of a Task came, until the node ended it or a moment has come.
    pub(super) async fn last_frame(mut self, until: Instant) -> Result<(Option<Instant>, bool)> {
        let mut last = None;
        loop {
            if self.taken().iter().any(|(_, data)| !data["seq"].is_null()) {
                last = Some(Instant::now());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok((last, false));
            }
            match tokio::time::timeout(left, self.packet(ANSWER_MAX)).await {
                Ok(Ok(Packet::End)) => return Ok((last, true)),
                Ok(packet) => drop(packet?),
                Err(_) => return Ok((last, false)),
            }
        }
    }

    async fn packet(&mut self, patience: Duration) -> Result<Packet> {
        let Some(text) = self.text(patience).await? else { return Ok(Packet::End) };
        if text == "2" {
            self.send("3".to_owned()).await?;
        } else if let Some(packet) = text.strip_prefix("42/chat,") {
            let (name, data): (String, Value) = serde_json::from_str(packet)?;
            self.events.push_back((name, data));
            return Ok(Packet::Event);
        } else if let Some(ack) = text.strip_prefix("43/chat,") {
            let (number, data) = ack.split_at(ack.find('[').context("an ack without data")?);
            let (data,): (Value,) = serde_json::from_str(data)?;
            return Ok(Packet::Ack(number.parse()?, data));
        } else if text.starts_with("41/chat") || text == "1" {
            return Ok(Packet::End);
        }
        Ok(Packet::Other)
    }

    async fn send(&mut self, packet: String) -> Result<()> {
        tokio::time::timeout(ANSWER_MAX, self.socket.send(Message::text(packet))).await??;
        Ok(())
    }

    /// `None`: the node ended it.
    async fn text(&mut self, patience: Duration) -> Result<Option<String>> {
        loop {
            match tokio::time::timeout(patience, self.socket.next()).await? {
                Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                Some(Ok(_)) => {}
            }
        }
    }
}
