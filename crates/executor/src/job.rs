//! What an execution is asked to do. A [`Job`] holds no secret and may lie on a disk; the
//! secrets that it names travel beside it ([`Secrets`](crate::Secrets)).

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use troupe_types::{Attempt, ExecutionId, TaskId, TurnId};

/// One attempt of one execution, as a device is given it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The Task: workspace and private directory of the runtime belong to it.
    pub task: TaskId,
    /// The turn: the hidden ref of the workspace is named after it.
    pub turn: TurnId,
    /// The execution.
    pub execution: ExecutionId,
    /// The attempt.
    pub attempt: Attempt,
    /// The Bot: several Bots of one Task have sessions of their own.
    pub bot: String,
    /// What runs it.
    pub runtime: RuntimeKind,
    /// Role and rules of the Bot, and of the Team for it.
    #[serde(default)]
    pub instructions: String,
    /// What it is asked now.
    pub prompt: Prompt,
    /// What was said before, told only to a runtime that has no session of it.
    #[serde(default)]
    pub history: String,
    /// The turn right before this one, if all of it was the same Bot's: a device that has the
    /// session of that turn goes on in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<TurnId>,
    /// Go on in this session of the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The model; `None`: as the runtime is set up on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelAccess>,
    /// What the runtime may do without asking.
    #[serde(default)]
    pub permissions: Permissions,
    /// What a person allowed for the whole Task before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// MCP servers by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Skills that lie on the device already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<SkillDir>,
    /// Skills that came with the job: the device writes them down before the runtime starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skill_texts: Vec<SkillText>,
    /// Where it works.
    #[serde(default)]
    pub workspace: WorkspaceSpec,
    /// What [`RuntimeKind::Command`] runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSpec>,
    /// Members, for runtimes that run a team of their own (Agno).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<TeamMember>,
    /// Further variables for the process; values may hold `${secret:NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

impl Job {
    /// The MCP servers of the Bot and of all members, with their names.
    pub fn all_mcp_servers(&self) -> impl Iterator<Item = (&String, &McpServer)> {
        self.mcp_servers.iter().chain(self.members.iter().flat_map(|m| &m.mcp_servers))
    }
}

/// Which program does the work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RuntimeKind {
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// Agno agents and teams.
    Agno,
    /// An allow-listed command.
    Command,
    /// A word that this version does not know (ACP, Dify.. later): refused by name.
    #[serde(untagged)]
    Other(String),
}

impl RuntimeKind {
    /// The word that resources use (`shellType`).
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::ClaudeCode => "ClaudeCode",
            Self::Codex => "Codex",
            Self::Agno => "Agno",
            Self::Command => "Command",
            Self::Other(word) => word,
        }
    }

    /// The word that selectors use (`tool=claude`).
    #[must_use]
    pub fn tool(&self) -> String {
        match self {
            Self::ClaudeCode => "claude".to_owned(),
            other => other.as_str().to_lowercase(),
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The runtime's own name of a conversation; opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person says to a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The text.
    #[serde(default)]
    pub text: String,
    /// Images, for runtimes that take them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
}

impl Prompt {
    /// Plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), images: Vec::new() }
    }
}

/// An image of a prompt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `image/png`..
    pub mime: String,
    /// Base64.
    pub data: String,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}, {} bytes of base64)", self.mime, self.data.len())
    }
}

/// How the runtime reaches its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelAccess {
    /// The provider's id of the model.
    pub model: String,
    /// A cheaper model for small things, if the runtime has use for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_model: Option<String>,
    /// Base URL, if not the provider's own: without `/v1` for Claude Code, with it elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Name of the secret that is the key; `None`: the device's own login is used, if there is no
    /// `base_url`: no other server is shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Send the key as `Authorization: Bearer` (Claude Code).
    #[serde(default)]
    pub bearer: bool,
    /// Tries after a failed call that may be repeated (the runtime's own default is minutes).
    #[serde(default = "ModelAccess::retries_default")]
    pub retries: u32,
}

impl ModelAccess {
    const fn retries_default() -> u32 {
        4
    }
}

/// What a runtime may do without asking a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permissions {
    /// It asks before it changes files or runs commands.
    #[default]
    Ask,
    /// It edits files of the workspace, and asks for everything else.
    AcceptEdits,
    /// It changes nothing.
    ReadOnly,
    /// It never asks.
    Bypass,
}

/// "Always allow this in this Task."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// The tool as the runtime calls it.
    pub tool: String,
    /// The very command, for tools that run commands; `None`: whatever the tool is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// An MCP server that the runtime may use. Values of `env` and `headers` may hold
/// `${secret:NAME}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum McpServer {
    /// A program on the device.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Its variables.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
    /// A server over streamable HTTP.
    StreamableHttp {
        /// Where.
        url: String,
        /// Headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
}

/// A Skill on the device's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillDir {
    /// Its name; becomes the name of a directory: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The unpacked package, with `SKILL.md` in it.
    pub path: PathBuf,
}

/// A Skill that is a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillText {
    /// As of [`SkillDir`].
    pub name: String,
    /// By this the model decides to load it.
    pub description: String,
    /// The body of `SKILL.md`.
    pub text: String,
    /// SHA-256 of the package with its other files (hexadecimal digits), if it came as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// A member of a team that the runtime itself runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamMember {
    /// Its name.
    pub name: String,
    /// What it is good for.
    #[serde(default)]
    pub role: String,
    /// Its rules.
    #[serde(default)]
    pub instructions: String,
    /// Its model; `None`: the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelAccess>,
    /// Its MCP servers by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp_servers: BTreeMap<String, McpServer>,
}

/// Where an execution works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// Where the files come from.
    #[serde(default)]
    pub source: WorkspaceSource,
    /// The branch to start from; `None`: what is checked out, or the remote's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A git worktree of its own, so that Tasks do not collide in one directory.
    #[serde(default)]
    pub worktree: bool,
    /// It is not removed, however long nobody uses it.
    #[serde(default)]
    pub keep: bool,
}

/// Where the files of a workspace come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum WorkspaceSource {
    /// An empty directory of the Task.
    #[default]
    Empty,
    /// A clone; the URL never holds a name or a token.
    Clone {
        /// `https://..` or `ssh://..` or `git@host:..`; `file://` where the device allows it.
        url: String,
        /// Name of the secret that is the git token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// User name that goes with the token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// A directory of the device, below one of its allowed roots.
    Existing {
        /// Where.
        path: PathBuf,
    },
}

/// A command without an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program's name as the device's allow-list has it, or its absolute path.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Given on standard input, which is then closed.
    #[serde(default)]
    pub stdin: String,
}

/// Bounds of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A turn that takes longer is ended as `timeout_error` (waiting for a person not counted).
    pub turn_ms_max: u64,
    /// A runtime that is silent for longer while it works is ended (0: no bound).
    pub silent_ms_max: u64,
    /// Processes and threads of the whole tree, where cgroups are at hand (0: no bound).
    pub pids_max: u32,
    /// Bytes of memory of the whole tree, where cgroups are at hand (0: no bound).
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            turn_ms_max: 4 * 60 * 60 * 1_000,
            silent_ms_max: 30 * 60 * 1_000,
            pids_max: 2_048,
            memory_bytes_max: 0,
        }
    }
}

impl Limits {
    /// Bound of a turn.
    #[must_use]
    pub const fn turn(&self) -> Duration {
        Duration::from_millis(self.turn_ms_max)
    }

    /// Bound of silence.
    #[must_use]
    pub const fn silence(&self) -> Option<Duration> {
        if self.silent_ms_max == 0 { None } else { Some(Duration::from_millis(self.silent_ms_max)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_of_later_versions_are_kept_by_name() {
        let kind: RuntimeKind = serde_json::from_str("\"ACP\"").unwrap();
        assert_eq!(kind, RuntimeKind::Other("ACP".into()));
        assert_eq!(serde_json::to_string(&kind).unwrap(), "\"ACP\"");
        let kind: RuntimeKind = serde_json::from_str("\"ClaudeCode\"").unwrap();
        assert_eq!((kind.tool().as_str(), kind.as_str()), ("claude", "ClaudeCode"));
    }
}
