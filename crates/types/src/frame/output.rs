//! What an attempt puts out: text, thinking, blocks.

use serde::{Deserialize, Serialize};

use crate::{Attempt, Block, BlockPatch, MessageId};

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
    #[serde(default, skip_serializing_if = "super::is_false")]
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
    #[serde(default, skip_serializing_if = "super::is_false")]
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
    #[serde(default, skip_serializing_if = "super::is_false")]
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
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub late: bool,
}
