//! How a Messages call asks for thinking.

use serde_json::{Map, Value, json};

use super::request::Turn;
use crate::{
    config::ModelConfig,
    message::{Effort, Request, Thinking, ToolChoice},
};

/// Used when neither request nor model say how long an answer may be; the protocol wants a
/// number.
const MAX_TOKENS_DEFAULT: u32 = 8_192;
/// The smallest budget that the protocol takes.
const BUDGET_MIN: u32 = 1_024;
/// From this version on a model is told an effort, and decides by itself; budgets are refused
/// soon after.
const EFFORT_SINCE: (u32, u32) = (4, 6);

/// The output limit, and the fields that ask for thinking within it.
pub(super) fn limits(
    config: &ModelConfig,
    request: &Request,
    turns: &[Turn],
) -> (u32, Map<String, Value>) {
    let max_tokens = request.max_output_tokens.or(config.max_output_tokens);
    let thinking = match request.thinking {
        // A model that thinks cannot be forced to use a tool.
        _ if matches!(request.tool_choice, ToolChoice::Tool(_)) => Thinking::Default,
        Thinking::Default => config.thinking,
        own => own,
    };
    let by_effort = version(&config.model_id).is_some_and(|version| version >= EFFORT_SINCE);
    let mut fields = Map::new();
    match (thinking.effort(), by_effort) {
        (None, _) => (max_tokens.unwrap_or(MAX_TOKENS_DEFAULT), fields),
        (Some(effort), true) => {
            // Newer models hide their thoughts unless they are asked for them.
            fields.insert("thinking".into(), json!({"type": "adaptive", "display": "summarized"}));
            fields.insert("output_config".into(), json!({"effort": effort.as_str()}));
            (max_tokens.unwrap_or(MAX_TOKENS_DEFAULT + budget_of(effort)), fields)
        }
        (Some(_), false) => {
            let (max_tokens, budget) = budget(max_tokens, thinking);
            if let Some(budget) = budget.filter(|_| !began_without(turns)) {
                let asked = json!({"type": "enabled", "budget_tokens": budget});
                fields.insert("thinking".into(), asked);
            }
            (max_tokens, fields)
        }
    }
}

const fn budget_of(effort: Effort) -> u32 {
    match effort {
        Effort::Low => 2_048,
        Effort::Medium => 8_192,
        Effort::High => 16_384,
    }
}

/// Output limit and budget that go together. A word leaves half of the limit to the answer.
fn budget(max_tokens: Option<u32>, thinking: Thinking) -> (u32, Option<u32>) {
    let (budget, most) = match thinking {
        Thinking::Default => return (max_tokens.unwrap_or(MAX_TOKENS_DEFAULT), None),
        Thinking::Budget(budget) => {
            (budget.max(BUDGET_MIN), max_tokens.map(|max| max.saturating_sub(1)))
        }
        Thinking::Effort(effort) => (budget_of(effort), max_tokens.map(|max| max / 2)),
    };
    match (max_tokens, most) {
        (Some(max), Some(most)) => (max, Some(budget.min(most)).filter(|fits| *fits >= BUDGET_MIN)),
        _ => (budget.saturating_add(MAX_TOKENS_DEFAULT), Some(budget)),
    }
}

/// Whether a tool loop is under way that began without thinking: the protocol then takes none
/// before the loop ends.
fn began_without(turns: &[Turn]) -> bool {
    let asks = |(role, blocks): &Turn| {
        *role == "user" && blocks.first().is_none_or(|block| block["type"] != "tool_result")
    };
    let begin = turns.iter().rposition(asks).map_or(0, |at| at + 1);
    let is_thinking =
        |block: &Value| block["type"].as_str().is_some_and(|kind| kind.ends_with("thinking"));
    let mut answers = turns[begin..].iter().filter(|turn| turn.0 == "assistant");
    answers.next().is_some_and(|(_, blocks)| !blocks.first().is_some_and(is_thinking))
}

/// `4.5` of `claude-sonnet-4-5-20250929`, `anthropic.claude-sonnet-4.5-v1:0`; nothing of other names.
fn version(model_id: &str) -> Option<(u32, u32)> {
    let (_, after) = model_id.split_once("claude")?;
    let words = after.split(|c: char| !c.is_ascii_alphanumeric());
    // Longer numbers are dates.
    let mut numbers = words.filter(|word| word.len() <= 2).filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderKind;

    fn turn(role: &'static str, kinds: &[&str]) -> Turn {
        (role, kinds.iter().map(|kind| json!({"type": kind})).collect())
    }

    #[test]
    fn a_budget_fits_the_limit() {
        assert_eq!(budget(None, Thinking::Default), (8_192, None));
        assert_eq!(budget(None, Thinking::Budget(2_000)), (10_192, Some(2_000)));
        assert_eq!(budget(Some(4_000), Thinking::Budget(9_000)), (4_000, Some(3_999)));
        assert_eq!(budget(Some(4_000), Thinking::Budget(5)), (4_000, Some(1_024)));
        assert_eq!(budget(Some(1_024), Thinking::Budget(1_024)), (1_024, None));
        assert_eq!(budget(Some(800), Thinking::Effort(Effort::High)), (800, None));
        // An answer has room beside the thoughts.
        assert_eq!(budget(Some(8_192), Thinking::Effort(Effort::High)), (8_192, Some(4_096)));
        assert_eq!(budget(Some(64_000), Thinking::Effort(Effort::High)), (64_000, Some(16_384)));
    }

    #[test]
    fn newer_models_are_told_an_effort() {
        for (model, wanted) in [
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some((4, 5))),
            ("claude-haiku-4.5", Some((4, 5))),
            ("claude-opus-4-6", Some((4, 6))),
            ("anthropic/claude-sonnet-5", Some((5, 0))),
            ("gpt-9", None),
            ("house-model", None),
        ] {
            assert_eq!(version(model), wanted, "{model}");
        }
        let asked = |model: &str, thinking| {
            let config = ModelConfig::new(ProviderKind::Claude, model);
            let (max, fields) = limits(&config, &Request { thinking, ..Request::default() }, &[]);
            (max, Value::Object(fields))
        };
        let adaptive = json!({"thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "high"}});
        let high = Thinking::Effort(Effort::High);
        assert_eq!(asked("claude-opus-4-7", high), (24_576, adaptive.clone()));
        assert_eq!(asked("claude-opus-4-7", Thinking::Budget(20_000)), (24_576, adaptive));
        let enabled = json!({"thinking": {"type": "enabled", "budget_tokens": 16_384}});
        assert_eq!(asked("claude-sonnet-4-5", high), (24_576, enabled));
        assert_eq!(asked("claude-opus-4-7", Thinking::Default), (8_192, json!({})));
    }

    #[test]
    fn a_loop_that_began_without_goes_on_without() {
        let (ask, call) = (turn("user", &["text"]), turn("assistant", &["tool_use"]));
        let result = turn("user", &["tool_result", "text"]);
        let thought = turn("assistant", &["thinking", "tool_use"]);
        assert!(!began_without(&[]));
        assert!(!began_without(std::slice::from_ref(&ask)));
        assert!(began_without(&[ask.clone(), call.clone(), result.clone()]));
        // What counts is the beginning of the loop.
        let on = [ask.clone(), thought, result.clone(), call.clone(), result.clone()];
        assert!(!began_without(&on));
        // Earlier loops do not count.
        let said = turn("assistant", &["text"]);
        assert!(!began_without(&[ask.clone(), call, result, said, ask]));
    }
}
