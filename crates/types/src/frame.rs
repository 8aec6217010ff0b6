//! Frames: the numbered output of a Task. Each has exactly one outside event.
//!
//! Rust names are the house words, serde names the outside ones (`subtask_id` is a
//! [`MessageId`], `message_id` an [`Ordinal`]). A frame leaves the owner only after its
//! journal entry is committed, and never changes afterwards.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Attempt, Block, BlockPatch, FrameSeq, MessageId, Ordinal, Timestamp, TurnId, UserId, Uuid,
};

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

/// What a row of the transcript is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// By a person.
    User,
    /// A member's answer.
    Answer,
    /// What a pipeline stage hands to the next one.
    Handoff,
    /// The leader's choice of a member; not part of what members read.
    Routing,
    /// The leader's split of the work.
    Plan,
    /// The leader's answer over all work items.
    Merge,
    /// The leader's last word of a discussion.
    Conclusion,
}

/// The contract's role of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Said to the team: by a person, or by the Team as a hand-off.
    User,
    /// Said by a member.
    Assistant,
}

/// Who a row is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Sender {
    /// A person.
    User {
        /// Who.
        user_id: UserId,
        /// The name when it was said.
        user_name: String,
    },
    /// A member of the Team; its index in the Team's list.
    Member {
        /// Index in the Team, from 0.
        member: u32,
        /// The Bot's name.
        name: String,
    },
    /// The Team itself (hand-offs).
    Team,
    /// The system.
    System,
}

/// The contract's words for how far a Task or a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Stored, not yet running.
    Pending,
    /// Under way (or resuming by itself).
    Running,
    /// A pipeline gate waits for a person.
    PendingConfirmation,
    /// A stop was asked for.
    Cancelling,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Stopped by a person.
    Cancelled,
    /// Deleted.
    Delete,
}

impl Status {
    /// Whether something runs, or will without a person.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Cancelling)
    }
}

/// Payload of `chat:message`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its ordinal.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// Its turn.
    #[serde(rename = "turn_id")]
    pub turn: TurnId,
    /// The contract's role.
    pub role: Role,
    /// What it is for.
    pub kind: MessageKind,
    /// Who it is from.
    pub sender: Sender,
    /// Its text; empty for a row that an attempt will fill.
    #[serde(default)]
    pub content: String,
    /// Stage, round or work item of the run that planned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RunStep>,
    /// Status when it was planned.
    pub status: Status,
    /// The key that its sender chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<Uuid>,
}

/// Where in a Team's run a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunStep {
    /// Pipeline stage, from 0.
    Stage(u32),
    /// Round of a discussion, from 1.
    Round(u32),
    /// Work item of a leader's plan, from 0.
    Item(u32),
}

/// Where an attempt runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Place {
    /// In a node, by the chat shell.
    Cluster,
    /// On an enrolled machine.
    Device {
        /// Which one.
        id: String,
        /// Its name for people.
        name: String,
    },
    /// In a container.
    Container {
        /// Which one.
        id: String,
    },
}

/// Payload of `chat:start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartedFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its ordinal.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// Which try.
    pub attempt: Attempt,
    /// Blocks of the attempt before that had ended at or before this frame stay valid.
    pub keeps: FrameSeq,
    /// Code points of the text that is kept.
    pub offset: u64,
    /// The member's Bot.
    pub bot_name: String,
    /// The runtime's name.
    pub shell_type: String,
    /// The model in use, as shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where it runs.
    #[serde(rename = "where")]
    pub place: Place,
}

/// Payload of `chat:chunk` with text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TextFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Which try.
    pub attempt: Attempt,
    /// The text block that grows.
    pub block_id: String,
    /// The text.
    pub content: String,
    /// Code points of the answer's valid text before this.
    pub offset: u64,
    /// It came after the attempt had ended: shown under the interrupted row only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub late: bool,
}

/// Payload of `chat:chunk` with thinking. Outside, the text is `result.reasoning_chunk`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ThinkingFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Which try.
    pub attempt: Attempt,
    /// The thinking block that grows.
    pub block_id: String,
    /// Outside: `{reasoning_chunk}`.
    pub result: Reasoning,
    /// See [`TextFrame::late`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub late: bool,
}

/// The contract's wrapper around a piece of thinking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reasoning {
    /// The text.
    pub reasoning_chunk: String,
}

/// Payload of `chat:block_created`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockCreatedFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Which try.
    pub attempt: Attempt,
    /// The block, whole.
    pub block: Block,
    /// See [`TextFrame::late`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub late: bool,
}

/// Payload of `chat:block_updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockUpdatedFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Which try.
    pub attempt: Attempt,
    /// Which block.
    pub block_id: String,
    /// Its changed fields.
    #[serde(flatten)]
    pub patch: BlockPatch,
    /// See [`TextFrame::late`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub late: bool,
}

/// Why something waits: a stable code and its values; clients word it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Wait {
    /// `no_device`, `team_slots`, `rate_limit`, `resuming`, `confirmation`..
    pub code: String,
    /// Values for the sentence.
    #[serde(default)]
    pub args: serde_json::Map<String, Value>,
}

/// Payload of `chat:status_updated`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusFrame {
    /// The row it is about, if any.
    #[serde(default, rename = "subtask_id", skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Stable word: `waiting`, `retrying`, `fallback`, `compacting`, `warning`..
    pub phase: String,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// When it goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// English sentence for clients that do not know the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Token accounting (contract 8.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_metrics: Option<Value>,
    /// What a compaction did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Value>,
}

/// Payload of `chat:usage`: one model call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageFrame {
    /// The row.
    #[serde(default, rename = "subtask_id", skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// The model's id.
    pub model: String,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens sent that the provider had cached.
    pub cached_tokens: u64,
    /// Cost in the currency of the model's price, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// Payload of `chat:done`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DoneFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its ordinal.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// Which try.
    pub attempt: Attempt,
    /// Code points of the answer.
    pub offset: u64,
    /// SHA-256 of the answer's text (UTF-8), lower-case hex.
    pub sha256: String,
    /// Why the model stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
}

/// What went wrong, in the contract's words (5.5) and ours (`lost`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The prompt does not fit the model.
    ContextLengthExceeded,
    /// The account has no budget left.
    QuotaExceeded,
    /// Too many requests.
    RateLimit,
    /// Overloaded, down or unknown model.
    ModelUnavailable,
    /// A container ran out of memory.
    ContainerOom,
    /// A container failed.
    ContainerError,
    /// The connection failed or broke.
    NetworkError,
    /// Nothing came in time.
    TimeoutError,
    /// The model cannot do what was asked.
    LlmUnsupported,
    /// Refused by the provider's or our rules.
    Forbidden,
    /// Too large.
    PayloadTooLarge,
    /// The provider refused a parameter.
    InvalidParameter,
    /// A filter stopped it.
    ContentFilter,
    /// The provider failed.
    ProviderError,
    /// An image is too large.
    ImageTooLarge,
    /// The provider's answer made no sense.
    ModelProtocolError,
    /// A role was refused.
    InvalidRole,
    /// The key may not.
    PermissionDenied,
    /// Anything else.
    GenericError,
    /// The attempt's runner is gone.
    Lost,
}

/// Payload of `chat:error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its ordinal.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// Which try.
    pub attempt: Attempt,
    /// What went wrong, for people; the provider's own text where there is one.
    pub error: String,
    /// The same for machines.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// A further attempt follows by itself: message and Task stay RUNNING.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continues: bool,
    /// When it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// Payload of `chat:cancelled`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelledFrame {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its ordinal.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// Which try.
    pub attempt: Attempt,
}

/// Payload of `chat:edited`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EditedFrame {
    /// Ordinal of the message that was edited.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// Rows that left the transcript, the edited one included.
    pub removed: Vec<MessageId>,
    /// Where a pipeline stands now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
}

/// One stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StageView {
    /// From 0.
    pub index: u32,
    /// The member's Bot.
    pub name: String,
    /// A gate follows it.
    pub require_confirmation: bool,
    /// How far it is.
    pub status: StageStatus,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StageStatus {
    /// Passed.
    Completed,
    /// Its member works.
    Running,
    /// Its gate waits for a person.
    PendingConfirmation,
    /// It failed or was cancelled; a retry runs it again.
    Failed,
    /// Not reached.
    Pending,
}

/// Payload of `task:stage`: the contract's stage info (2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StageFrame {
    /// From 0.
    pub current_stage: u32,
    /// How many there are.
    pub total_stages: u32,
    /// The Bot of the current one.
    pub current_stage_name: String,
    /// A gate waits for a person.
    pub is_pending_confirmation: bool,
    /// All of them.
    pub stages: Vec<StageView>,
}

/// A message that waits behind the running turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueuedMessage {
    /// Its id from the start; its ordinal comes when it starts.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Who sent it.
    pub sender: Sender,
    /// Its text.
    pub content: String,
    /// The key that its sender chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<Uuid>,
}

/// Payload of `task:queue`: all that waits, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueFrame {
    /// What waits.
    pub queue: Vec<QueuedMessage>,
}

/// Payload of `task:updated`: what is absent did not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskFrame {
    /// New title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// New labels, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    /// New status of the Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(b: &bool) -> bool {
    !*b
}
