//! `wss /api/v1/stream`: the same operations and events over a plain WebSocket.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
};
use futures::{SinkExt, StreamExt, stream::SplitSink};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, time::Instant};
use troupe_actor::spawn_task;
use troupe_services::{Caller, Problem};

use super::{
    connection::Connection,
    lanes::Job,
    ops,
    peer::{Ack, Outgoing, Peer},
};
use crate::{
    gateway::Shared,
    http::{Refusal, body::parse_text},
};

/// How long a client may take to say who it is.
const AUTH_MAX: Duration = Duration::from_secs(10);
/// How long one message may take to leave.
const SEND_MAX: Duration = Duration::from_secs(30);
/// Messages that wait for one connection.
const QUEUE: usize = 128;
/// Close code for a client that did not prove who it is (4000 to 4999 are free).
const UNAUTHORIZED: u16 = 4401;
/// Close code of RFC 6455 for a server that goes away.
const AWAY: u16 = 1001;

/// Bytes read at once. It is cleared before each look for input, and what clients say is small.
const READ_BUFFER: usize = 4 * 1024;
/// Messages that leave with one write, if they wait.
const WRITE_BATCH: usize = 64;

type Writer = SplitSink<WebSocket, Message>;

/// A message of a client: the payload stands beside `op` and `id`, or in `data`. The latter is
/// for `queue:edit`, whose payload has an `op` of its own.
#[derive(Debug, Deserialize)]
struct Request {
    op: String,
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(flatten)]
    payload: Map<String, Value>,
}

impl Request {
    fn payload(&mut self) -> Value {
        Value::Object(self.data.take().unwrap_or_else(|| std::mem::take(&mut self.payload)))
    }
}

pub(crate) async fn upgrade(
    State(shared): State<Shared>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let problem = Problem::new(426, "upgrade_required", "Ask for a WebSocket here.");
        return Refusal::from(problem).into_response();
    };
    let max = shared.options().payload_max;
    let upgrade = upgrade.max_message_size(max).max_frame_size(max).read_buffer_size(READ_BUFFER);
    upgrade.on_upgrade(move |socket| run(shared, socket))
}

async fn run(shared: Shared, socket: WebSocket) {
    let (mut writer, mut reader) = socket.split();
    let greeting = tokio::time::timeout(AUTH_MAX, reader.next()).await;
    let Ok(Some(Ok(Message::Text(greeting)))) = greeting else {
        return close(&mut writer, UNAUTHORIZED, "unauthorized").await;
    };
    let (caller, id) = match authenticate(&shared, &greeting).await {
        Ok(known) => known,
        Err(problem) => {
            let payload = json!({ "error": problem.detail, "code": problem.code });
            let refused = json!({ "ev": "auth:error", "data": payload });
            let _ = send(&mut writer, Message::text(refused.to_string())).await;
            return close(&mut writer, UNAUTHORIZED, &problem.code).await;
        }
    };
    let hello = json!({ "ack": id, "data": {
        "success": true, "user_id": caller.user, "expires_at": caller.expires_at,
    } });
    let (to, outgoing) = mpsc::channel(QUEUE);
    let now = shared.state.clock.mono();
    let Some(connection) = shared.hub.connections.open(caller, Peer::Stream(to), now) else {
        return close(&mut writer, AWAY, "too_many").await;
    };
    if send(&mut writer, Message::text(hello.to_string())).await {
        serve(&shared, &connection, writer, reader, outgoing).await;
    }
    shared.hub.connections.remove(&connection);
}

async fn authenticate(shared: &Shared, greeting: &str) -> Result<(Caller, Option<Value>), Problem> {
    if shared.is_draining() {
        return Err(Problem::new(503, "draining", "This node is being stopped: try again."));
    }
    let request: Request = parse_text(greeting)?;
    let token = request.payload.get("token").and_then(Value::as_str);
    let (true, Some(token)) = (request.op == "auth", token) else {
        let detail = "The first message is {\"op\": \"auth\", \"token\": ..}.";
        return Err(Problem::unauthorized(detail));
    };
    Ok((shared.state.auth.verify(token).await?, request.id))
}

async fn serve(
    shared: &Shared,
    connection: &Arc<Connection>,
    mut writer: Writer,
    mut reader: futures::stream::SplitStream<WebSocket>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let options = shared.options();
    let mut ping = tokio::time::interval(options.ping_interval);
    let silence_max = options.ping_interval + options.ping_timeout;
    let mut heard = Instant::now();
    let mut waiting = Vec::new();
    loop {
        let sent = tokio::select! {
            count = outgoing.recv_many(&mut waiting, WRITE_BATCH) => {
                let is_last = count == 0 || waiting.iter().any(|out| matches!(out, Outgoing::Close));
                let sent = send_all(&mut writer, &mut waiting).await;
                if is_last {
                    return close(&mut writer, AWAY, "closed").await;
                }
                sent
            },
            message = reader.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => {
                        take(shared, connection, &text).await;
                        true
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
                    Some(Ok(Message::Binary(_))) => {
                        return close(&mut writer, 1003, "text only").await;
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > silence_max {
                    return;
                }
                send(&mut writer, Message::Ping(Default::default())).await
            }
        };
        if !sent {
            return;
        }
    }
}

/// Takes in one message. It never waits for the client to read.
async fn take(shared: &Shared, connection: &Arc<Connection>, text: &str) {
    let job = match parse_text::<Request>(text) {
        Ok(mut request) => Job {
            payload: Ok(request.payload()),
            name: request.op,
            ack: Ack::Stream { id: request.id },
        },
        // Without a readable id the answer says so with null.
        Err(problem) => Job {
            name: ops::OPS[0].name.to_owned(),
            payload: Err(problem),
            ack: Ack::Stream { id: Some(Value::Null) },
        },
    };
    match ops::submit(connection, job) {
        Ok(Some(lane)) => {
            let run = ops::run_lane(Arc::clone(shared), Arc::clone(connection), lane);
            // It ends with the last operation of the lane, each of which is bounded in time.
            drop(spawn_task("gateway-stream-lane", run));
        }
        Ok(None) => {}
        Err(job) => ops::refuse(connection, &job).await,
    }
}

/// Sends what waits, up to a wish to close, with as few writes as possible.
async fn send_all(writer: &mut Writer, waiting: &mut Vec<Outgoing>) -> bool {
    let texts = waiting.drain(..).map_while(|out| match out {
        Outgoing::Text(text) => Some(Ok(Message::Text(text))),
        Outgoing::Close => None,
    });
    let mut texts = futures::stream::iter(texts);
    let sending = writer.send_all(&mut texts);
    matches!(tokio::time::timeout(SEND_MAX, sending).await, Ok(Ok(())))
}

async fn send(writer: &mut Writer, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_MAX, writer.send(message)).await, Ok(Ok(())))
}

async fn close(writer: &mut Writer, code: u16, reason: &str) {
    let frame = CloseFrame { code, reason: reason.to_owned().into() };
    // The peer may be gone already.
    let _ = send(writer, Message::Close(Some(frame))).await;
}
