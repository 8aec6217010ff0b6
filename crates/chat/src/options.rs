//! Bounds of a run.

use std::time::Duration;

use serde_json::{Map, Value};

/// Bounds of a run, and what its MCP entries may refer to.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// Model calls of one message that may ask for tools (30); after them the model is called
    /// once more, without tools.
    pub tool_rounds_max: u32,
    /// Longest call of one tool, unless the tool says otherwise (60 s).
    pub tool_timeout: Duration,
    /// Longest call of one MCP tool, unless its server's entry says otherwise (180 s).
    pub mcp_call_timeout: Duration,
    /// From connecting to an MCP server to having its list of tools (30 s).
    pub mcp_connect_timeout: Duration,
    /// Tools of one run, the rest is left out (128: what all providers take).
    pub tools_max: usize,
    /// Read-only tools that run at once (8).
    pub parallel_max: usize,
    /// Tokens of one tool result that the model is told (15,000).
    pub result_tokens_max: u64,
    /// Values for `${{path.to.value}}` in MCP entries; see [`variables`](crate::variables).
    pub variables: Map<String, Value>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            tool_rounds_max: 30,
            tool_timeout: Duration::from_secs(60),
            mcp_call_timeout: Duration::from_secs(180),
            mcp_connect_timeout: Duration::from_secs(30),
            tools_max: 128,
            parallel_max: 8,
            result_tokens_max: 15_000,
            variables: Map::new(),
        }
    }
}
