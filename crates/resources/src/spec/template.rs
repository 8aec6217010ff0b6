//! Template.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BotSpec, GhostSpec, SubscriptionSpec, TeamSpec};

/// A bundle of resources that a person makes their own, each under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateSpec {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Under what it is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Specs of Ghosts.
    pub ghosts: BTreeMap<String, GhostSpec>,
    /// Specs of Bots.
    pub bots: BTreeMap<String, BotSpec>,
    /// Specs of Teams.
    pub teams: BTreeMap<String, TeamSpec>,
    /// Specs of Subscriptions.
    pub subscriptions: BTreeMap<String, SubscriptionSpec>,
}
