//! `/api/v1/stream`, spoken by hand.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};
pub use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::fold::Event;

const ACK_MAX: Duration = Duration::from_secs(30);

/// What the node says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Ack { id: Value, data: Value },
    Event { name: String, data: Value },
}

/// An open stream.
#[derive(Debug)]
pub struct Socket {
    /// When anything came last, answers to pings too.
    pub heard: Instant,
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    early: VecDeque<(String, Value)>,
    next_id: u64,
}

impl Socket {
    /// Not logged in yet.
    pub async fn connect(url: &str) -> Result<Self> {
        let url = format!("{}/api/v1/stream", url.replacen("http", "ws", 1));
        let connecting = tokio_tungstenite::connect_async(url);
        let (stream, _) = tokio::time::timeout(ACK_MAX, connecting).await??;
        Ok(Self { heard: Instant::now(), stream, early: VecDeque::new(), next_id: 0 })
    }

    pub async fn open(url: &str, token: &str) -> Result<Self> {
        let mut socket = Self::connect(url).await?;
        let ack = socket.call("auth", json!({"token": token})).await?;
        if !ack["error"].is_null() {
            bail!("the stream refuses the token: {ack}");
        }
        Ok(socket)
    }

    /// One operation; its ack, errors included. Events meanwhile are kept.
    pub async fn call(&mut self, op: &str, mut payload: Value) -> Result<Value> {
        self.next_id += 1;
        let id = Value::from(self.next_id);
        payload["op"] = op.into();
        payload["id"] = id.clone();
        self.send(Message::text(payload.to_string())).await?;
        self.ack_of(&id).await.with_context(|| format!("no ack of {op}"))
    }

    pub async fn ack_of(&mut self, wanted: &Value) -> Result<Value> {
        loop {
            match self.read(ACK_MAX).await?.context("the stream ended")? {
                Said::Ack { id, data } if id == *wanted => return Ok(data),
                Said::Ack { .. } => {}
                Said::Event { name, data } => self.early.push_back((name, data)),
            }
        }
    }

    pub async fn send(&mut self, message: Message) -> Result<()> {
        tokio::time::timeout(ACK_MAX, self.stream.send(message)).await??;
        Ok(())
    }

    /// The next event; `None`: the stream has ended.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<(String, Value)>> {
        if let Some(event) = self.early.pop_front() {
            return Ok(Some(event));
        }
        while let Some(said) = self.read(patience).await? {
            if let Said::Event { name, data } = said {
                return Ok(Some((name, data)));
            }
        }
        Ok(None)
    }

    /// The next frame of a Task.
    pub async fn next_frame(&mut self, patience: Duration) -> Result<Option<Event>> {
        while let Some((name, data)) = self.next(patience).await? {
            if !data["seq"].is_null() {
                return Ok(Some(Event::new(&name, data)?));
            }
        }
        Ok(None)
    }

    /// Whatever comes next; `None`: the stream has ended, politely or not.
    pub async fn read(&mut self, patience: Duration) -> Result<Option<Said>> {
        loop {
            let next = tokio::time::timeout(patience, self.stream.next()).await;
            let next = next.context("the node is silent")?;
            self.heard = Instant::now();
            let message = match next {
                Some(Ok(message)) => message,
                None | Some(Err(_)) => return Ok(None),
            };
            let Message::Text(text) = message else { continue };
            let mut said: Value = serde_json::from_str(&text).context("the node says no JSON")?;
            let data = said["data"].take();
            if let Some(name) = said["ev"].as_str() {
                return Ok(Some(Said::Event { name: name.to_owned(), data }));
            }
            return Ok(Some(Said::Ack { id: said["ack"].take(), data }));
        }
    }
}
