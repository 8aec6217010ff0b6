//! What is told of a Task besides its rows: why it waits, its stage, its queue, its title.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Sender, Status};
use crate::{MessageId, Timestamp, Uuid};

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
