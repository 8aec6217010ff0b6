//! Frames: the numbered output of a Task. Each has exactly one outside event.
//!
//! Rust names are the house words, serde names the outside ones (`subtask_id` is a
//! [`MessageId`](crate::MessageId), `message_id` an [`Ordinal`](crate::Ordinal)). A frame leaves
//! the owner only after its journal entry is committed, and never changes afterwards.

mod attempt;
mod message;
mod output;
mod task;

use serde::{Deserialize, Serialize};

pub use self::attempt::{
    CancelledFrame, DoneFrame, ErrorFrame, ErrorType, Place, StartedFrame, UsageFrame,
};
pub use self::message::{EditedFrame, MessageFrame, MessageKind, Role, RunStep, Sender, Status};
pub use self::output::{BlockCreatedFrame, BlockUpdatedFrame, Reasoning, TextFrame, ThinkingFrame};
pub use self::task::{
    QueueFrame, QueuedMessage, StageFrame, StageStatus, StageView, StatusFrame, TaskFrame, Wait,
};
use crate::{FrameSeq, Timestamp};

/// One piece of a Task's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Frame {
    /// Its place: 1, 2, 3.. without gaps.
    pub seq: FrameSeq,
    /// When it was decided (wall time of the owner).
    pub at: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub body: FrameBody,
}

/// What a frame says; the variant decides the outside event ([`FrameBody::event`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum FrameBody {
    /// `chat:message`: a row of the transcript, whole unless it is an answer to come.
    Message(MessageFrame),
    /// `chat:start`: an attempt began.
    Started(StartedFrame),
    /// `chat:chunk` with `content`: text of an answer.
    Text(TextFrame),
    /// `chat:chunk` with `result.reasoning_chunk`: what the model thought.
    Thinking(ThinkingFrame),
    /// `chat:block_created`.
    BlockCreated(BlockCreatedFrame),
    /// `chat:block_updated`.
    BlockUpdated(BlockUpdatedFrame),
    /// `chat:status_updated`.
    Status(StatusFrame),
    /// `chat:usage`.
    Usage(UsageFrame),
    /// `chat:done`: an attempt ended well.
    Done(DoneFrame),
    /// `chat:error`: an attempt failed or was lost.
    Error(ErrorFrame),
    /// `chat:cancelled`: an attempt was cancelled.
    Cancelled(CancelledFrame),
    /// `chat:edited`: rows were removed from the transcript.
    Edited(EditedFrame),
    /// `task:stage`: position of a pipeline.
    Stage(StageFrame),
    /// `task:queue`: messages that wait behind the running turn.
    Queue(QueueFrame),
    /// `task:updated`: title, labels or status of the Task.
    Task(TaskFrame),
}

impl FrameBody {
    /// Name of the outside event.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Message(_) => "chat:message",
            Self::Started(_) => "chat:start",
            Self::Text(_) | Self::Thinking(_) => "chat:chunk",
            Self::BlockCreated(_) => "chat:block_created",
            Self::BlockUpdated(_) => "chat:block_updated",
            Self::Status(_) => "chat:status_updated",
            Self::Usage(_) => "chat:usage",
            Self::Done(_) => "chat:done",
            Self::Error(_) => "chat:error",
            Self::Cancelled(_) => "chat:cancelled",
            Self::Edited(_) => "chat:edited",
            Self::Stage(_) => "task:stage",
            Self::Queue(_) => "task:queue",
            Self::Task(_) => "task:updated",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(b: &bool) -> bool {
    !*b
}
