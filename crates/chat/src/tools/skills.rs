//! The tool by which a model loads a Skill.

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use troupe_domain::task::MemberPlan;

use super::{Tool, ToolContext, ToolError, ToolOutput};
use crate::prompt;

/// `load_skill {skill_name}`: the instructions of a Skill. It is made of the plan alone, so
/// every attempt offers the same.
#[derive(Debug)]
pub(crate) struct LoadSkill {
    /// Names and texts.
    skills: Vec<(String, String)>,
}

impl LoadSkill {
    /// For the Skills of a member that are not in its prompt; `None` if there are none.
    pub(crate) fn of(member: &MemberPlan) -> Option<Self> {
        let skills = prompt::on_offer(member).map(|s| (s.name.clone(), s.text.clone()));
        let skills: Vec<_> = skills.collect();
        (!skills.is_empty()).then_some(Self { skills })
    }

    fn names(&self) -> Vec<&str> {
        self.skills.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[async_trait]
impl Tool for LoadSkill {
    fn name(&self) -> &'static str {
        "load_skill"
    }

    fn description(&self) -> &'static str {
        "Loads the instructions of a Skill. Follow them for what the Skill is about."
    }

    fn schema(&self) -> Value {
        let name = json!({"type": "string", "enum": self.names(),
            "description": "Name of the Skill."});
        json!({"type": "object", "properties": {"skill_name": name}, "required": ["skill_name"]})
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn call(
        &self,
        args: Map<String, Value>,
        _: ToolContext,
    ) -> Result<ToolOutput, ToolError> {
        let name = args.get("skill_name").and_then(Value::as_str).unwrap_or_default().trim();
        let found = self.skills.iter().find(|(known, _)| known == name);
        let (_, text) = found.ok_or_else(|| ToolError::Failed {
            text: format!("there is no Skill `{name}`; there are: {}", self.names().join(", ")),
        })?;
        Ok(ToolOutput::text(text.clone()))
    }
}
