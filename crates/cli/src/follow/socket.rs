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
            .map_err(|e| CliError::local("the node does not answer", e))??;
        let mut socket = Self { stream, early: VecDeque::new(), next_id: 0 };
        socket.call("auth", json!({"token": client.token().await})).await?;
        Ok(socket)
    }

    /// Everything after a seq, then what comes live. The answer is the head.
    pub(super) async fn resume(
        &mut self,
        task: TaskId,
        after: FrameSeq,
    ) -> Result<FrameSeq, CliError> {
        // Without a join: that one would send live frames before the missing ones.
        let ack = self.call("chat:resume", json!({"task_id": task, "after": after})).await?;
        if ack["rejoin"] == true {
            let text = "too far behind to catch up; open the task in the console, or attach anew";
            return Err(CliError::Usage(text.to_owned()));
        }
        Ok(FrameSeq(ack["head"].as_u64().unwrap_or(after.0)))
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
        self.stream
            .send(Message::text(payload.to_string()))
            .await
            .map_err(|e| CliError::local("the stream broke", e))?;
        while let Some(message) = self.read(ACK_TIMEOUT).await? {
            if message["ack"] == json!(id) {
                return acked(&message["data"]);
            }
            let event = event_of(&message);
            if let Some((name, data)) = &event
                && name == "auth:error"
            {
                // The last word of this connection. With a fresh token another one may do.
                let text = data["error"].as_str().unwrap_or("the token is not good any more");
                let code = data["code"].as_str().unwrap_or("unauthorized");
                return Err(CliError::Problem(Box::new(Problem::new(401, code, text))));
            }
            if let Some(event) = event
                && self.early.len() < EARLY_EVENTS_MAX
            {
                self.early.push_back(event);
            }
        }
        Err(CliError::Local { what: "the stream ended".into(), source: None })
    }

    async fn read(&mut self, patience: Duration) -> Result<Option<Value>, CliError> {
        loop {
            let next = tokio::time::timeout(patience, self.stream.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(None | Some(Err(_))) => return Ok(None),
                Err(e) => return Err(CliError::local("the node is silent", e)),
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
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    /// A token lives shorter than many Tasks: who follows must hear that it is over.
    #[tokio::test]
    async fn a_token_that_is_over_is_a_problem_and_no_broken_link() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut node = JoinSet::new();
        node.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let asked = socket.next().await.unwrap().unwrap().into_text().unwrap();
            assert!(asked.contains("\"op\":\"auth\""), "{asked}");
            let data = json!({"error": "The token has expired.", "code": "token_expired"});
            let refused = json!({"ev": "auth:error", "data": data}).to_string();
            socket.send(Message::text(refused)).await.unwrap();
            socket.close(None).await.unwrap();
        });
        let client = Client::anonymous(&url, None).unwrap();
        let error = Socket::open(&client).await.unwrap_err();
        let CliError::Problem(problem) = error else { panic!("{error:?}") };
        assert_eq!((problem.status, problem.code.as_str()), (401, "token_expired"));
        node.join_next().await.unwrap().unwrap();
    }
}
