//! The body of a chat completions call.

use serde_json::{Map, Value, json};

use crate::{
    config::ModelConfig,
    message::{Message, Part, Request, Role, Thinking, ToolChoice, args_object, joined_text},
};

pub(super) fn body(config: &ModelConfig, request: &Request) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(config.model_id));
    body.insert("stream".into(), json!(true));
    body.insert("stream_options".into(), json!({"include_usage": true}));
    let own = config.base_url.as_deref().is_none_or(|url| url.contains("://api.openai.com"));
    if let Some(max) = request.max_output_tokens.or(config.max_output_tokens) {
        // The provider itself wants the new word, many compatible servers know the old one only.
        let word = if own { "max_completion_tokens" } else { "max_tokens" };
        body.insert(word.into(), json!(max));
    }
    if let Some(temperature) = request.temperature.or(config.temperature) {
        let shortest = temperature.to_string().parse::<f64>().unwrap_or_default();
        body.insert("temperature".into(), json!(shortest));
    }
    let thinking = match request.thinking {
        Thinking::Default => config.thinking,
        own => own,
    };
    if let Some(effort) = thinking.effort() {
        body.insert("reasoning_effort".into(), json!(effort.as_str()));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.input_schema,
            }})
        });
        body.insert("tools".into(), tools.collect());
        let choice = match &request.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::Any => Some(json!("required")),
            ToolChoice::None => Some(json!("none")),
            ToolChoice::Tool(name) => Some(json!({"type": "function", "function": {"name": name}})),
        };
        body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    }
    body.insert("messages".into(), Value::Array(messages(request, own)));
    Value::Object(body)
}

fn messages(request: &Request, own: bool) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(system) = request.system.as_deref().filter(|text| !text.trim().is_empty()) {
        out.push(json!({"role": "system", "content": system}));
    }
    let last_human = request.messages.iter().rposition(|message| message.role == Role::User);
    for (at, message) in request.messages.iter().enumerate() {
        match message.role {
            Role::Assistant => {
                // Servers that told their thinking want it back within the same tool loop; the
                // provider itself knows no such field.
                let in_loop = !own && last_human.is_none_or(|human| at > human);
                out.extend(assistant(message, in_loop));
            }
            Role::User | Role::Tool => {
                out.extend(message.parts.iter().filter_map(result));
                let text = message.text();
                if !text.is_empty() {
                    out.push(json!({"role": "user", "content": text}));
                }
            }
        }
    }
    out
}

fn assistant(message: &Message, with_thinking: bool) -> Option<Value> {
    let text = joined_text(&message.parts);
    let calls: Vec<Value> = message
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::ToolCall { id, name, args } => Some(json!({
                "id": id, "type": "function",
                "function": {"name": name, "arguments": args_object(args).to_string()},
            })),
            _ => None,
        })
        .collect();
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    let mut out = Map::new();
    out.insert("role".into(), json!("assistant"));
    out.insert("content".into(), if text.is_empty() { Value::Null } else { json!(text) });
    if !calls.is_empty() {
        out.insert("tool_calls".into(), Value::Array(calls));
        let thinking: String = message
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Thinking { text, signature: None } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        if with_thinking && !thinking.is_empty() {
            out.insert("reasoning_content".into(), json!(thinking));
        }
    }
    Some(Value::Object(out))
}

fn result(part: &Part) -> Option<Value> {
    let Part::ToolResult { id, content, is_error, unknown } = part else { return None };
    // The protocol has no flag for a failure: it is said in words.
    let content = match (unknown, is_error) {
        (true, _) => {
            format!("[outcome unknown: the call may or may not have taken effect] {content}")
        }
        (false, true) => format!("[error] {content}"),
        (false, false) => content.clone(),
    };
    Some(json!({"role": "tool", "tool_call_id": id, "content": content.trim_end()}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ProviderKind, message::ToolDef};

    #[test]
    fn a_tool_loop_goes_back_whole() {
        let request = Request {
            system: Some("Be brief.".into()),
            messages: vec![
                Message::user("time?"),
                Message {
                    role: Role::Assistant,
                    parts: vec![
                        Part::Thinking { text: "hm".into(), signature: None },
                        Part::Thinking { text: "signed".into(), signature: Some("s".into()) },
                        Part::ToolCall { id: "a".into(), name: "clock".into(), args: json!({}) },
                    ],
                },
                Message::results(vec![Part::ToolResult {
                    id: "a".into(),
                    content: "no".into(),
                    is_error: true,
                    unknown: false,
                }]),
            ],
            tools: vec![ToolDef {
                name: "clock".into(),
                description: "d".into(),
                input_schema: json!({"type": "object"}),
            }],
            max_output_tokens: Some(50),
            temperature: Some(0.2),
            thinking: Thinking::Budget(5_000),
            ..Request::default()
        };
        let mut config = ModelConfig::new(ProviderKind::OpenAi, "m");
        let own = body(&config, &request);
        assert_eq!(own["max_completion_tokens"], json!(50));
        assert!(own["messages"][2].get("reasoning_content").is_none());
        config.base_url = Some("http://127.0.0.1:1".into());
        assert_eq!(
            body(&config, &request),
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true},
                "max_tokens": 50, "temperature": 0.2, "reasoning_effort": "medium",
                "tools": [{"type": "function", "function": {
                    "name": "clock", "description": "d", "parameters": {"type": "object"}}}],
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "time?"},
                    {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "a", "content": "[error] no"},
                ],
            })
        );
    }
}
