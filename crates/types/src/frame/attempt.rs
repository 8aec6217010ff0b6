//! Attempts: where they run, what they use, how they end.

use serde::{Deserialize, Serialize};

use crate::{Attempt, FrameSeq, MessageId, Ordinal, Timestamp};

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

impl ErrorType {
    /// The outside word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimit => "rate_limit",
            Self::ModelUnavailable => "model_unavailable",
            Self::ContainerOom => "container_oom",
            Self::ContainerError => "container_error",
            Self::NetworkError => "network_error",
            Self::TimeoutError => "timeout_error",
            Self::LlmUnsupported => "llm_unsupported",
            Self::Forbidden => "forbidden",
            Self::PayloadTooLarge => "payload_too_large",
            Self::InvalidParameter => "invalid_parameter",
            Self::ContentFilter => "content_filter",
            Self::ProviderError => "provider_error",
            Self::ImageTooLarge => "image_too_large",
            Self::ModelProtocolError => "model_protocol_error",
            Self::InvalidRole => "invalid_role",
            Self::PermissionDenied => "permission_denied",
            Self::GenericError => "generic_error",
            Self::Lost => "lost",
        }
    }
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
    #[serde(default, skip_serializing_if = "super::is_false")]
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
