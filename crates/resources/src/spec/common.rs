//! What several kinds share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words;

words! {
    /// A runtime.
    ShellType {
        ClaudeCode = "ClaudeCode",
        Agno = "Agno",
        Dify = "Dify",
        Chat = "Chat",
        Codex = "Codex",
        Acp = "ACP",
        Command = "Command",
    }
}

impl ShellType {
    /// Whether it works on files of a device or a container.
    #[must_use]
    pub const fn needs_device(self) -> bool {
        !matches!(self, Self::Chat | Self::Dify)
    }
}

words! {
    /// How an MCP server is reached.
    McpTransport {
        StreamableHttp = "streamable-http",
        Stdio = "stdio",
    }
}

words! {
    /// Whether a resource can be used.
    State {
        Available = "Available",
        Unavailable = "Unavailable",
    }
}

/// Names another resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRef {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// Pins a Skill's name to one Skill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillRef {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill_id: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Whether it is a public Skill.
    pub is_public: bool,
    /// SHA-256 of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
}

/// Names a KnowledgeBase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeBaseRef {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    pub name: String,
}

/// An MCP server. `Debug` leaves headers and variables out: they may hold credentials.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// How it is reached.
    #[serde(rename = "type")]
    pub transport: McpTransport,
    /// Its address, for `streamable-http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of each request, for `streamable-http`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The program, for `stdio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments, for `stdio`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, for `stdio`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Seconds for one call, 1 to 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

impl std::fmt::Debug for McpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("transport", &self.transport)
            .field("url", &self.url)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}
