//! `/api/v1/stream` for a load generator: frames are looked at, not parsed.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::node::Node;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that said who it is.
#[derive(Debug)]
pub(crate) struct Stream {
    ws: WebSocketStream<TcpStream>,
    early: VecDeque<Utf8Bytes>,
    next_id: u64,
}

/// Small buffers: there are thousands of clients in one process.
pub(crate) fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(0)
}

impl Stream {
    pub(crate) async fn open(node: &Node) -> Result<Self> {
        let tcp = TcpStream::connect(&node.authority).await.context("connect to the node")?;
        tcp.set_nodelay(true).context("set up the connection")?;
        let url = format!("ws://{}/api/v1/stream", node.authority);
        let opening = client_async_with_config(url, tcp, Some(small_buffers()));
        let (ws, _) = timeout(PATIENCE, opening).await.context("the node is silent")??;
        let mut stream = Self { ws, early: VecDeque::new(), next_id: 0 };
        stream.call("auth", json!({"token": node.token})).await?;
        Ok(stream)
    }

    /// The same, again while the node says that too much waits already.
    pub(crate) async fn call_patiently(&mut self, op: &str, payload: &Value) -> Result<Value> {
        let start = Instant::now();
        loop {
            match self.call(op, payload.clone()).await {
                Err(error) if error.to_string().contains("overloaded") => {
                    ensure!(start.elapsed() < PATIENCE, "the node stays overloaded: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    }

    /// The ack; events that came before it are kept.
    pub(crate) async fn call(&mut self, op: &str, payload: Value) -> Result<Value> {
        self.send(op, payload).await?;
        let wanted = format!("{{\"ack\":{},", self.next_id);
        loop {
            let text = self.read().await?;
            if !text.starts_with(&wanted) {
                self.early.push_back(text);
                continue;
            }
            let mut ack: Value = serde_json::from_str(&text).context("an ack in json")?;
            let data = ack["data"].take();
            ensure!(data.get("error").is_none(), "{op} was refused: {data}");
            return Ok(data);
        }
    }

    /// Asks without waiting for the ack.
    pub(crate) async fn send(&mut self, op: &str, mut payload: Value) -> Result<()> {
        self.next_id += 1;
        payload["op"] = op.into();
        payload["id"] = self.next_id.into();
        self.ws.send(Message::text(payload.to_string())).await.context("send over the stream")
    }

    /// The next text.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes> {
        match self.early.pop_front() {
            Some(text) => Ok(text),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Utf8Bytes> {
        loop {
            let next = timeout(PATIENCE, self.ws.next()).await.context("the node is silent")?;
            match next {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(why))) => bail!("the node closed the stream: {why:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the stream broke"),
                None => bail!("the stream ended"),
            }
        }
    }
}

/// The number after `"key":`, without parsing the rest.
pub(crate) fn number(text: &str, key: &str) -> Option<u64> {
    let (_, after) = text.split_once(key)?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok()
}

/// Milliseconds of the day of the frame's `at`.
pub(crate) fn at_ms(text: &str) -> Option<u64> {
    let (_, after) = text.split_once("\"at\":\"")?;
    // 2026-01-02T03:04:05.678Z
    let part = |from: usize, to: usize| after.get(from..to)?.parse::<u64>().ok();
    let seconds = part(11, 13)? * 3_600 + part(14, 16)? * 60 + part(17, 19)?;
    Some(seconds * 1_000 + part(20, 23)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_looked_at() {
        let text = r#"{"ev":"chat:chunk","data":{"task_id":"t","seq":17,"at":"2026-01-02T03:04:05.678Z","offset":120,"content":"x"}}"#;
        assert_eq!(number(text, "\"seq\":"), Some(17));
        assert_eq!(number(text, "\"offset\":"), Some(120));
        assert_eq!(number(text, "\"head\":"), None);
        assert_eq!(at_ms(text), Some(((3 * 60 + 4) * 60 + 5) * 1_000 + 678));
    }
}
