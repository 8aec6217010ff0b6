//! What a leader decides: the tools for it, and what a model made of them. Pure.

use serde_json::{Map, Value, json};
use troupe_domain::task::{LeaderDecision, TeamPlan, Work, leader::WORK_ITEMS_MAX};
use troupe_llm::ToolDef;

/// Tries that a model has to decide validly: the first, and one after it was told what is wrong.
pub const TRIES_MAX: u32 = 2;

/// The tool by which a member decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderTool {
    /// route: who answers.
    ChooseMember,
    /// coordinate: who does what.
    SplitWork,
    /// collaborate: nothing to add.
    Conclude,
}

impl LeaderTool {
    /// The tool that belongs to this work.
    #[must_use]
    pub const fn of(work: &Work) -> Option<Self> {
        match work {
            Work::Choose => Some(Self::ChooseMember),
            Work::Split => Some(Self::SplitWork),
            Work::Discuss { .. } => Some(Self::Conclude),
            Work::Answer | Work::Stage { .. } | Work::Item { .. } => None,
            Work::Merge | Work::Conclusion => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChooseMember => "choose_member",
            Self::SplitWork => "split_work",
            Self::Conclude => "conclude",
        }
    }

    /// Whether the work is nothing but this decision.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(self, Self::ChooseMember | Self::SplitWork)
    }

    /// How the model is told of it. Names of members are an enumeration in its schema.
    #[must_use]
    pub fn definition(self, plan: &TeamPlan) -> ToolDef {
        let text = |about: &str| json!({"type": "string", "description": about});
        let member = json!({"type": "string", "enum": plan.choices()});
        let (description, properties, required) = match self {
            Self::ChooseMember => (
                "Chooses the member of the team that answers.",
                json!({"member": member, "reason": text("Why, in one sentence for people.")}),
                json!(["member", "reason"]),
            ),
            Self::SplitWork => {
                let item = json!({
                    "type": "object",
                    "properties": {
                        "member": member,
                        "instructions": text("All that the member needs to know to do its part."),
                    },
                    "required": ["member", "instructions"],
                });
                (
                    "Gives parts of the work to members of the team, who work at the same time.",
                    json!({"items": {"type": "array", "minItems": 1, "maxItems": WORK_ITEMS_MAX,
                        "items": item}}),
                    json!(["items"]),
                )
            }
            Self::Conclude => (
                "Tells whether you have nothing to add to the discussion.",
                json!({
                    "done": {"type": "boolean", "description": "True: nothing to add."},
                    "summary": text("Your position in a sentence or two."),
                }),
                json!(["done", "summary"]),
            ),
        };
        ToolDef {
            name: self.name().to_owned(),
            description: description.to_owned(),
            input_schema: json!({"type": "object", "properties": properties,
                "required": required}),
        }
    }

    /// Reads what the tool was called with.
    ///
    /// # Errors
    /// What is wrong, in words for the model.
    pub fn judge(self, plan: &TeamPlan, args: &Value) -> Result<LeaderDecision, String> {
        let Value::Object(args) = args else {
            return Err("the arguments are not a JSON object".to_owned());
        };
        let mut tagged = Map::clone(args);
        tagged.insert("tool".to_owned(), json!(self.name()));
        let decision: LeaderDecision = serde_json::from_value(Value::Object(tagged))
            .map_err(|error| format!("the arguments do not fit: {error}"))?;
        plan.check(&decision)?;
        Ok(decision)
    }

    /// Reads the one fenced `json` block of a text that called no tool; `None`: there is none.
    #[must_use]
    pub fn judge_text(self, plan: &TeamPlan, text: &str) -> Option<Result<LeaderDecision, String>> {
        let blocks = fenced_json(text);
        let [block] = blocks.as_slice() else {
            let many = "there is more than one fenced json block".to_owned();
            return (!blocks.is_empty()).then_some(Err(many));
        };
        let mut value = match serde_json::from_str::<Value>(block) {
            Ok(value) => value,
            Err(error) => return Some(Err(format!("the json block cannot be read: {error}"))),
        };
        // Both `{"tool": "choose_member", ...}` and `{"choose_member": {...}}` are meant well.
        if let Some(inner) = value.get_mut(self.name()).filter(|inner| inner.is_object()) {
            value = inner.take();
        }
        match value.get("tool").and_then(Value::as_str) {
            Some(other) if other != self.name() => {
                Some(Err(format!("there is no tool `{other}`; the tool is `{}`", self.name())))
            }
            _ => Some(self.judge(plan, &value)),
        }
    }

    /// What a model is told that has no tools of ours: how its text says the decision.
    #[must_use]
    pub fn in_text(self, plan: &TeamPlan) -> String {
        let (name, schema) = (self.name(), self.definition(plan).input_schema);
        let when = if self.is_required() {
            "Instead, your answer ends with"
        } else {
            "Instead, when you would call it, your answer ends with"
        };
        format!(
            "`{name}` is not among your tools. {when} exactly one fenced json block that holds its \
             arguments, as this JSON Schema says: {schema}"
        )
    }

    /// What the model is told after a try that led to nothing.
    #[must_use]
    pub fn ask_again(self, fault: &str) -> String {
        let name = self.name();
        format!(
            "That was no valid decision: {fault}. Call the tool `{name}` now. If you cannot call \
             tools, answer with exactly one fenced json block that holds the arguments of \
             `{name}`, and nothing else."
        )
    }
}

/// What a decision says to people, for a model that wrote no text of its own.
#[must_use]
pub fn in_words(decision: &LeaderDecision) -> String {
    match decision {
        LeaderDecision::ChooseMember { member, reason } if reason.trim().is_empty() => {
            format!("{member} answers.")
        }
        LeaderDecision::ChooseMember { reason, .. } => reason.clone(),
        LeaderDecision::SplitWork { items } => {
            let line = |(n, member, text): (usize, &str, &str)| {
                format!("{n}. **{member}**: {}", text.trim().replace('\n', "\n   "))
            };
            let lines = (1..).zip(items).map(|(n, i)| line((n, &i.member, &i.instructions)));
            lines.collect::<Vec<_>>().join("\n")
        }
        LeaderDecision::Conclude { done, summary } if summary.trim().is_empty() => {
            if *done { "I have nothing to add." } else { "I have more to say." }.to_owned()
        }
        LeaderDecision::Conclude { summary, .. } => summary.clone(),
        LeaderDecision::Invalid { .. } => String::new(),
    }
}

/// The contents of all fenced blocks whose language is `json`.
fn fenced_json(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                open = Some((language.trim().eq_ignore_ascii_case("json"), String::new()));
            }
            (Some(_), Some(rest)) if rest.trim().is_empty() => {
                if let Some((true, block)) = open.take() {
                    blocks.push(block);
                }
            }
            (Some((_, block)), _) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests;
