//! Blocks: the parts of an answer that are not plain text.
//!
//! Text and thinking blocks are made by the first chunk that names their id; all others by a
//! `block_created` frame and changed by `block_updated` frames.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A part of an assistant message. `id` is unique in its Task: `{ordinal}.{attempt}.{n}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Block {
    /// `{ordinal of the message}.{attempt}.{n}`, n from 1 in creation order.
    pub id: String,
    /// What it is, with its own fields.
    #[serde(flatten)]
    pub kind: BlockKind,
    /// How far it is.
    pub status: BlockStatus,
    /// Milliseconds since the Unix epoch (the contract's form).
    pub timestamp: i64,
    /// The tool call of a sub-agent that this block belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_tool_use_id: Option<String>,
}

/// How far a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BlockStatus {
    /// Known, not started.
    Pending,
    /// The model is still writing the arguments.
    GeneratingArguments,
    /// Under way.
    Running,
    /// Text that still grows.
    Streaming,
    /// Finished well.
    Done,
    /// Finished badly.
    Error,
    /// It may have run: its result was lost with its attempt.
    Unknown,
}

impl BlockStatus {
    /// Whether nothing further happens to the block.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Error | Self::Unknown)
    }
}

/// The kinds of blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BlockKind {
    /// Part of the answer, Markdown.
    Text {
        /// The text so far.
        content: String,
    },
    /// What the model thought.
    Thinking {
        /// The text so far.
        content: String,
    },
    /// A tool call.
    Tool {
        /// The provider's id of the call.
        tool_use_id: String,
        /// The tool's name.
        tool_name: String,
        /// A name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// Arguments; null while they are being written.
        #[serde(default)]
        tool_input: Value,
        /// The result as text, capped; null until there is one.
        #[serde(default)]
        tool_output: Option<String>,
        /// The MCP server that offers the tool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_label: Option<String>,
    },
    /// A pipeline stage that waits for a person.
    Confirmation {
        /// Stage index, from 0.
        stage: u32,
        /// What the next stage would be given.
        handoff: String,
    },
    /// Any further kind: kept and shown, never refused.
    #[serde(untagged)]
    Other(serde_json::Map<String, Value>),
}

/// Changed fields of a block; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockPatch {
    /// New status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<BlockStatus>,
    /// New content of a text-like block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// New arguments of a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_input: Option<Value>,
    /// New result of a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_output: Option<String>,
}

impl Block {
    /// Takes over what a patch changes.
    pub fn apply(&mut self, patch: &BlockPatch) {
        if let Some(status) = patch.status {
            self.status = status;
        }
        match &mut self.kind {
            BlockKind::Text { content } | BlockKind::Thinking { content } => {
                if let Some(new) = &patch.content {
                    content.clone_from(new);
                }
            }
            BlockKind::Tool { tool_input, tool_output, .. } => {
                if let Some(new) = &patch.tool_input {
                    tool_input.clone_from(new);
                }
                if let Some(new) = &patch.tool_output {
                    *tool_output = Some(new.clone());
                }
            }
            // Approvals, diffs..: kinds that the runners know and this crate does not.
            BlockKind::Other(fields) => {
                let mut set = |name: &str, new: Option<Value>| {
                    fields.extend(new.map(|new| (name.to_owned(), new)));
                };
                set("content", patch.content.clone().map(Value::String));
                set("tool_input", patch.tool_input.clone());
                set("tool_output", patch.tool_output.clone().map(Value::String));
            }
            BlockKind::Confirmation { .. } => {}
        }
    }
}
