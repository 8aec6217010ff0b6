//! The Anthropic wire: reads and checks requests, writes answers.

use std::{collections::HashSet, sync::Arc};

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde_json::{Value, json};

use super::{
    Active, Shared, cleaned, hash_of,
    script::{Answer, Piece, ToolOffer, ToolOutcome, Turn, Wire},
    signature_of,
    stream::{self, Dialect, chunks, json_response, refusal},
    tokens,
};

#[derive(Debug)]
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn text_event(&self, text: &str) -> String {
        // Index 99 is a block of its own: clients must take deltas by index.
        let delta = json!({"type": "content_block_delta", "index": 99,
            "delta": {"type": "text_delta", "text": text}});
        event(&delta)
    }

    fn error_event(&self, kind: &str) -> String {
        event(&self.error_body(kind, "The script says so"))
    }

    fn error_body(&self, kind: &str, message: &str) -> Value {
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"})
    }
}

/// `POST /v1/messages`.
pub(super) async fn messages(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bad = |message: &str| refusal(&Anthropic, 400, "invalid_request_error", message, None);
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return bad("the body is no JSON");
    };
    let number = shared.record(Wire::Anthropic, &headers, &body);
    if !shared.key_fits(&headers) {
        return refusal(&Anthropic, 401, "authentication_error", "invalid x-api-key", None);
    }
    if !headers.contains_key("anthropic-version") {
        return bad("anthropic-version: header is required");
    }
    if let Err(message) = check(&body) {
        return bad(&message);
    }
    let turn = turn(&shared, number, &body);
    let answer = shared.script().answer(&turn);
    let mut active = Active::new(&shared.counters);
    if let Some(response) = stream::before_head(&answer, &Anthropic, &mut active).await {
        return response;
    }
    let usage = usage(&shared, &body);
    if body["stream"] == json!(true) {
        return stream::response(events(&turn, &answer, &usage), &answer, &Anthropic, active);
    }
    active.finish();
    json_response(&whole(&turn, &answer, &usage))
}

/// `POST /v1/messages/count_tokens`.
pub(super) async fn count_tokens(body: Bytes) -> Response {
    json_response(&json!({"input_tokens": tokens(body.len())}))
}

fn blocks(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

/// What the real server refuses, as far as a client of ours could get it wrong.
fn check(body: &Value) -> Result<(), String> {
    if body["max_tokens"].as_u64().is_none_or(|max| max == 0) {
        return Err("max_tokens: Field required".into());
    }
    let messages = body["messages"].as_array().ok_or("messages: Field required")?;
    if messages.is_empty() {
        return Err("messages: at least one message is required".into());
    }
    let thinks = body["thinking"]["type"] == "enabled";
    if thinks && body.get("temperature").is_some() {
        return Err("`temperature` may only be set to 1 when thinking is enabled".into());
    }
    if body.to_string().matches("\"cache_control\"").count() > 4 {
        return Err("A maximum of 4 blocks with cache_control may be provided".into());
    }
    let mut open: HashSet<String> = HashSet::new();
    for (at, message) in messages.iter().enumerate() {
        let content = blocks(&message["content"]);
        match message["role"].as_str() {
            Some("assistant") => open = check_assistant(at, &content)?,
            Some("user") => check_results(at, &content, std::mem::take(&mut open))?,
            Some("system") => {}
            _ => return Err(format!("messages.{at}.role: Input should be 'user' or 'assistant'")),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(missing_results(messages.len())) }
}

fn missing_results(at: usize) -> String {
    format!(
        "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after"
    )
}

/// Returns the ids of the calls that now want a result.
fn check_assistant(at: usize, content: &[Value]) -> Result<HashSet<String>, String> {
    let mut calls = HashSet::new();
    for block in content {
        match block["type"].as_str() {
            Some("thinking") => {
                let thinking = block["thinking"].as_str().unwrap_or_default();
                if block["signature"].as_str() != Some(&signature_of(thinking)) {
                    return Err(format!("messages.{at}: Invalid `signature` in `thinking` block"));
                }
            }
            Some("tool_use") => {
                if !block["input"].is_object() {
                    return Err(format!("messages.{at}: tool_use.input: should be an object"));
                }
                calls.insert(block["id"].as_str().unwrap_or_default().to_owned());
            }
            Some("text") if block["text"].as_str().is_none_or(str::is_empty) => {
                return Err(format!("messages.{at}: text content blocks must be non-empty"));
            }
            _ => {}
        }
    }
    Ok(calls)
}

fn check_results(at: usize, content: &[Value], mut open: HashSet<String>) -> Result<(), String> {
    let mut others = false;
    for block in content {
        if block["type"] == "tool_result" {
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            if !open.remove(id) || others {
                return Err(format!("messages.{at}: unexpected `tool_use_id` {id}"));
            }
            if block["is_error"] == json!(true) && block["content"].as_str() == Some("") {
                return Err(format!(
                    "messages.{at}: content cannot be empty if `is_error` is true"
                ));
            }
        } else {
            others = true;
            if block["type"] == "text" && block["text"].as_str().is_none_or(str::is_empty) {
                return Err(format!("messages.{at}: text content blocks must be non-empty"));
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err(missing_results(at)) }
}

fn turn(shared: &Shared, number: u64, body: &Value) -> Turn {
    let system: Vec<String> = blocks(&body["system"])
        .iter()
        .filter_map(|block| block["text"].as_str().map(str::to_owned))
        .collect();
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let human_of = |message: &Value| {
        let texts = blocks(&message["content"]);
        let texts = texts.iter().filter(|block| block["type"] == "text");
        cleaned(&texts.filter_map(|b| b["text"].as_str()).collect::<Vec<_>>().join("\n"))
    };
    let at = messages.iter().rposition(|m| m["role"] == "user" && !human_of(m).is_empty());
    let human = at.map(|at| human_of(&messages[at])).unwrap_or_default();
    let since = at.map_or(&messages[..], |at| &messages[at + 1..]);
    let results =
        since.iter().flat_map(|message| blocks(&message["content"])).filter_map(|block| {
            let text = |content: &Value| {
                let parts = blocks(content);
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<String>()
            };
            (block["type"] == "tool_result").then(|| ToolOutcome {
                id: block["tool_use_id"].as_str().unwrap_or_default().to_owned(),
                content: text(&block["content"]),
                is_error: block["is_error"] == json!(true),
            })
        });
    let tools = body["tools"].as_array().into_iter().flatten().map(|tool| ToolOffer {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        schema: tool["input_schema"].clone(),
    });
    Turn {
        wire: Wire::Anthropic,
        number,
        repeat: shared.repeat(hash_of(&format!("{}{}", body["system"], body["messages"]))),
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: system.join("\n"),
        human,
        step: since.iter().filter(|message| message["role"] == "assistant").count(),
        tools: tools.collect(),
        results: results.collect(),
        body: body.clone(),
    }
}

/// Tokens of the prompt: fresh, written to the cache, read from it.
fn usage(shared: &Shared, body: &Value) -> Value {
    let mut seen = String::new();
    let mut starts = Vec::new();
    let all = ["tools", "system"].iter().flat_map(|key| blocks(&body[key]));
    let messages = body["messages"].as_array().into_iter().flatten();
    for mut block in all.chain(messages.flat_map(|message| blocks(&message["content"]))) {
        let marked = block.as_object_mut().and_then(|block| block.remove("cache_control"));
        seen.push_str(&block.to_string());
        if marked.is_some() {
            starts.push((hash_of(&seen), tokens(seen.len())));
        }
    }
    let (read, written) = shared.cache(&starts);
    let fresh = tokens(seen.len()).saturating_sub(read + written);
    json!({"input_tokens": fresh, "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read, "output_tokens": 1})
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("message"))
}

fn stop_reason(answer: &Answer) -> String {
    let calls = answer.pieces.iter().any(|piece| matches!(piece, Piece::Tool { .. }));
    let usual = if calls { "tool_use" } else { "end_turn" };
    answer.stop.clone().unwrap_or_else(|| usual.to_owned())
}

fn output_tokens(answer: &Answer) -> u64 {
    answer.pieces.iter().map(|piece| tokens(format!("{piece:?}").len())).sum()
}

fn events(turn: &Turn, answer: &Answer, usage: &Value) -> Vec<String> {
    let mut all = vec![
        event(&json!({"type": "message_start", "message": {
            "id": format!("msg_fake_{}", turn.number), "type": "message", "role": "assistant",
            "model": turn.model, "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": usage}})),
        event(&json!({"type": "ping"})),
    ];
    for (index, piece) in answer.pieces.iter().enumerate() {
        let start = |block: Value| {
            event(&json!({"type": "content_block_start", "index": index, "content_block": block}))
        };
        let delta = |delta: Value| {
            event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
        };
        match piece {
            Piece::Thinking(text) => {
                all.push(start(json!({"type": "thinking", "thinking": "", "signature": ""})));
                let pieces = chunks(text, answer.chunk_chars).into_iter();
                all.extend(pieces.map(|p| delta(json!({"type": "thinking_delta", "thinking": p}))));
                let signature = signature_of(text);
                all.push(delta(json!({"type": "signature_delta", "signature": signature})));
            }
            Piece::RedactedThinking(data) => {
                all.push(start(json!({"type": "redacted_thinking", "data": data})));
            }
            Piece::Text(text) => {
                all.push(start(json!({"type": "text", "text": ""})));
                let pieces = chunks(text, answer.chunk_chars).into_iter();
                all.extend(pieces.map(|p| delta(json!({"type": "text_delta", "text": p}))));
            }
            Piece::Tool { name, args } => {
                let id = format!("toolu_{}_{index}", turn.number);
                all.push(start(json!({"type": "tool_use", "id": id, "name": name, "input": {}})));
                let args = args.as_str().map_or_else(|| args.to_string(), str::to_owned);
                all.push(delta(json!({"type": "input_json_delta", "partial_json": ""})));
                let pieces = chunks(&args, answer.chunk_chars).into_iter();
                all.extend(
                    pieces.map(|p| delta(json!({"type": "input_json_delta", "partial_json": p}))),
                );
            }
        }
        all.push(event(&json!({"type": "content_block_stop", "index": index})));
    }
    all.push(event(&json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": output_tokens(answer)}})));
    all.push(event(&json!({"type": "message_stop"})));
    all
}

fn whole(turn: &Turn, answer: &Answer, usage: &Value) -> Value {
    let content = answer.pieces.iter().enumerate().map(|(index, piece)| match piece {
        Piece::Thinking(text) => {
            json!({"type": "thinking", "thinking": text, "signature": signature_of(text)})
        }
        Piece::RedactedThinking(data) => json!({"type": "redacted_thinking", "data": data}),
        Piece::Text(text) => json!({"type": "text", "text": text}),
        Piece::Tool { name, args } => json!({"type": "tool_use", "name": name, "input": args,
            "id": format!("toolu_{}_{index}", turn.number)}),
    });
    let mut usage = usage.clone();
    usage["output_tokens"] = json!(output_tokens(answer));
    json!({"id": format!("msg_fake_{}", turn.number), "type": "message", "role": "assistant",
        "model": turn.model, "content": content.collect::<Vec<_>>(),
        "stop_reason": stop_reason(answer), "stop_sequence": null, "usage": usage})
}
