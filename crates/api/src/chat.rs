//! What a client says over Socket.IO (`/chat`) and `/api/v1/stream`, and the acks.
//!
//! Unknown fields are ignored here (the contract's clients send many that do not matter yet);
//! wrong types are refused with the field's name.

use serde::{Deserialize, Serialize};
use troupe_types::{Attempt, FrameSeq, MessageId, Ordinal, TaskId, TurnId, Uuid};

/// `chat:send`. Also `POST /api/v1/tasks` (without `task_id`) and `.../messages` (with it).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatSend {
    /// Absent: a new Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The Team as `name` or `namespace/name` (`namespace#name` too). Needed for a new Task;
    /// for an old one it defaults to the Task's Team.
    #[serde(default, alias = "team", skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// The text, at most 60,000 bytes.
    #[serde(default)]
    pub message: String,
    /// Title of a new Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `pipeline:confirm` passes the gate of a pipeline (`message` replaces the hand-off).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Makes a repeated send harmless; ours always send one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<Uuid>,
    /// A Model for this Task from now on instead of the Bots' own; empty: theirs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_override_bot_model: Option<String>,
    /// Models think before they answer this message, also those whose Model does not say so.
    /// Chat Shells only; a model that cannot fails the turn. False is as good as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_deep_thinking: Option<bool>,
    /// Device or selector to run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Where the files of a new Task come from: the URL of a git repository (`https://`,
    /// `ssh://`, `git@host:path`), or an absolute directory of the device that its policy file
    /// allows. Absent: an empty directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_url: Option<String>,
    /// The branch to start from; absent: the repository's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_name: Option<String>,
    /// In a directory of the device: work in a git worktree of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<bool>,
    /// Keep the workspace and the container when nobody uses them (the label `preserveExecutor`,
    /// which may be changed later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_executor: Option<bool>,
}

/// Ack of `chat:send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatSendAck {
    /// The Task.
    pub task_id: TaskId,
    /// The person's row.
    #[serde(default, rename = "subtask_id", skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Its ordinal; absent while queued.
    #[serde(default, rename = "message_id", skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<Ordinal>,
    /// Its turn; absent while queued.
    #[serde(default, rename = "turn_id", skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// It waits behind the running turn.
    #[serde(default)]
    pub queued: bool,
    /// After a confirmation: where the pipeline stands now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_stage: Option<u32>,
    /// After a confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_stages: Option<u32>,
    /// After a confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_stage_name: Option<String>,
    /// After the confirmation of the last stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_completed: Option<bool>,
}

/// `chat:cancel`: one of the two, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatCancel {
    /// The Task.
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// The contract's way to name it: a row of the running turn. Beside `task_id` it stops that
    /// turn only, not the one that may have begun since.
    #[serde(default)]
    pub subtask_id: Option<MessageId>,
}

/// `chat:resume {task_id, after}`, or the contract's `{task_id, subtask_id, offset, attempt}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatResume {
    /// The Task.
    pub task_id: TaskId,
    /// The client has everything up to here.
    #[serde(default)]
    pub after: Option<FrameSeq>,
    /// The contract's way: text of this row..
    #[serde(default)]
    pub subtask_id: Option<MessageId>,
    /// ..after this many code points..
    #[serde(default)]
    pub offset: Option<u64>,
    /// ..of this attempt.
    #[serde(default)]
    pub attempt: Option<Attempt>,
}

/// Ack of `chat:resume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatResumeAck {
    /// Frames follow.
    #[serde(default)]
    pub success: bool,
    /// Seq of the last committed frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<FrameSeq>,
    /// Too far behind: join anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejoin: Option<bool>,
}

/// `chat:retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatRetry {
    /// The Task.
    pub task_id: TaskId,
    /// The row to try again.
    pub subtask_id: MessageId,
    /// Another Model for this turn.
    #[serde(default)]
    pub force_override_bot_model: Option<String>,
}

/// `chat:edit`: one atomic edit-and-run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatEdit {
    /// The Task.
    pub task_id: TaskId,
    /// The person's row to replace.
    pub subtask_id: MessageId,
    /// The new text.
    #[serde(alias = "new_content")]
    pub message: String,
    /// As in `chat:send`.
    #[serde(default)]
    pub client_message_id: Option<Uuid>,
    /// As in `chat:send`; the message that is replaced does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_deep_thinking: Option<bool>,
}

/// `task:join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskJoin {
    /// The Task.
    pub task_id: TaskId,
    /// How many of the newest turns, 0 to 100; absent: 20.
    #[serde(default)]
    pub turns: Option<u32>,
    /// The contract's way: rows above this ordinal in `subtasks`.
    #[serde(default)]
    pub after_message_id: Option<Ordinal>,
}

/// `task:leave`, `task:close-session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskRef {
    /// The Task.
    pub task_id: TaskId,
}

/// `queue:edit`: changes what waits behind the running turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum QueueOp {
    /// Take one out.
    Remove {
        /// The Task.
        task_id: TaskId,
        /// Which.
        subtask_id: MessageId,
    },
    /// Replace the text of one.
    Replace {
        /// The Task.
        task_id: TaskId,
        /// Which.
        subtask_id: MessageId,
        /// The new text.
        message: String,
    },
    /// All of them in another order.
    Reorder {
        /// The Task.
        task_id: TaskId,
        /// The same ids.
        order: Vec<MessageId>,
    },
    /// Start the first one now (after a failure, a cancel or at a gate).
    Resume {
        /// The Task.
        task_id: TaskId,
    },
}

/// `auth:refresh` on an open socket; the first message of `/api/v1/stream`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthToken {
    /// An access token or an API key.
    pub token: String,
}

impl std::fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthToken")
    }
}

/// `history:sync`: the contract's way to get rows above an ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistorySync {
    /// The Task.
    pub task_id: TaskId,
    /// Rows above this ordinal.
    pub after_message_id: Ordinal,
}

/// Every client event of `/chat`, for generated tests and documents.
pub const CLIENT_EVENTS: &[&str] = &[
    "chat:send",
    "chat:cancel",
    "chat:resume",
    "chat:retry",
    "chat:edit",
    "chat:answer",
    "task:join",
    "task:leave",
    "queue:edit",
    "auth:refresh",
    "history:sync",
];
