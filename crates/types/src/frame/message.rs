//! Rows of the transcript: who says what in which turn, and how far it is.

use serde::{Deserialize, Serialize};

use crate::{MessageId, Ordinal, TurnId, UserId, Uuid};

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
