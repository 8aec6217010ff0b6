//! Team.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{NameRef, words};
use crate::selector::Selector;

words! {
    /// How the members of a Team work together.
    CollaborationModel {
        Solo = "solo",
        Pipeline = "pipeline",
        Route = "route",
        Coordinate = "coordinate",
        Collaborate = "collaborate",
    }
}

words! {
    /// What the next stage of a pipeline is told.
    ContextPassing {
        None = "none",
        OriginalUser = "original_user",
        PreviousBot = "previous_bot",
        OriginalAndPrevious = "original_and_previous",
    }
}

words! {
    /// What a member is in its Team.
    MemberRole {
        Leader = "leader",
        Member = "member",
    }
}

/// Bots that work together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeamSpec {
    /// Who works, in order; at least one, at most 32.
    pub members: Vec<Member>,
    /// How they work together.
    pub collaboration_model: CollaborationModel,
    /// Where it is offered; an empty list hides it.
    #[serde(rename = "bind_mode", default, skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<Vec<String>>,
    /// What it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// Absent: as its Shells do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_workspace: Option<bool>,
    /// Hint in the empty input field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_placeholder: Option<InputPlaceholder>,
    /// Offered for a click; at most 6 of 120 characters.
    #[serde(rename = "quick_phrases")]
    pub quick_phrases: Vec<String>,
    /// For catalogues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Map<String, Value>>,
    /// Tasks of one owner that may run at once.
    pub max_concurrent_tasks: u32,
    /// Rounds of `collaborate`, at least 1.
    pub max_rounds: u32,
}

impl TeamSpec {
    /// Index of the leader: the member marked so, else the first.
    #[must_use]
    pub fn leader(&self) -> usize {
        let leads = |member: &Member| member.role == Some(MemberRole::Leader);
        self.members.iter().position(leads).unwrap_or(0)
    }
}

/// A Bot in its place in a Team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// The Bot.
    pub bot_ref: NameRef,
    /// Extra instruction for this member.
    pub prompt: String,
    /// What it is in the Team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// A person confirms before the next stage begins.
    pub require_confirmation: bool,
    /// What the next stage is told.
    pub context_passing: ContextPassing,
    /// Device for this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Selector>,
}

/// Hint in the empty input field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPlaceholder {
    /// English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub en: Option<String>,
    /// Chinese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zh: Option<String>,
    /// On small screens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mobile: Option<Hints>,
    /// On large screens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desktop: Option<Hints>,
}

/// One hint in two languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hints {
    /// English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub en: Option<String>,
    /// Chinese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zh: Option<String>,
}
