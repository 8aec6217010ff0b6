//! The OpenAI chat completions wire: reads and checks requests, writes answers.

use std::{collections::HashSet, sync::Arc};

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde_json::{Value, json};

use super::{
    Active, Shared, cleaned, hash_of,
    script::{Answer, Piece, ToolOffer, ToolOutcome, Turn, Wire},
    stream::{self, Dialect, chunks, json_response, refusal},
    tokens,
};

#[derive(Debug)]
pub(super) struct OpenAi;

impl Dialect for OpenAi {
    fn text_event(&self, text: &str) -> String {
        event(&json!({"object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
    }

    fn error_event(&self, kind: &str) -> String {
        event(&self.error_body(kind, "The script says so"))
    }

    fn error_body(&self, kind: &str, message: &str) -> Value {
        json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
    }
}

/// `GET /v1/models`, in the form that the headers ask for.
pub(super) async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.key_fits(&headers) {
        return refusal(&OpenAi, 401, "invalid_api_key", "Incorrect API key provided", None);
    }
    let names = ["fake-model", "fake-small"];
    if headers.contains_key("anthropic-version") {
        let data = names.map(|id| {
            json!({"type": "model", "id": id, "display_name": id,
            "created_at": "2026-01-01T00:00:00Z"})
        });
        return json_response(&json!({"data": data, "has_more": false,
            "first_id": names[0], "last_id": names[1]}));
    }
    let data = names.map(|id| {
        json!({"id": id, "object": "model", "created": 1_767_225_600,
        "owned_by": "fake"})
    });
    json_response(&json!({"object": "list", "data": data}))
}

/// `POST /v1/chat/completions`.
pub(super) async fn completions(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bad = |message: &str| refusal(&OpenAi, 400, "invalid_request_error", message, None);
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return bad("We could not parse the JSON body of your request.");
    };
    let number = shared.record(Wire::OpenAi, &headers, &body);
    if !shared.key_fits(&headers) {
        return refusal(&OpenAi, 401, "invalid_api_key", "Incorrect API key provided", None);
    }
    if let Err(message) = check(&body) {
        return bad(&message);
    }
    let turn = turn(&shared, number, &body);
    let answer = shared.script().answer(&turn);
    let mut active = Active::new(&shared.counters);
    if let Some(response) = stream::before_head(&answer, &OpenAi, &mut active).await {
        return response;
    }
    let usage = usage(&shared, &body, &answer);
    if body["stream"] == json!(true) {
        let with_usage = body["stream_options"]["include_usage"] == json!(true);
        let events = events(&turn, &answer, with_usage.then_some(&usage));
        return stream::response(events, &answer, &OpenAi, active);
    }
    active.finish();
    json_response(&whole(&turn, &answer, &usage))
}

/// What the real server refuses, as far as a client of ours could get it wrong.
fn check(body: &Value) -> Result<(), String> {
    let messages = body["messages"].as_array().ok_or("Missing required parameter: 'messages'.")?;
    if messages.is_empty() || body["model"].as_str().is_none_or(str::is_empty) {
        return Err("you must provide a model and messages".into());
    }
    let mut open: HashSet<String> = HashSet::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            if !open.remove(message["tool_call_id"].as_str().unwrap_or_default()) {
                return Err(format!(
                    "messages with role 'tool' must be a response to a preceding message with 'tool_calls' (messages[{at}])"
                ));
            }
            continue;
        }
        if !open.is_empty() {
            return Err(format!(
                "An assistant message with 'tool_calls' must be followed by tool messages (messages[{at}])"
            ));
        }
        match role {
            "assistant" => {
                let calls = message["tool_calls"].as_array().into_iter().flatten();
                for call in calls {
                    let args = call["function"]["arguments"].as_str().unwrap_or("?");
                    if serde_json::from_str::<Value>(args).is_err() {
                        return Err(format!("messages[{at}]: arguments are no JSON"));
                    }
                    open.insert(call["id"].as_str().unwrap_or_default().to_owned());
                }
                if open.is_empty() && !message["content"].is_string() {
                    return Err(format!("messages[{at}]: content is required"));
                }
            }
            "system" | "developer" | "user" => {}
            other => return Err(format!("Invalid value: '{other}' (messages[{at}].role)")),
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err("An assistant message with 'tool_calls' must be followed by tool messages".into())
    }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn turn(shared: &Shared, number: u64, body: &Value) -> Turn {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let systems = messages.iter().filter(|m| m["role"] == "system" || m["role"] == "developer");
    let system: Vec<String> = systems.map(|message| text_of(&message["content"])).collect();
    let human_of = |message: &Value| cleaned(&text_of(&message["content"]));
    let at = messages.iter().rposition(|m| m["role"] == "user" && !human_of(m).is_empty());
    let human = at.map(|at| human_of(&messages[at])).unwrap_or_default();
    let since = at.map_or(&messages[..], |at| &messages[at + 1..]);
    let results = since.iter().filter(|message| message["role"] == "tool");
    let results = results.map(|message| ToolOutcome {
        id: message["tool_call_id"].as_str().unwrap_or_default().to_owned(),
        content: text_of(&message["content"]),
        is_error: false,
    });
    let tools = body["tools"].as_array().into_iter().flatten().map(|tool| ToolOffer {
        name: tool["function"]["name"].as_str().unwrap_or_default().to_owned(),
        schema: tool["function"]["parameters"].clone(),
    });
    Turn {
        wire: Wire::OpenAi,
        number,
        repeat: shared.repeat(hash_of(&body["messages"].to_string())),
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: system.join("\n"),
        human,
        step: since.iter().filter(|message| message["role"] == "assistant").count(),
        tools: tools.collect(),
        results: results.collect(),
        body: body.clone(),
    }
}

/// The real server caches by itself: every message is the end of a start.
fn usage(shared: &Shared, body: &Value, answer: &Answer) -> Value {
    let mut seen = body["tools"].to_string();
    let mut starts = Vec::new();
    for message in body["messages"].as_array().into_iter().flatten() {
        seen.push_str(&message.to_string());
        starts.push((hash_of(&seen), tokens(seen.len())));
    }
    let (read, _) = shared.cache(&starts);
    let size = |piece: &Piece| tokens(format!("{piece:?}").len());
    let output: u64 = answer.pieces.iter().map(size).sum();
    let thinking = answer.pieces.iter().filter(|piece| matches!(piece, Piece::Thinking(_)));
    let thinking: u64 = thinking.map(size).sum();
    let input = tokens(seen.len());
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": read},
        "completion_tokens_details": {"reasoning_tokens": thinking}})
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn finish_reason(answer: &Answer) -> String {
    let calls = answer.pieces.iter().any(|piece| matches!(piece, Piece::Tool { .. }));
    let usual = if calls { "tool_calls" } else { "stop" };
    answer.stop.clone().unwrap_or_else(|| usual.to_owned())
}

fn args_text(args: &Value) -> String {
    args.as_str().map_or_else(|| args.to_string(), str::to_owned)
}

fn events(turn: &Turn, answer: &Answer, usage: Option<&Value>) -> Vec<String> {
    let head = json!({"id": format!("chatcmpl-fake-{}", turn.number),
        "object": "chat.completion.chunk", "created": 1_767_225_600, "model": turn.model});
    let chunk = |delta: Value, finish: Option<&str>| {
        let mut chunk = head.clone();
        chunk["choices"] =
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        event(&chunk)
    };
    let mut all = vec![
        chunk(json!({"role": "assistant", "content": ""}), None),
        ": keep-alive\n\n".to_owned(),
    ];
    let mut calls = 0_usize;
    for piece in &answer.pieces {
        match piece {
            Piece::Thinking(text) => {
                let pieces = chunks(text, answer.chunk_chars).into_iter();
                all.extend(pieces.map(|p| chunk(json!({"reasoning_content": p}), None)));
            }
            Piece::RedactedThinking(_) => {}
            Piece::Text(text) => {
                let pieces = chunks(text, answer.chunk_chars).into_iter();
                all.extend(pieces.map(|p| chunk(json!({"content": p}), None)));
            }
            Piece::Tool { name, args } => {
                let id = format!("call_{}_{calls}", turn.number);
                let call = json!([{"index": calls, "id": id, "type": "function",
                    "function": {"name": name, "arguments": ""}}]);
                all.push(chunk(json!({"tool_calls": call}), None));
                for piece in chunks(&args_text(args), answer.chunk_chars) {
                    let call = json!([{"index": calls, "function": {"arguments": piece}}]);
                    all.push(chunk(json!({"tool_calls": call}), None));
                }
                calls += 1;
            }
        }
    }
    all.push(chunk(json!({}), Some(&finish_reason(answer))));
    if let Some(usage) = usage {
        let mut chunk = head.clone();
        chunk["choices"] = json!([]);
        chunk["usage"] = usage.clone();
        all.push(event(&chunk));
    }
    all.push("data: [DONE]\n\n".to_owned());
    all
}

fn whole(turn: &Turn, answer: &Answer, usage: &Value) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null});
    let joined = |thinking: bool| -> String {
        answer
            .pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Text(text) if !thinking => Some(text.as_str()),
                Piece::Thinking(text) if thinking => Some(text.as_str()),
                _ => None,
            })
            .collect()
    };
    if !joined(false).is_empty() {
        message["content"] = json!(joined(false));
    }
    if !joined(true).is_empty() {
        message["reasoning_content"] = json!(joined(true));
    }
    let calls: Vec<Value> = answer
        .pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Tool { name, args } => Some((name, args)),
            _ => None,
        })
        .enumerate()
        .map(|(n, (name, args))| {
            json!({
                "id": format!("call_{}_{n}", turn.number), "type": "function",
                "function": {"name": name, "arguments": args_text(args)},
            })
        })
        .collect();
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    json!({"id": format!("chatcmpl-fake-{}", turn.number), "object": "chat.completion",
        "created": 1_767_225_600, "model": turn.model, "usage": usage,
        "choices": [{"index": 0, "message": message, "logprobs": null,
            "finish_reason": finish_reason(answer)}]})
}
