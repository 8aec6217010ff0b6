//! `/api/v1/stream`: one WebSocket, calls with ids, events in between.

use std::{collections::VecDeque, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use serde_json::{Value, json};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use troupe_api::Problem;
use troupe_types::{FrameSeq, TaskId};

use crate::{client::Client, error::CliError};

/// For a call's ack.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);
/// A live connection is never silent for longer: the node pings.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Events that may come before an ack.
const EARLY_EVENTS_MAX: usize = 10_000;

/// An open stream.
#[derive(Debug)]
pub(super) struct Socket {
    stream: WebSocketStream<Upgraded>,
    early: VecDeque<(String, Value)>,
    next_id: u64,
}

impl Socket {
    pub(super) async fn open(client: &Client) -> Result<Self, CliError> {
        let stream = tokio::time::timeout(ACK_TIMEOUT, client.socket("/api/v1/stream"))
            .await
            .map_err(|e| CliError::link("the node does not answer", e))??;
        let mut socket = Self { stream, early: VecDeque::new(), next_id: 0 };
        socket.call("auth", json!({"token": client.token().await})).await?;
        Ok(socket)
    }

    /// Everything after a seq, then what comes live. The answer is the head; `None`: that is more
    /// than is sent again, and nothing comes.
    pub(super) async fn resume(
        &mut self,
        task: TaskId,
        after: FrameSeq,
    ) -> Result<Option<FrameSeq>, CliError> {
        // Without a join: that one would send live frames before the missing ones.
        let ack = self.call("chat:resume", json!({"task_id": task, "after": after})).await?;
        let head = FrameSeq(ack["head"].as_u64().unwrap_or(after.0));
        Ok((ack["rejoin"] != true).then_some(head))
    }

    /// The next event; `None`: the connection has ended.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Value)>, CliError> {
        if let Some(event) = self.early.pop_front() {
            return Ok(Some(event));
        }
        while let Some(message) = self.read(SILENCE_MAX).await? {
            if let Some(event) = event_of(&message) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    async fn call(&mut self, op: &str, mut payload: Value) -> Result<Value, CliError> {
        self.next_id += 1;
        let id = self.next_id;
        payload["op"] = op.into();
        payload["id"] = id.into();
        let sending = self.stream.send(Message::text(payload.to_string()));
        tokio::time::timeout(ACK_TIMEOUT, sending)
            .await
            .map_err(|e| CliError::link("the node does not answer", e))?
            .map_err(|e| CliError::link("the stream broke", e))?;
        while let Some(message) = self.read(ACK_TIMEOUT).await? {
            if message["ack"] == json!(id) {
                return acked(&message["data"]);
            }
            let event = event_of(&message);
            if let Some((name, data)) = &event
                && name == "auth:error"
            {
                return Err(CliError::Problem(Box::new(turned_away(data))));
            }
            if let Some(event) = event
                && self.early.len() < EARLY_EVENTS_MAX
            {
                self.early.push_back(event);
            }
        }
        Err(CliError::Link { what: "the stream ended".into(), source: None })
    }

    async fn read(&mut self, patience: Duration) -> Result<Option<Value>, CliError> {
        loop {
            let next = tokio::time::timeout(patience, self.stream.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(None | Some(Err(_))) => return Ok(None),
                Err(e) => return Err(CliError::link("the node is silent", e)),
            };
            if let Message::Text(text) = message {
                return Ok(Some(serde_json::from_str(&text).unwrap_or(Value::Null)));
            }
        }
    }
}

fn event_of(message: &Value) -> Option<(String, Value)> {
    Some((message["ev"].as_str()?.to_owned(), message["data"].clone()))
}

/// The last word of a connection. Another one may do: with a fresh token, or once the node is well.
fn turned_away(data: &Value) -> Problem {
    let text = data["error"].as_str().unwrap_or("the token is not good any more");
    let code = data["code"].as_str().unwrap_or("unauthorized");
    let status = if matches!(code, "draining" | "unavailable") { 503 } else { 401 };
    Problem::new(status, code, text)
}

fn acked(data: &Value) -> Result<Value, CliError> {
    if data["error"].is_null() {
        return Ok(data.clone());
    }
    let problem = serde_json::from_value(data["problem"].clone()).unwrap_or_else(|_| {
        let text = data["error"].as_str().unwrap_or("refused");
        Problem::new(400, data["code"].as_str().unwrap_or("refused"), text)
    });
    Err(CliError::Problem(Box::new(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeNode;

    /// A token lives shorter than many Tasks: who follows must hear that it is over.
    #[tokio::test]
    async fn a_token_that_is_over_is_a_problem_and_no_broken_link() {
        let node = FakeNode::start().await;
        let client = node.client();
        let refused = json!({"error": "The token has expired.", "code": "token_expired"});
        let (opened, ()) = tokio::join!(Socket::open(&client), node.turned_away(&refused));
        let CliError::Problem(problem) = opened.unwrap_err() else { panic!("no problem") };
        assert_eq!((problem.status, problem.code.as_str()), (401, "token_expired"));
    }
}
