//! Frames as they leave: serialised once, shared by all who look.

use std::{borrow::Cow, sync::Arc};

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
}

impl Encoded {
    /// A frame that its owner just committed.
    pub(super) fn live(task: TaskId, frame: &Frame) -> Option<Arc<Self>> {
        let event = FrameEvent::new(task, frame);
        let (seq, name) = (frame.seq, Cow::Borrowed(event.name()));
        Some(Arc::new(Self { seq, event: name, json: raw(&event)? }))
    }

    /// A frame of any age.
    pub(super) fn stored(item: FrameItem) -> Option<Arc<Self>> {
        let seq = FrameSeq(item.data.get("seq")?.as_u64()?);
        let json = raw(&item.data)?;
        Some(Arc::new(Self { seq, event: Cow::Owned(item.event), json }))
    }

    /// Bytes of its payload.
    pub(super) fn bytes(&self) -> usize {
        self.json.get().len()
    }
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
