//! What a turn uses, ready to be stored.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    resource::{Owner, ResourceKey},
    selector::Selector,
    spec::{
        ApiFormat, CollaborationModel, ContextPassing, KnowledgeBaseRef, McpServer, MemberRole,
        Provider, ShellType, Thinking,
    },
};

/// Where a secret is; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretRef {
    /// Whose resource holds it.
    pub owner: Owner,
    /// Which resource.
    pub resource: ResourceKey,
    /// Which field, as `spec.modelConfig.env.api_key`.
    pub path: String,
}

/// A Team as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedTeam {
    /// Whose Team it is.
    pub owner: Owner,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// How the members work together.
    pub collaboration_model: CollaborationModel,
    /// Rounds of `collaborate`, at least 1.
    pub max_rounds: u32,
    /// Tasks of one owner that may run at once, at least 1.
    pub max_concurrent_tasks: u32,
    /// Whether a Task needs a repository.
    pub requires_workspace: bool,
    /// Index of the leader.
    pub leader: u32,
    /// At least one; a member is known by its index.
    pub members: Vec<ResolvedMember>,
}

/// A member as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedMember {
    /// Its place, from 0.
    pub index: u32,
    /// Unlike any other member's: the Bot's name, with a number if the Bot is there before.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// The Bot.
    pub bot: String,
    /// The Bot's namespace.
    pub bot_namespace: String,
    /// As it was marked; [`ResolvedTeam::leader`] says who leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// The Team's extra instruction.
    pub prompt: String,
    /// A person confirms before the next stage begins.
    pub require_confirmation: bool,
    /// What the next stage is told.
    pub context_passing: ContextPassing,
    /// Device for this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Selector>,
    /// The runtime.
    pub shell: ResolvedShell,
    /// Role and rules.
    pub system_prompt: String,
    /// MCP servers by name.
    pub mcp_servers: BTreeMap<String, ResolvedMcpServer>,
    /// Skills that work in this runtime.
    pub skills: Vec<ResolvedSkill>,
    /// Knowledge bases that a new Task begins with.
    pub knowledge_bases: Vec<KnowledgeBaseRef>,
    /// The Model; none if the runtime brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ResolvedModel>,
}

/// A runtime as one turn uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedShell {
    /// The Shell's namespace.
    pub namespace: String,
    /// The Shell.
    pub name: String,
    /// Which runtime.
    pub shell_type: ShellType,
    /// Container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// Whether a Task needs a repository.
    pub requires_workspace: bool,
}

/// An MCP server as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedMcpServer {
    /// Whose Ghost or Skill names it.
    pub owner: Owner,
    /// As in the Ghost or Skill, without the headers and variables below.
    #[serde(flatten)]
    pub server: McpServer,
    /// Further headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// Further variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretRef>,
}

/// A Skill as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedSkill {
    /// Whose Skill it is.
    pub owner: Owner,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// By this the model decides to load it.
    pub description: String,
    /// Whether it is in the prompt from the start.
    pub preload: bool,
    /// Its instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of the package, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_hash: Option<String>,
    /// MCP servers that come with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp_servers: BTreeMap<String, ResolvedMcpServer>,
}

/// A Model as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedModel {
    /// Whose Model it is.
    pub owner: Owner,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// The provider; none for Dify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The API that is spoken: `claude`, `openai`, `openai-responses`, `gemini`, `demo`..
    pub protocol: String,
    /// Of OpenAI's APIs.
    pub api_format: ApiFormat,
    /// The provider's id of the model.
    pub model_id: String,
    /// Where the API is, if not at the provider's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Where the key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Whether the key is sent as `Authorization: Bearer` whatever the provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bearer: bool,
    /// Extra headers of each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Further headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// Tokens of prompt and answer together.
    pub context_window: u64,
    /// Tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// How much it thinks before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The same as a bound in tokens; never both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_tokens: Option<u32>,
    /// Whether it reads images.
    pub supports_image: bool,
    /// Small model of Claude Code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub haiku_model: Option<String>,
    /// Middle model of Claude Code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sonnet_model: Option<String>,
    /// Large model of Claude Code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opus_model: Option<String>,
    /// For a Dify app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dify: Option<DifyPlan>,
}

/// A Dify app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifyPlan {
    /// Where the key is.
    pub api_key: SecretRef,
    /// Where Dify is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// Its inputs, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
}

impl ResolvedTeam {
    /// SHA-256 over the canonical JSON, lower-case hex: the same content, the same hash.
    #[must_use]
    pub fn content_hash(&self) -> String {
        let value = serde_json::to_value(self).expect("a plan has text keys only");
        let mut canonical = String::new();
        write_canonical(&value, &mut canonical);
        HEXLOWER.encode(&Sha256::digest(canonical.as_bytes()))
    }
}

/// JSON without spaces and with sorted keys, whatever order the map type keeps.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(value, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
