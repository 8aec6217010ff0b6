//! Sends an answer: events in order, waits, gates, faults.

use std::{convert::Infallible, io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value;

use super::{
    Active,
    script::{Answer, Fault, Gate},
};

/// How a wire writes the events that faults need.
pub(super) trait Dialect: Send + Sync + 'static {
    /// A piece of text of the answer.
    fn text_event(&self, text: &str) -> String;
    /// An error within the stream.
    fn error_event(&self, kind: &str) -> String;
    /// An error body.
    fn error_body(&self, kind: &str, message: &str) -> Value;
}

/// An error answer.
pub(super) fn refusal(
    dialect: &dyn Dialect,
    status: u16,
    kind: &str,
    message: &str,
    retry_after: Option<&str>,
) -> Response {
    let mut response = json_response(&dialect.error_body(kind, message));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let value = retry_after.and_then(|text| HeaderValue::from_str(text).ok());
    if let Some(value) = value {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// A JSON answer.
pub(super) fn json_response(body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert("request-id", HeaderValue::from_static("req_fake"));
    response
}

/// What can be said before the head of an answer: waits, and faults that are no stream.
pub(super) async fn before_head(
    answer: &Answer,
    dialect: &dyn Dialect,
    active: &mut Active,
) -> Option<Response> {
    if !answer.first.is_zero() {
        tokio::time::sleep(answer.first).await;
    }
    if let (Some(gate), 0) = (&answer.gate, answer.gate_after) {
        gate.pass().await;
    }
    match answer.fault.as_ref()? {
        Fault::Status { status, kind, message, retry_after } => {
            active.finish();
            Some(refusal(dialect, *status, kind, message, retry_after.as_deref()))
        }
        Fault::HangBeforeHead => {
            std::future::pending::<Infallible>().await;
            None
        }
        Fault::WebPage => {
            active.finish();
            let mut page = Response::new(Body::from("<html>Welcome to nginx</html>"));
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Some(page)
        }
        _ => None,
    }
}

/// One thing to do while streaming.
enum Beat {
    Send(String),
    Cut,
    Hang,
}

struct Running {
    beats: std::vec::IntoIter<Beat>,
    sent: usize,
    gap: Duration,
    gate: Option<(Gate, usize)>,
    active: Active,
}

/// The stream of an answer whose events are `events`.
pub(super) fn response(
    events: Vec<String>,
    answer: &Answer,
    dialect: &dyn Dialect,
    active: Active,
) -> Response {
    let running = Running {
        beats: with_fault(events, answer.fault.as_ref(), dialect).into_iter(),
        sent: 0,
        gap: answer.gap,
        gate: answer.gate.clone().map(|gate| (gate, answer.gate_after)),
        active,
    };
    let stream = futures::stream::unfold(running, |mut running| async move {
        if running.sent > 0 && !running.gap.is_zero() {
            tokio::time::sleep(running.gap).await;
        }
        if let Some((gate, _)) = running.gate.take_if(|(_, after)| *after == running.sent) {
            gate.pass().await;
        }
        let item = match running.beats.next() {
            Some(Beat::Send(event)) => Ok(Bytes::from(event)),
            Some(Beat::Cut) => {
                running.active.finish();
                // What was sent leaves the buffer only while there is nothing more to send.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Err(io::Error::other("cut by the script"))
            }
            Some(Beat::Hang) => {
                std::future::pending::<Infallible>().await;
                return None;
            }
            None => {
                running.active.finish();
                return None;
            }
        };
        running.sent += 1;
        if running.beats.as_slice().is_empty() {
            // The last event is on its way: whoever leaves now has all.
            running.active.finish();
        }
        Some((item, running))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert("request-id", HeaderValue::from_static("req_fake"));
    response
}

fn with_fault(mut events: Vec<String>, fault: Option<&Fault>, dialect: &dyn Dialect) -> Vec<Beat> {
    let send = |events: Vec<String>| events.into_iter().map(Beat::Send).collect::<Vec<_>>();
    match fault {
        Some(Fault::Cut { after }) => {
            events.truncate(*after);
            let mut beats = send(events);
            beats.push(Beat::Cut);
            beats
        }
        Some(Fault::Hang { after }) => {
            events.truncate(*after);
            let mut beats = send(events);
            beats.push(Beat::Hang);
            beats
        }
        Some(Fault::Malformed { after }) => {
            let at = (*after).min(events.len());
            events.insert(at, "data: {\"type\":\"content_block_delta\",\"ind\n\n".to_owned());
            send(events)
        }
        Some(Fault::Error { after, kind }) => {
            events.truncate(*after);
            events.push(dialect.error_event(kind));
            send(events)
        }
        Some(Fault::Huge { bytes }) => {
            let event = dialect.text_event(&"x".repeat(32 * 1024));
            let at = events.len().min(2);
            let count = bytes.div_ceil(32 * 1024);
            events.splice(at..at, std::iter::repeat_n(event, count));
            send(events)
        }
        Some(Fault::HugeEvent { bytes }) => {
            let at = events.len().min(2);
            events.insert(at, dialect.text_event(&"x".repeat(*bytes)));
            send(events)
        }
        Some(Fault::Status { .. } | Fault::HangBeforeHead | Fault::WebPage) | None => send(events),
    }
}

/// Cuts a text into pieces of so many characters.
pub(super) fn chunks(text: &str, chars: usize) -> Vec<String> {
    let mut left = text.chars();
    let next = || {
        let piece: String = left.by_ref().take(chars.max(1)).collect();
        (!piece.is_empty()).then_some(piece)
    };
    std::iter::from_fn(next).collect()
}
