//! Requests and answers in provider-neutral form.
//!
//! [`Message`], [`Completion`] and what they hold lie on disk as step records: fields may be
//! added with a default, never renamed or removed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A person, or whatever else asks.
    User,
    /// The model.
    Assistant,
    /// Results of the tool calls of the assistant message before it.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who it is from.
    pub role: Role,
    /// What it holds, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A person's text.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, parts: vec![Part::Text { text: text.into() }] }
    }

    /// An assistant's plain text.
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, parts: vec![Part::Text { text: text.into() }] }
    }

    /// Results of tool calls.
    #[must_use]
    pub const fn results(parts: Vec<Part>) -> Self {
        Self { role: Role::Tool, parts }
    }

    /// All its text parts, joined.
    #[must_use]
    pub fn text(&self) -> String {
        joined_text(&self.parts)
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text of the prompt or the answer.
    Text {
        /// The text.
        text: String,
    },
    /// What the model thought.
    Thinking {
        /// The text; may be empty when the provider hides it.
        text: String,
        /// The provider's proof that the text is its own: goes back unchanged with the text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// Thinking that only the provider can read: goes back unchanged.
    RedactedThinking {
        /// Opaque.
        data: String,
    },
    /// The model calls a tool.
    ToolCall {
        /// The provider's id of the call.
        id: String,
        /// The tool's name.
        name: String,
        /// The arguments: an object. Anything else (a string) is what the model wrote instead
        /// of an object: answer such a call with an error result, do not run it.
        args: Value,
    },
    /// What a tool answered.
    ToolResult {
        /// The id of the call.
        id: String,
        /// The result as text.
        content: String,
        /// The tool failed.
        #[serde(default)]
        is_error: bool,
        /// It may have run: its result was lost. `content` says so; the model is told of an
        /// error.
        #[serde(default)]
        unknown: bool,
    },
}

/// The text parts, joined.
pub(crate) fn joined_text(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolDef {
    /// Letters, digits, `_` and `-`, at most 64 characters: what all providers take.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// JSON schema of its arguments; an object schema.
    pub input_schema: Value,
}

/// Whether the model must call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// It decides.
    #[default]
    Auto,
    /// It must call one, whichever.
    Any,
    /// It must not.
    None,
    /// It must call this one.
    Tool(String),
}

/// How hard a model thinks, for providers that take a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// A little.
    Low,
    /// Normally.
    Medium,
    /// A lot.
    High,
}

/// Whether the model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// As the model does by itself.
    #[default]
    Default,
    /// With at most so many tokens (Claude before 4.6; at least 1,024 and below the output
    /// limit). Others get an [`Effort`] that fits.
    Budget(u32),
    /// As the provider understands the word (OpenAI, Claude from 4.6 on). An older Claude gets a
    /// budget that fits.
    Effort(Effort),
}

impl Effort {
    /// As providers write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Thinking {
    /// The word that is meant, or fits a budget.
    #[must_use]
    pub const fn effort(self) -> Option<Effort> {
        Some(match self {
            Self::Default => return None,
            Self::Effort(effort) => effort,
            Self::Budget(0..4_096) => Effort::Low,
            Self::Budget(4_096..12_288) => Effort::Medium,
            Self::Budget(12_288..) => Effort::High,
        })
    }
}

/// One call of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The system prompt.
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Tools on offer.
    pub tools: Vec<ToolDef>,
    /// Whether one must be called.
    pub tool_choice: ToolChoice,
    /// Overrides the model's own limit, in tokens.
    pub max_output_tokens: Option<u32>,
    /// 0.0 to 2.0; the provider's default when absent.
    pub temperature: Option<f32>,
    /// Overrides the model's own setting unless `Default`.
    pub thinking: Thinking,
    /// The attempt that asks, from 1. Told to the `demo` model only, whose text depends on it.
    pub attempt: u32,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the whole prompt, cached ones included.
    pub input: u64,
    /// Of the whole answer, thinking included.
    pub output: u64,
    /// Part of `input` that was read from the provider's cache.
    #[serde(default)]
    pub cached_read: u64,
    /// Part of `input` that was written to the provider's cache.
    #[serde(default)]
    pub cache_write: u64,
    /// Part of `output` that was thinking, where the provider tells.
    #[serde(default)]
    pub reasoning: u64,
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    EndTurn,
    /// It waits for tool results.
    ToolUse,
    /// The output limit was reached: the last part may be cut.
    MaxTokens,
    /// The context window is full: the last part may be cut.
    ContextWindow,
    /// The provider's filter, or the model itself, refused.
    Refusal,
    /// A long turn was paused: send the answer back to go on.
    Pause,
    /// Anything else, in the provider's words.
    Other(String),
}

/// A whole answer: the record of a model step, and the next request's assistant message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The assistant message; its parts in the order in which they came.
    pub message: Message,
    /// Tokens.
    pub usage: Usage,
    /// Why it ended.
    pub stop: StopReason,
    /// The model as the provider names it.
    pub model: String,
    /// The provider's id of the answer, for its support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
}

impl Completion {
    /// The answer's text.
    #[must_use]
    pub fn text(&self) -> String {
        self.message.text()
    }

    /// The tool calls in order: id, name, arguments.
    pub fn tool_calls(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.message.parts.iter().filter_map(|part| match part {
            Part::ToolCall { id, name, args } => Some((id.as_str(), name.as_str(), args)),
            _ => None,
        })
    }
}

/// Reads what a model wrote as arguments: nothing is an empty object, what is no JSON stays a
/// string (see [`Part::ToolCall`]).
pub(crate) fn parse_args(raw: &str) -> Value {
    if raw.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str::<Value>(raw) {
        Ok(value @ Value::Object(_)) => value,
        Ok(_) | Err(_) => Value::String(raw.to_owned()),
    }
}

/// The arguments as providers accept them back: always an object.
pub(crate) fn args_object(args: &Value) -> Value {
    match args {
        Value::Object(_) => args.clone(),
        Value::Null => Value::Object(Map::new()),
        other => {
            let mut map = Map::new();
            map.insert("invalid_arguments".to_owned(), other.clone());
            Value::Object(map)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_keeps_its_form_on_disk() {
        let completion = Completion {
            message: Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Thinking { text: "hm".into(), signature: Some("s1".into()) },
                    Part::RedactedThinking { data: "x".into() },
                    Part::Text { text: "你好 🙂".into() },
                    Part::ToolCall {
                        id: "c1".into(),
                        name: "clock".into(),
                        args: serde_json::json!({}),
                    },
                ],
            },
            usage: Usage { input: 5, output: 2, ..Usage::default() },
            stop: StopReason::ToolUse,
            model: "m".into(),
            response_id: None,
        };
        let text = serde_json::to_string(&completion).unwrap();
        assert_eq!(
            text,
            r#"{"message":{"role":"assistant","parts":[{"type":"thinking","text":"hm","signature":"s1"},{"type":"redacted_thinking","data":"x"},{"type":"text","text":"你好 🙂"},{"type":"tool_call","id":"c1","name":"clock","args":{}}]},"usage":{"input":5,"output":2,"cached_read":0,"cache_write":0,"reasoning":0},"stop":"tool_use","model":"m"}"#
        );
        assert_eq!(serde_json::from_str::<Completion>(&text).unwrap(), completion);
    }

    #[test]
    fn arguments_that_are_no_object_stay_visible() {
        assert_eq!(parse_args("  "), serde_json::json!({}));
        assert_eq!(parse_args("{\"a\":1}"), serde_json::json!({"a": 1}));
        assert_eq!(parse_args("{\"a\":"), serde_json::json!("{\"a\":"));
        assert_eq!(parse_args("[1]"), serde_json::json!("[1]"));
        assert_eq!(
            args_object(&serde_json::json!("{\"a\":")),
            serde_json::json!({"invalid_arguments": "{\"a\":"})
        );
    }
}
