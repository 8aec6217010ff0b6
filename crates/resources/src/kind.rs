//! The kinds, and the names under which people and URLs know them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::problem::suggest;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A persona: system prompt, MCP servers, skills.
    Ghost,
    /// A model of a provider and how to reach it.
    Model,
    /// A runtime that turns prompts into work.
    Shell,
    /// A Ghost in a Shell, with a Model or without.
    Bot,
    /// Bots that work together.
    Team,
    /// Instructions and tools that a model loads when it needs them.
    Skill,
    /// A repository to work in.
    Workspace,
    /// A durable conversation with a Team.
    Task,
    /// An enrolled machine.
    Device,
    /// Documents to search.
    KnowledgeBase,
    /// A search backend.
    Retriever,
    /// A Team that is started by a trigger.
    Subscription,
    /// A bundle of resources that a person makes their own.
    Template,
    /// A Skill that is on by default.
    SkillBinding,
}

/// The text names no kind.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no kind is called `{given}`")]
pub struct UnknownKind {
    /// What was asked for, cut to 80 characters.
    pub given: String,
    /// The nearest plural name, if one is near.
    pub suggestion: Option<String>,
}

impl Kind {
    /// Every kind, in the order in which they build on each other.
    pub const ALL: [Self; 14] = [
        Self::Ghost,
        Self::Model,
        Self::Shell,
        Self::Bot,
        Self::Team,
        Self::Skill,
        Self::Workspace,
        Self::Task,
        Self::Device,
        Self::KnowledgeBase,
        Self::Retriever,
        Self::Subscription,
        Self::Template,
        Self::SkillBinding,
    ];

    /// As in the `kind` field of a document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ghost => "Ghost",
            Self::Model => "Model",
            Self::Shell => "Shell",
            Self::Bot => "Bot",
            Self::Team => "Team",
            Self::Skill => "Skill",
            Self::Workspace => "Workspace",
            Self::Task => "Task",
            Self::Device => "Device",
            Self::KnowledgeBase => "KnowledgeBase",
            Self::Retriever => "Retriever",
            Self::Subscription => "Subscription",
            Self::Template => "Template",
            Self::SkillBinding => "SkillBinding",
        }
    }

    /// As in URLs.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Ghost => "ghosts",
            Self::Model => "models",
            Self::Shell => "shells",
            Self::Bot => "bots",
            Self::Team => "teams",
            Self::Skill => "skills",
            Self::Workspace => "workspaces",
            Self::Task => "tasks",
            Self::Device => "devices",
            Self::KnowledgeBase => "knowledgebases",
            Self::Retriever => "retrievers",
            Self::Subscription => "subscriptions",
            Self::Template => "templates",
            Self::SkillBinding => "skillbindings",
        }
    }

    /// Lower case, one of them.
    #[must_use]
    pub fn singular(self) -> &'static str {
        self.plural().strip_suffix('s').unwrap_or(self.plural())
    }

    /// Short forms for typing.
    #[must_use]
    pub const fn short_names(self) -> &'static [&'static str] {
        match self {
            Self::Workspace => &["ws"],
            Self::Device => &["dev"],
            Self::KnowledgeBase => &["kb", "kbs", "knowledge-base", "knowledge-bases"],
            Self::Subscription => &["sub", "subs"],
            Self::SkillBinding => &["skill-binding", "skill-bindings"],
            _ => &[],
        }
    }

    /// The `kind` of a list of these.
    #[must_use]
    pub fn list_name(self) -> String {
        format!("{}List", self.name())
    }

    /// The kind with exactly this `kind` field.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind with exactly this plural, as in a URL.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// The kind of a list, from its `kind` field (`TeamList`).
    #[must_use]
    pub fn from_list_name(name: &str) -> Option<Self> {
        name.strip_suffix("List").and_then(Self::from_name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// What a person types: name, singular, plural or short form, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let word: String = text.chars().take(80).collect::<String>().to_ascii_lowercase();
        let known = |kind: &Kind| {
            word == kind.plural() || word == kind.singular() || kind.short_names().contains(&&*word)
        };
        Self::ALL.into_iter().find(known).ok_or_else(|| UnknownKind {
            suggestion: suggest(&word, Self::ALL.iter().map(|kind| kind.plural())),
            given: word,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert_eq!(Kind::from_plural(kind.plural()), Some(kind));
            assert_eq!(Kind::from_list_name(&kind.list_name()), Some(kind));
            assert_eq!(kind.singular().parse(), Ok(kind));
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.plural().to_uppercase().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!("kb".parse(), Ok(Kind::KnowledgeBase));
    }

    #[test]
    fn a_near_miss_is_suggested() {
        let err = "taems".parse::<Kind>().unwrap_err();
        assert_eq!(err.suggestion.as_deref(), Some("teams"));
        assert_eq!("zebra".parse::<Kind>().unwrap_err().suggestion, None);
    }
}
