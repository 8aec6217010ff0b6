//! Ghost, Shell, Bot, Skill, SkillBinding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use troupe_types::Timestamp;

use super::{KnowledgeBaseRef, McpServer, NameRef, ShellType, SkillRef, State};

/// A persona.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GhostSpec {
    /// Role and rules.
    pub system_prompt: String,
    /// MCP servers by name.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Skills on offer.
    pub skills: Vec<String>,
    /// Skills in the prompt from the start.
    #[serde(rename = "preload_skills")]
    pub preload_skills: Vec<String>,
    /// Pins names of `skills`.
    #[serde(rename = "skill_refs")]
    pub skill_refs: BTreeMap<String, SkillRef>,
    /// Pins names of `preload_skills`.
    #[serde(rename = "preload_skill_refs")]
    pub preload_skill_refs: BTreeMap<String, SkillRef>,
    /// Knowledge bases that every new Task begins with.
    pub default_knowledge_base_refs: Vec<KnowledgeBaseRef>,
}

/// A runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShellSpec {
    /// Which runtime.
    pub shell_type: ShellType,
    /// Providers that it accepts; none means any.
    pub support_model: Vec<String>,
    /// Container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// Public Shell that this derives from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_shell_ref: Option<String>,
    /// Whether a Task needs a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_workspace: Option<bool>,
}

impl ShellSpec {
    /// Whether a Task needs a repository, by default if the runtime works on files.
    #[must_use]
    pub fn needs_workspace(&self) -> bool {
        self.requires_workspace.unwrap_or(self.shell_type.needs_device())
    }
}

/// A Ghost in a Shell, with a Model or without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BotSpec {
    /// The Ghost.
    pub ghost_ref: NameRef,
    /// The Shell.
    pub shell_ref: NameRef,
    /// The Model; absent: the Task's choice, else the user's default Model, else `demo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<NameRef>,
    /// Model for images and videos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_model_ref: Option<NameRef>,
}

/// Instructions and tools that a model loads when it needs them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillSpec {
    /// By this the model decides to load it.
    pub description: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Body of `SKILL.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// For finding it.
    pub tags: Vec<String>,
    /// Shells that it works in.
    pub bind_shells: Vec<ShellType>,
    /// For its tool provider.
    pub config: Map<String, Value>,
    /// Tools that it declares.
    pub tools: Vec<SkillTool>,
    /// Tool factory inside the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<SkillProvider>,
    /// Join the Ghost's own, from the start of each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<BTreeMap<String, McpServer>>,
    /// Whether lists show it.
    pub visible: bool,
    /// Where the package came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SkillSource>,
}

/// A Skill that is on by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillBindingSpec {
    /// The Skill.
    pub skill_ref: NameRef,
    /// Whether it is in the prompt from the start.
    pub preload: bool,
    /// Whether it is on.
    pub enabled: bool,
}

/// A tool that a Skill declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillTool {
    /// Its name.
    pub name: String,
    /// Who makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// For its provider.
    pub config: Map<String, Value>,
}

/// Tool factory inside a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillProvider {
    /// Module.
    pub module: String,
    /// Class.
    pub class: String,
}

/// Where a package came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillSource {
    /// `upload` or `git`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// For `git`: the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    /// For `git`: the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill_path: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Timestamp>,
}

/// How a Skill is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillStatus {
    /// Whether it can be used.
    pub state: State,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Bytes of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// SHA-256 of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_hash: Option<String>,
}
