//! Tasks, turns and messages as people see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_types::{
    Attempt, Block, DeviceId, ErrorType, FrameSeq, LogId, MessageId, MessageKind, Ordinal, Place,
    Role, RunStep, Sender, StageFrame, Status, TaskId, Timestamp, TurnId, UserId, Uuid, Wait,
};

/// A Task in a list (contract: TaskLite).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskLite {
    /// Its id.
    pub id: TaskId,
    /// Who owns it.
    pub user_id: UserId,
    /// Title.
    pub title: String,
    /// How far it is.
    pub status: Status,
    /// Name of its Team.
    pub team_name: String,
    /// Namespace of its Team.
    pub team_namespace: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its last turn ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// The last line of the answer, for lists (may be behind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<String>,
    /// Approvals and questions of its agents that wait for a person.
    #[serde(default)]
    pub asks: u32,
}

/// An approval or a question of an agent that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenAsk {
    /// The Task.
    pub task_id: TaskId,
    /// Its title.
    pub title: String,
    /// Name of its Team.
    pub team_name: String,
    /// Namespace of its Team.
    pub team_namespace: String,
    /// The row that asks.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The member's Bot.
    pub bot_name: String,
    /// Where it runs.
    #[serde(rename = "where")]
    pub place: Place,
    /// What is asked: `approval` or `question`. Its `expires_at` (absent: never) says when it
    /// is over if nobody answers.
    pub block: Block,
}

/// Answer to `GET /api/v1/asks`: what waits for the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenAsks {
    /// Those that wait longest first; at most 100.
    pub asks: Vec<OpenAsk>,
    /// There are more, or some Tasks could not be asked.
    #[serde(default)]
    pub more: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// How many there are in all.
    pub total: u64,
    /// This page.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A Task, whole but for its transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Who owns it.
    pub user_id: UserId,
    /// The owner's name.
    pub user_name: String,
    /// Title.
    pub title: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub status: Status,
    /// Why it waits, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Namespace of its Team.
    pub team_namespace: String,
    /// Name of its Team.
    pub team_name: String,
    /// How its members work together.
    pub collaboration_model: String,
    /// Position of a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageFrame>,
    /// What waits behind the running turn.
    #[serde(default)]
    pub queue: Vec<troupe_types::QueuedMessage>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// This history of frames; another one means: start over.
    pub log: LogId,
    /// Seq of the last committed frame.
    pub head: FrameSeq,
}

/// One request and what answers it, folded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TurnView {
    /// Its id.
    #[serde(rename = "turn_id")]
    pub turn: TurnId,
    /// Its rows, by ordinal.
    pub messages: Vec<MessageView>,
}

/// One row of the transcript, folded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageView {
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
    /// Where in the run it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RunStep>,
    /// Status of its last attempt.
    pub status: Status,
    /// A person's or hand-off text; of an answer: all of its valid text.
    pub content: String,
    /// Valid blocks, in order of creation, text and thinking included.
    pub blocks: Vec<Block>,
    /// Its attempts, the current one last.
    pub attempts: Vec<AttemptView>,
    /// Tokens, summed over its model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageTotal>,
    /// The sender's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<Uuid>,
    /// When its frame was decided.
    pub created_at: Timestamp,
}

/// One try at an answer, folded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptView {
    /// Which try.
    pub attempt: Attempt,
    /// `RUNNING`, `COMPLETED`, `FAILED`, `CANCELLED`; a lost one is FAILED with error `lost`.
    pub status: Status,
    /// Where it ran.
    #[serde(rename = "where")]
    pub place: Place,
    /// The member's Bot.
    pub bot_name: String,
    /// The runtime's name.
    pub shell_type: String,
    /// The model in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
    /// Blocks that a later attempt did not keep: shown folded as "interrupted".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupted: Vec<Block>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptError {
    /// For machines.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// For people.
    pub error: String,
    /// A further attempt followed by itself.
    #[serde(default)]
    pub continues: bool,
}

/// Tokens of several model calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageTotal {
    /// The last model that was called.
    pub model: String,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens sent that the provider had cached.
    pub cached_tokens: u64,
    /// How many calls.
    pub calls: u32,
    /// Cost, where every call had a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// One line of the outline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutlineRow {
    /// The turn.
    #[serde(rename = "turn_id")]
    pub turn: TurnId,
    /// Its first frame.
    pub first_seq: FrameSeq,
    /// Ordinal of the person's row.
    #[serde(rename = "message_id")]
    pub ordinal: Ordinal,
    /// The author's name.
    pub author: String,
    /// First 80 characters of the request.
    pub excerpt: String,
    /// How it ended, or runs.
    pub status: Status,
}

/// Answer to `task:join`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinAnswer {
    /// This history of frames.
    pub log: LogId,
    /// Everything up to here is folded into the rest; frames above follow.
    pub head: FrameSeq,
    /// The Task.
    pub task: TaskView,
    /// The newest turns, oldest first.
    pub turns: Vec<TurnView>,
    /// All turns, a line each.
    pub outline: Vec<OutlineRow>,
    /// Who else looks.
    #[serde(default)]
    pub viewers: Vec<Viewer>,
    /// For the contract's clients: the running answer.
    #[serde(default)]
    pub streaming: Option<Streaming>,
    /// For the contract's clients: rows above `after_message_id`.
    #[serde(default)]
    pub subtasks: Vec<MessageView>,
}

/// Somebody in a Task's room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Viewer {
    /// Who.
    pub user_id: UserId,
    /// The name.
    pub user_name: String,
}

/// The contract's view of a running answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Streaming {
    /// The row.
    #[serde(rename = "subtask_id")]
    pub message: MessageId,
    /// Which try.
    pub attempt: Attempt,
    /// Code points of valid text so far.
    pub offset: u64,
    /// That text.
    pub cached_content: String,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// Answer to `GET .../turns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TurnsPage {
    /// This history of frames.
    pub log: LogId,
    /// Everything up to here is folded.
    pub head: FrameSeq,
    /// Oldest first.
    pub turns: Vec<TurnView>,
    /// Give this turn as `before` to get older ones; absent at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<TurnId>,
}

/// Answer to `GET .../frames`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FramesPage {
    /// This history of frames.
    pub log: LogId,
    /// Seq of the last committed frame.
    pub head: FrameSeq,
    /// In order, from the frame after `after`.
    pub frames: Vec<FrameItem>,
}

/// One frame with the name of its event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FrameItem {
    /// Name of the event.
    pub event: String,
    /// Its payload, `seq` included.
    pub data: Value,
}

/// `PATCH /api/v1/tasks/{id}`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskPatch {
    /// New title, 1 to 256 characters.
    #[serde(default)]
    pub title: Option<String>,
    /// New labels, all of them.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
}

/// [`WhyAnswer::summary`] of a Task that does what it is to do.
pub const RUNS: &str = "runs";

/// Answer to `GET .../why`: why it waits or what it does, in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhyAnswer {
    /// The Task.
    pub task_id: TaskId,
    /// How far it is.
    pub status: Status,
    /// One sentence.
    pub summary: String,
    /// More of it: one sentence per execution, slot, queue entry.
    pub details: Vec<String>,
    /// What a person can do about it.
    #[serde(default)]
    pub next_steps: Vec<String>,
    /// Devices that its attempts run on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceId>,
}
