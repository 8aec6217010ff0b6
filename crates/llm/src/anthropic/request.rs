//! The body of a Messages call.

use serde_json::{Map, Value, json};

use super::thinking;
use crate::{
    config::{LlmOptions, ModelConfig},
    message::{Message, Part, Request, Role, ToolChoice, args_object},
};

/// Told for a result that has no text of its own.
const UNKNOWN: &str = "The outcome is unknown: the call may or may not have taken effect.";

pub(super) fn body(config: &ModelConfig, options: &LlmOptions, request: &Request) -> Value {
    let mut turns = turns(&request.messages);
    let (max_tokens, thinking) = thinking::limits(config, request, &turns);
    let thinks = !thinking.is_empty();
    let mut body = Map::new();
    body.insert("model".into(), json!(config.model_id));
    body.insert("max_tokens".into(), json!(max_tokens));
    body.insert("stream".into(), json!(true));
    body.extend(thinking);
    // The protocol takes no temperature beside thinking.
    if let Some(temperature) = request.temperature.or(config.temperature).filter(|_| !thinks) {
        // Through its shortest decimal form: 0.1, not 0.10000000149.
        let shortest = temperature.to_string().parse::<f64>().unwrap_or_default();
        body.insert("temperature".into(), json!(shortest.min(1.0)));
    }
    let mut system = match request.system.as_deref().filter(|text| !text.trim().is_empty()) {
        Some(text) => vec![json!({"type": "text", "text": text})],
        None => Vec::new(),
    };
    let mut tools: Vec<Value> = request.tools.iter().map(|tool| {
        json!({"name": tool.name, "description": tool.description, "input_schema": tool.input_schema})
    }).collect();
    if options.prompt_caching {
        // Tools come before the system prompt in the cached text: one mark covers both.
        mark(system.last_mut().or(tools.last_mut()));
        let people = turns.iter_mut().rev().filter(|turn| turn.0 == "user");
        for turn in people.take(2) {
            mark(turn.1.last_mut());
        }
    }
    if !system.is_empty() {
        body.insert("system".into(), Value::Array(system));
    }
    if !tools.is_empty() {
        body.insert("tools".into(), Value::Array(tools));
        if let Some(choice) = tool_choice(&request.tool_choice, thinks) {
            body.insert("tool_choice".into(), choice);
        }
    }
    let messages =
        turns.into_iter().map(|(role, content)| json!({"role": role, "content": content}));
    body.insert("messages".into(), messages.collect());
    Value::Object(body)
}

fn tool_choice(choice: &ToolChoice, thinks: bool) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(json!({"type": "none"})),
        // A model that thinks cannot be forced; one that must use a certain tool does not think.
        ToolChoice::Any if thinks => None,
        ToolChoice::Any => Some(json!({"type": "any"})),
        ToolChoice::Tool(name) => Some(json!({"type": "tool", "name": name})),
    }
}

/// Asks for the prompt up to this block to be cached; thinking cannot carry the mark.
fn mark(block: Option<&mut Value>) {
    if let Some(Value::Object(block)) = block {
        let thinking =
            block.get("type").and_then(Value::as_str).is_some_and(|t| t.contains("thinking"));
        if !thinking {
            block.insert("cache_control".into(), json!({"type": "ephemeral"}));
        }
    }
}

/// Who says it, and the blocks.
pub(super) type Turn = (&'static str, Vec<Value>);

/// Messages as the protocol wants them: senders alternate, results lead their message.
fn turns(messages: &[Message]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in messages {
        let role = match message.role {
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
        };
        let blocks: Vec<Value> = message.parts.iter().filter_map(block).collect();
        if blocks.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    for (_, blocks) in turns.iter_mut().filter(|turn| turn.0 == "user") {
        blocks.sort_by_key(|block| block["type"] != "tool_result"); // Stable.
    }
    turns
}

fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text { text } if text.trim().is_empty() => return None, // Refused by the provider.
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::Thinking { text, signature: Some(signature) } => {
            json!({"type": "thinking", "thinking": text, "signature": signature})
        }
        Part::Thinking { .. } => return None, // Another provider's: cannot be proved.
        Part::RedactedThinking { data } => json!({"type": "redacted_thinking", "data": data}),
        Part::ToolCall { id, name, args } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": args_object(args)})
        }
        Part::ToolResult { id, content, is_error, unknown } => {
            let content = match (content.is_empty(), unknown, is_error) {
                (true, true, _) => UNKNOWN,
                (true, false, true) => "The tool failed without a message.",
                _ => content,
            };
            let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
            if *is_error || *unknown {
                block["is_error"] = json!(true);
            }
            block
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::ProviderKind,
        message::{Thinking, ToolDef},
    };

    fn built(request: &Request) -> Value {
        let config = ModelConfig::new(ProviderKind::Claude, "m");
        body(&config, &LlmOptions::default(), request)
    }

    #[test]
    fn a_tool_loop_goes_back_whole_and_cached() {
        let request = Request {
            system: Some("Be brief.".into()),
            messages: vec![
                Message::user("time?"),
                Message {
                    role: Role::Assistant,
                    parts: vec![
                        Part::Thinking { text: "hm".into(), signature: Some("s".into()) },
                        Part::RedactedThinking { data: "r".into() },
                        Part::Thinking { text: "unsigned".into(), signature: None },
                        Part::Text { text: " ".into() },
                        Part::ToolCall { id: "a".into(), name: "clock".into(), args: json!("{") },
                        Part::ToolCall {
                            id: "b".into(),
                            name: "clock".into(),
                            args: json!({"z": 1}),
                        },
                    ],
                },
                Message::results(vec![Part::ToolResult {
                    id: "a".into(),
                    content: String::new(),
                    is_error: false,
                    unknown: true,
                }]),
                Message::user("and now?"),
                Message::results(vec![Part::ToolResult {
                    id: "b".into(),
                    content: "12:00".into(),
                    is_error: false,
                    unknown: false,
                }]),
            ],
            tools: vec![ToolDef {
                name: "clock".into(),
                description: "d".into(),
                input_schema: json!({"type": "object"}),
            }],
            ..Request::default()
        };
        let ephemeral = json!({"type": "ephemeral"});
        assert_eq!(
            built(&request),
            json!({
                "model": "m", "max_tokens": 8192, "stream": true,
                "system": [{"type": "text", "text": "Be brief.", "cache_control": ephemeral}],
                "tools": [{"name": "clock", "description": "d", "input_schema": {"type": "object"}}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "time?", "cache_control": ephemeral}]},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "r"},
                        {"type": "tool_use", "id": "a", "name": "clock", "input": {"invalid_arguments": "{"}},
                        {"type": "tool_use", "id": "b", "name": "clock", "input": {"z": 1}},
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": UNKNOWN, "is_error": true},
                        {"type": "tool_result", "tool_use_id": "b", "content": "12:00"},
                        {"type": "text", "text": "and now?", "cache_control": ephemeral},
                    ]},
                ],
            })
        );
    }

    #[test]
    fn thinking_takes_no_temperature_and_is_not_forced() {
        let request = Request {
            thinking: Thinking::Budget(2_000),
            temperature: Some(0.1),
            tool_choice: ToolChoice::Any,
            tools: vec![ToolDef {
                name: "t".into(),
                description: String::new(),
                input_schema: json!({}),
            }],
            ..Request::default()
        };
        let body = built(&request);
        assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 2_000}));
        assert!(body.get("temperature").is_none() && body.get("tool_choice").is_none());
        let body = built(&Request { thinking: Thinking::Default, ..request.clone() });
        assert_eq!(body["temperature"], json!(0.1));
        assert_eq!(body["tool_choice"], json!({"type": "any"}));
        let body = built(&Request { tool_choice: ToolChoice::Tool("t".into()), ..request });
        assert!(body.get("thinking").is_none(), "{body}");
        assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "t"}));
    }
}
