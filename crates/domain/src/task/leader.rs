//! What a leader decides by a tool call, and when that is valid.

use serde::{Deserialize, Serialize};

use super::plan::TeamPlan;

/// Most work items of one plan.
pub const WORK_ITEMS_MAX: usize = 8;
/// Longest instruction, reason or summary that is kept of a decision, in bytes.
pub const DECISION_TEXT_BYTES_MAX: usize = 8 * 1024;

/// A decision of a leader (`conclude` is open to every member of a discussion).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum LeaderDecision {
    /// route: who answers.
    ChooseMember {
        /// Name of the member.
        member: String,
        /// Why, for people.
        #[serde(default)]
        reason: String,
    },
    /// coordinate: who does what.
    SplitWork {
        /// 1 to [`WORK_ITEMS_MAX`].
        items: Vec<WorkItem>,
    },
    /// collaborate: whether this member has nothing to add.
    Conclude {
        /// Nothing to add.
        done: bool,
        /// The position in a sentence or two.
        #[serde(default)]
        summary: String,
    },
    /// The tool was called, and what it was given made no sense even when asked again. A
    /// runner says so instead of nothing, so that a member of a discussion that merely has
    /// more to add (no decision) differs from one that could not say it.
    Invalid {
        /// What was wrong, for people.
        #[serde(default)]
        error: String,
    },
}

/// One piece of a leader's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkItem {
    /// Name of the member.
    pub member: String,
    /// What it is to do.
    pub instructions: String,
}

impl TeamPlan {
    /// Index of the member that a leader may name: by the Bot's name, or by `name#index`
    /// where a Bot occurs twice. The leader itself cannot be named.
    #[must_use]
    pub fn find_member(&self, name: &str) -> Option<u32> {
        let wanted = name.trim();
        let others = || (0u32..).zip(&self.members).filter(|(i, _)| *i != self.leader);
        if let Some((bare, index)) = wanted.rsplit_once('#') {
            let index: u32 = index.parse().ok()?;
            return others().find(|(i, m)| *i == index && m.name == bare).map(|(i, _)| i);
        }
        others()
            .find(|(_, m)| m.name == wanted)
            .or_else(|| others().find(|(_, m)| m.name.eq_ignore_ascii_case(wanted)))
            .map(|(i, _)| i)
    }

    /// Names that a leader may use, in order.
    #[must_use]
    pub fn choices(&self) -> Vec<String> {
        let count = |name: &str| self.members.iter().filter(|m| m.name == name).count();
        (0u32..)
            .zip(&self.members)
            .filter(|(i, _)| *i != self.leader)
            .map(
                |(i, m)| {
                    if count(&m.name) > 1 { format!("{}#{i}", m.name) } else { m.name.clone() }
                },
            )
            .collect()
    }

    /// Says what is wrong with a decision, in words for the model.
    ///
    /// # Errors
    /// A sentence that names the fault and what is allowed.
    pub fn check(&self, decision: &LeaderDecision) -> Result<(), String> {
        let known = |name: &str| {
            self.find_member(name).map(|_| ()).ok_or_else(|| {
                format!("there is no member `{name}`; choose one of: {}", self.choices().join(", "))
            })
        };
        match decision {
            LeaderDecision::ChooseMember { member, .. } => known(member),
            LeaderDecision::SplitWork { items } => {
                if items.is_empty() || items.len() > WORK_ITEMS_MAX {
                    return Err(format!("items must hold 1 to {WORK_ITEMS_MAX} entries"));
                }
                items.iter().try_for_each(|item| {
                    known(&item.member)?;
                    if item.instructions.trim().is_empty() {
                        return Err(format!("the item of `{}` has no instructions", item.member));
                    }
                    Ok(())
                })
            }
            LeaderDecision::Conclude { .. } => Ok(()),
            LeaderDecision::Invalid { error } => Err(error.clone()),
        }
    }
}
