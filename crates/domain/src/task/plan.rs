//! What a turn uses of a Team, resolved once when the turn is planned.
//!
//! Replay and every attempt of the turn use this, whatever the Team becomes meanwhile.
//! Secrets are references, never values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Digest as _;

/// How the members of a Team work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollaborationModel {
    /// One member answers.
    Solo,
    /// Members in order, each output feeds the next; gates wait for a person.
    Pipeline,
    /// The leader picks the member that answers.
    Route,
    /// The leader splits the work, members work in parallel, the leader merges.
    Coordinate,
    /// Members discuss in rounds, the leader concludes.
    Collaborate,
}

impl CollaborationModel {
    /// The word that resources use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Pipeline => "pipeline",
            Self::Route => "route",
            Self::Coordinate => "coordinate",
            Self::Collaborate => "collaborate",
        }
    }
}

/// What the next stage of a pipeline is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextPassing {
    /// Nothing: only its own prompt and shared workspace files.
    #[default]
    None,
    /// The person's request.
    OriginalUser,
    /// The answer of the stage before.
    PreviousBot,
    /// Both, in labelled blocks.
    OriginalAndPrevious,
}

/// A Team as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeamPlan {
    /// SHA-256 of the canonical JSON of everything else, lower-case hex.
    pub hash: String,
    /// The Team's name.
    pub name: String,
    /// The Team's namespace as its user refers to it.
    pub namespace: String,
    /// The name for people.
    pub display_name: String,
    /// How the members work together.
    pub model: CollaborationModel,
    /// Bound on the rounds of a discussion, at least 1.
    pub max_rounds: u32,
    /// How many Tasks of one owner may run at once.
    pub max_concurrent_tasks: u32,
    /// At least one; a member is known by its index.
    pub members: Vec<MemberPlan>,
    /// Index of the leader.
    pub leader: u32,
    /// The person wants this turn thought through: models think that would not by themselves
    /// ([`thinking_of`](Self::thinking_of)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deep_thinking: bool,
}

/// A member as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberPlan {
    /// The Bot's name; may occur twice in a Team.
    pub name: String,
    /// The runtime: `Chat`, `ClaudeCode`, `Codex`..
    pub shell_type: String,
    /// Role and rules (the Ghost's prompt).
    pub system_prompt: String,
    /// The Team's extra instruction for this member.
    pub prompt: String,
    /// A gate follows this member's stage.
    pub require_confirmation: bool,
    /// What the stage after this one is told.
    pub context_passing: ContextPassing,
    /// Device selector (`os=linux,tool=claude`), if the runtime needs a device.
    pub on: Option<String>,
    /// The image of its container, if it runs in one; `None`: the pool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// The model, if the runtime takes one from us.
    pub model: Option<ModelPlan>,
    /// MCP servers by name, as in the Ghost and its Skills; secret values replaced by references.
    pub mcp_servers: BTreeMap<String, Value>,
    /// Names of the Skills on offer.
    pub skills: Vec<String>,
    /// Those of them whose instructions are a text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skill_texts: Vec<SkillPlan>,
}

/// A Skill as one turn uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillPlan {
    /// Its name.
    pub name: String,
    /// By this the model decides to load it.
    pub description: String,
    /// Its instructions.
    pub text: String,
    /// They stand in the prompt from the start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preload: bool,
    /// SHA-256 of its package (hexadecimal digits), if it came as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// A model as one turn uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Name of the Model resource.
    pub name: String,
    /// `demo`, `claude`, `openai`..
    pub provider: String,
    /// The provider's id of the model.
    pub model_id: String,
    /// Where it is reached, if not at the provider's own address.
    pub base_url: Option<String>,
    /// Extra headers without secrets.
    pub headers: BTreeMap<String, String>,
    /// The sealed key (`sealed:v1:..`), opened only when the model is called.
    pub sealed_key: Option<String>,
    /// The key is sent as `Authorization: Bearer` whatever the provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bearer: bool,
    /// A cheaper model for small things, for runtimes that use one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_model: Option<String>,
    /// Tokens of prompt and answer together.
    pub context_window: u64,
    /// Tokens of one answer.
    pub max_output_tokens: Option<u64>,
    /// How much it thinks before it answers; `None`: as the model does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<ThinkingPlan>,
    /// An administrator applied it: loopback addresses are open to it.
    pub trusted: bool,
}

/// How much a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingPlan {
    /// A little.
    Low,
    /// Normally.
    Medium,
    /// A lot.
    High,
    /// With at most so many tokens.
    Tokens(u32),
}

/// How much a model thinks whose Model says nothing, if a person asks for it. In tokens, where a
/// provider wants those, 16,384 or half of `max_output_tokens`.
pub const DEEP_THINKING: ThinkingPlan = ThinkingPlan::High;

impl TeamPlan {
    /// The member at this index.
    #[must_use]
    pub fn member(&self, index: u32) -> Option<&MemberPlan> {
        self.members.get(usize::try_from(index).ok()?)
    }

    /// How many members there are.
    #[must_use]
    pub fn size(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Whether the members' runtime runs the whole Team as one of its own: `coordinate`, where
    /// all members are Agno's at one place. Then one answer of the leader is all of a turn.
    #[must_use]
    pub fn runs_as_one(&self) -> bool {
        let [first, others @ ..] = self.members.as_slice() else { return false };
        let place = |m: &MemberPlan| (m.on.clone(), m.base_image.clone());
        self.model == CollaborationModel::Coordinate
            && !others.is_empty()
            && self.members.iter().all(|m| m.shell_type == "Agno")
            && others.iter().all(|m| place(m) == place(first))
    }

    /// The Bot's name of a member; empty if there is none.
    #[must_use]
    pub fn name_of(&self, index: u32) -> &str {
        self.member(index).map_or("", |m| &m.name)
    }
}

impl TeamPlan {
    /// The same for a turn that a person wants thought through.
    #[must_use]
    pub fn with_deep_thinking(&self) -> Self {
        let mut plan = Self { deep_thinking: true, ..self.clone() };
        plan.hash = plan.content_hash();
        plan
    }

    /// How much a model of this plan thinks: what its Model says, else [`DEEP_THINKING`] if the
    /// person asked for it.
    #[must_use]
    pub fn thinking_of(&self, model: &ModelPlan) -> Option<ThinkingPlan> {
        model.thinking.or_else(|| self.deep_thinking.then_some(DEEP_THINKING))
    }

    /// SHA-256 over the JSON of everything but `hash`, lower-case hex. Equal plans, equal hash.
    #[must_use]
    pub fn content_hash(&self) -> String {
        let bare = Self { hash: String::new(), ..self.clone() };
        let json = serde_json::to_vec(&bare).unwrap_or_default();
        super::text::hex(&sha2::Sha256::digest(&json))
    }
}
