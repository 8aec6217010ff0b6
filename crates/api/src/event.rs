//! Frames as outside events.

use serde::Serialize;
use serde_json::Value;
use troupe_types::{
    BlockCreatedFrame, BlockUpdatedFrame, CancelledFrame, DoneFrame, EditedFrame, ErrorFrame,
    Frame, FrameBody, FrameSeq, MessageFrame, QueueFrame, StageFrame, StartedFrame, StatusFrame,
    TaskFrame, TaskId, TextFrame, ThinkingFrame, Timestamp, UsageFrame,
};

/// A frame as the payload of its event: `{task_id, seq, at, ..fields of the frame}`.
///
/// The event's name is [`FrameBody::event`].
#[derive(Clone, Debug, Serialize)]
pub struct FrameEvent<'a> {
    /// The Task.
    pub task_id: TaskId,
    /// Place of the frame.
    pub seq: FrameSeq,
    /// When it was decided.
    pub at: Timestamp,
    /// The rest.
    #[serde(flatten)]
    body: Fields<'a>,
    #[serde(skip)]
    name: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Message(&'a MessageFrame),
    Started(&'a StartedFrame),
    Text(&'a TextFrame),
    Thinking(&'a ThinkingFrame),
    BlockCreated(&'a BlockCreatedFrame),
    BlockUpdated(&'a BlockUpdatedFrame),
    Status(&'a StatusFrame),
    Usage(&'a UsageFrame),
    Done(&'a DoneFrame),
    Error(&'a ErrorFrame),
    Cancelled(&'a CancelledFrame),
    Edited(&'a EditedFrame),
    Stage(&'a StageFrame),
    Queue(&'a QueueFrame),
    Task(&'a TaskFrame),
}

impl<'a> FrameEvent<'a> {
    /// The event of a frame.
    #[must_use]
    pub const fn new(task: TaskId, frame: &'a Frame) -> Self {
        let body = match &frame.body {
            FrameBody::Message(f) => Fields::Message(f),
            FrameBody::Started(f) => Fields::Started(f),
            FrameBody::Text(f) => Fields::Text(f),
            FrameBody::Thinking(f) => Fields::Thinking(f),
            FrameBody::BlockCreated(f) => Fields::BlockCreated(f),
            FrameBody::BlockUpdated(f) => Fields::BlockUpdated(f),
            FrameBody::Status(f) => Fields::Status(f),
            FrameBody::Usage(f) => Fields::Usage(f),
            FrameBody::Done(f) => Fields::Done(f),
            FrameBody::Error(f) => Fields::Error(f),
            FrameBody::Cancelled(f) => Fields::Cancelled(f),
            FrameBody::Edited(f) => Fields::Edited(f),
            FrameBody::Stage(f) => Fields::Stage(f),
            FrameBody::Queue(f) => Fields::Queue(f),
            FrameBody::Task(f) => Fields::Task(f),
        };
        Self { task_id: task, seq: frame.seq, at: frame.at, body, name: frame.body.event() }
    }

    /// Name of the event.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The payload as a value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_types::{Attempt, MessageId};

    #[test]
    fn a_chunk_is_flat_and_named_as_in_the_contract() {
        let frame = Frame {
            seq: FrameSeq(7),
            at: Timestamp::from_millis(0),
            body: FrameBody::Text(TextFrame {
                message: MessageId::derived(&["m"]),
                attempt: Attempt::FIRST,
                block_id: "2.1.1".into(),
                content: "hi".into(),
                offset: 3,
                late: false,
            }),
        };
        let event = FrameEvent::new(TaskId::derived(&["t"]), &frame);
        assert_eq!(event.name(), "chat:chunk");
        let value = event.to_value();
        assert_eq!(value["seq"], 7);
        assert_eq!(value["content"], "hi");
        assert_eq!(value["offset"], 3);
        assert!(value["subtask_id"].as_str().is_some_and(|s| s.starts_with("msg_")));
        assert!(value.get("late").is_none());
    }
}
