//! Frames as they leave: serialised once, shared by all who look.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use troupe_api::{FrameEvent, task::FrameItem};
use troupe_types::{Frame, FrameSeq, TaskId};

/// A frame, ready to be sent.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) seq: FrameSeq,
    pub(super) event: Cow<'static, str>,
    pub(super) json: Box<RawValue>,
    stream: OnceLock<Utf8Bytes>,
}

impl Encoded {
    /// A frame that its owner just committed.
    pub(super) fn live(task: TaskId, frame: &Frame) -> Option<Arc<Self>> {
        let event = FrameEvent::new(task, frame);
        Some(Self::new(frame.seq, Cow::Borrowed(event.name()), raw(&event)?))
    }

    /// A frame of any age.
    pub(super) fn stored(item: FrameItem) -> Option<Arc<Self>> {
        let seq = FrameSeq(item.data.get("seq")?.as_u64()?);
        Some(Self::new(seq, Cow::Owned(item.event), raw(&item.data)?))
    }

    fn new(seq: FrameSeq, event: Cow<'static, str>, json: Box<RawValue>) -> Arc<Self> {
        Arc::new(Self { seq, event, json, stream: OnceLock::new() })
    }

    /// As a message of the stream.
    pub(super) fn stream(&self) -> Utf8Bytes {
        self.stream.get_or_init(|| stream_event(&self.event, &self.json)).clone()
    }

    /// Bytes that it may hold: its payload, and the same as a message of the stream.
    pub(super) fn bytes(&self) -> usize {
        2 * self.json.get().len()
    }
}

/// An event as a message of the stream.
pub(super) fn stream_event(name: &str, data: &RawValue) -> Utf8Bytes {
    format!("{{\"ev\":\"{name}\",\"data\":{}}}", data.get()).into()
}

/// Any payload as JSON text; all of ours can be written.
pub(super) fn raw<T: Serialize + ?Sized>(value: &T) -> Option<Box<RawValue>> {
    match serde_json::value::to_raw_value(value) {
        Ok(raw) => Some(raw),
        Err(error) => {
            tracing::error!(%error, "a payload could not be written as json");
            None
        }
    }
}
