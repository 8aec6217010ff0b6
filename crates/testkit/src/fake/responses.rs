//! The OpenAI Responses wire: reads and checks requests, writes answers.

use std::{collections::HashSet, sync::Arc};

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde_json::{Value, json};

use super::{
    Active, Shared, cleaned, hash_of,
    script::{Answer, Piece, ToolOffer, ToolOutcome, Turn, Wire},
    stream::{self, Dialect, chunks, json_response, refusal},
    tokens,
};

/// Between the name of a namespace and that of a tool in it, as scripts name such a tool.
const NAMESPACE: &str = "__";

#[derive(Debug)]
pub(super) struct Responses;

impl Dialect for Responses {
    fn text_event(&self, text: &str) -> String {
        event(&json!({"type": "response.output_text.delta", "item_id": "msg_fake",
            "output_index": 0, "content_index": 0, "delta": text}))
    }

    fn error_event(&self, kind: &str) -> String {
        event(&json!({"type": "response.failed", "response": {"id": "resp_fake",
            "object": "response", "status": "failed", "output": [],
            "error": {"code": kind, "message": "The script says so"}}}))
    }

    fn error_body(&self, kind: &str, message: &str) -> Value {
        json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
    }
}

/// `POST /v1/responses`.
pub(super) async fn responses(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bad = |message: &str| refusal(&Responses, 400, "invalid_request_error", message, None);
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return bad("We could not parse the JSON body of your request.");
    };
    let number = shared.record(Wire::Responses, &headers, &body);
    if !shared.key_fits(&headers) {
        return refusal(&Responses, 401, "invalid_api_key", "Incorrect API key provided", None);
    }
    if let Err(message) = check(&body) {
        return bad(&message);
    }
    let turn = turn(&shared, number, &body);
    let answer = shared.script().answer(&turn);
    let mut active = Active::new(&shared.counters);
    if let Some(response) = stream::before_head(&answer, &Responses, &mut active).await {
        return response;
    }
    let output = items(&turn, &answer);
    let response = whole(&turn, &answer, &output, &usage(&body, &answer));
    if body["stream"] == json!(true) {
        return stream::response(events(&answer, &output, &response), &answer, &Responses, active);
    }
    active.finish();
    json_response(&response)
}

fn input(body: &Value) -> Vec<Value> {
    match &body["input"] {
        Value::String(text) => vec![json!({"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": text}]})],
        Value::Array(items) => items.clone(),
        _ => Vec::new(),
    }
}

fn kind(item: &Value) -> &str {
    item["type"].as_str().unwrap_or("message")
}

/// What the real server refuses, as far as a client of ours could get it wrong.
fn check(body: &Value) -> Result<(), String> {
    let items = input(body);
    if items.is_empty() || body["model"].as_str().is_none_or(str::is_empty) {
        return Err("Missing required parameter: 'input' or 'model'.".into());
    }
    let id = |item: &Value| item["call_id"].as_str().unwrap_or_default().to_owned();
    let mut open: HashSet<String> = HashSet::new();
    for item in &items {
        match kind(item) {
            "function_call" | "custom_tool_call" => {
                open.insert(id(item));
            }
            "function_call_output" | "custom_tool_call_output" if !open.remove(&id(item)) => {
                return Err(format!("No tool call found for output with call_id {}.", id(item)));
            }
            _ => {}
        }
    }
    match open.iter().next() {
        None => Ok(()),
        Some(id) => Err(format!("No tool output found for function call {id}.")),
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
    let items = input(body);
    let human_of = |item: &Value| cleaned(&text_of(&item["content"]));
    let is_human = |item: &&Value| {
        kind(item) == "message" && item["role"] == "user" && !human_of(item).is_empty()
    };
    let at = items.iter().rposition(|item| is_human(&item));
    let since = at.map_or(&items[..], |at| &items[at + 1..]);
    let system: Vec<String> = std::iter::once(text_of(&body["instructions"]))
        .chain(items.iter().filter(|i| i["role"] == "developer").map(|i| text_of(&i["content"])))
        .collect();
    let results = since.iter().filter(|item| kind(item).ends_with("_call_output"));
    let results = results.map(|item| ToolOutcome {
        id: item["call_id"].as_str().unwrap_or_default().to_owned(),
        content: text_of(&item["output"]),
        is_error: false,
    });
    Turn {
        wire: Wire::Responses,
        number,
        repeat: shared.repeat(hash_of(&body["input"].to_string())),
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: system.join("\n"),
        human: at.map(|at| human_of(&items[at])).unwrap_or_default(),
        step: rounds(since),
        tools: body["tools"].as_array().into_iter().flatten().flat_map(offers).collect(),
        results: results.collect(),
        body: body.clone(),
    }
}

/// An answer is several items; what is not the model's own ends it.
fn rounds(items: &[Value]) -> usize {
    let own = |item: &Value| match kind(item) {
        "function_call" | "custom_tool_call" | "reasoning" => true,
        "message" => item["role"] == "assistant",
        _ => false,
    };
    let starts = |at: &usize| own(&items[*at]) && (*at == 0 || !own(&items[*at - 1]));
    (0..items.len()).filter(starts).count()
}

fn offers(tool: &Value) -> Vec<ToolOffer> {
    let name = tool["name"].as_str().unwrap_or_default();
    let offer = |name: String, tool: &Value| ToolOffer { name, schema: tool["parameters"].clone() };
    if tool["type"] == "namespace" {
        let inner = tool["tools"].as_array().into_iter().flatten();
        let full = |inner: &Value| {
            format!("{name}{NAMESPACE}{}", inner["name"].as_str().unwrap_or_default())
        };
        return inner.map(|inner| offer(full(inner), inner)).collect();
    }
    vec![offer(name.to_owned(), tool)]
}

fn usage(body: &Value, answer: &Answer) -> Value {
    let size = |piece: &Piece| tokens(format!("{piece:?}").len());
    let output: u64 = answer.pieces.iter().map(size).sum();
    let thinking = answer.pieces.iter().filter(|piece| matches!(piece, Piece::Thinking(_)));
    let thinking: u64 = thinking.map(size).sum();
    let input = tokens(body["input"].to_string().len());
    json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": thinking},
        "total_tokens": input + output})
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("message"))
}

/// The items of an answer, whole.
fn items(turn: &Turn, answer: &Answer) -> Vec<Value> {
    let tools = turn.body["tools"].as_array().cloned().unwrap_or_default();
    let is_custom = |name: &str| tools.iter().any(|t| t["name"] == name && t["type"] == "custom");
    let namespace_of = |name: &str| {
        let named = tools.iter().filter(|tool| tool["type"] == "namespace");
        named.filter_map(|tool| tool["name"].as_str()).find_map(|space| {
            let rest = name.strip_prefix(space)?.strip_prefix(NAMESPACE)?;
            Some((space.to_owned(), rest.to_owned()))
        })
    };
    let item = |(at, piece): (usize, &Piece)| {
        let (number, call) = (turn.number, format!("call_{}_{at}", turn.number));
        match piece {
            Piece::Thinking(text) => json!({"type": "reasoning", "id": format!("rs_{number}_{at}"),
                "summary": [{"type": "summary_text", "text": text}],
                "encrypted_content": super::signature_of(text)}),
            Piece::RedactedThinking(data) => json!({"type": "reasoning",
                "id": format!("rs_{number}_{at}"), "summary": [], "encrypted_content": data}),
            Piece::Text(text) => json!({"type": "message", "id": format!("msg_{number}_{at}"),
                "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}]}),
            Piece::Tool { name, args } if is_custom(name) => json!({"type": "custom_tool_call",
                "id": format!("ctc_{number}_{at}"), "call_id": call, "name": name,
                "status": "completed", "input": args_text(args)}),
            Piece::Tool { name, args } => {
                let mut item = json!({"type": "function_call", "id": format!("fc_{number}_{at}"),
                    "call_id": call, "name": name, "status": "completed",
                    "arguments": args_text(args)});
                if let Some((space, name)) = namespace_of(name) {
                    item["namespace"] = json!(space);
                    item["name"] = json!(name);
                }
                item
            }
        }
    };
    answer.pieces.iter().enumerate().map(item).collect()
}

fn args_text(args: &Value) -> String {
    args.as_str().map_or_else(|| args.to_string(), str::to_owned)
}

fn whole(turn: &Turn, answer: &Answer, output: &[Value], usage: &Value) -> Value {
    let (status, why) = match answer.stop.as_deref() {
        Some("max_output_tokens" | "content_filter") => {
            ("incomplete", json!({"reason": answer.stop}))
        }
        _ => ("completed", Value::Null),
    };
    json!({"id": format!("resp_fake_{}", turn.number), "object": "response",
        "created_at": 1_767_225_600, "model": turn.model, "status": status,
        "incomplete_details": why, "error": null, "output": output, "usage": usage})
}

fn events(answer: &Answer, output: &[Value], response: &Value) -> Vec<String> {
    let mut started = response.clone();
    started["status"] = json!("in_progress");
    started["output"] = json!([]);
    started["usage"] = Value::Null;
    let mut all = vec![
        json!({"type": "response.created", "response": started}),
        json!({"type": "response.in_progress", "response": started}),
    ];
    for (at, item) in output.iter().enumerate() {
        item_events(at, item, answer.chunk_chars, &mut all);
    }
    let end = format!("response.{}", response["status"].as_str().unwrap_or("completed"));
    all.push(json!({"type": end, "response": response}));
    let numbered = all.into_iter().enumerate().map(|(number, mut data)| {
        data["sequence_number"] = json!(number);
        event(&data)
    });
    numbered.collect()
}

/// The events of one item: added, its content piece by piece, done.
fn item_events(at: usize, item: &Value, chars: usize, all: &mut Vec<Value>) {
    let mut bare = item.clone();
    bare["status"] = json!("in_progress");
    let (delta, field) = match kind(item) {
        "message" => ("response.output_text.delta", "content"),
        "reasoning" => ("response.reasoning_summary_text.delta", "summary"),
        "custom_tool_call" => ("response.custom_tool_call_input.delta", "input"),
        _ => ("response.function_call_arguments.delta", "arguments"),
    };
    let text = match field {
        "content" | "summary" => text_of(&item[field]),
        _ => item[field].as_str().unwrap_or_default().to_owned(),
    };
    bare[field] = if item[field].is_array() { json!([]) } else { json!("") };
    all.push(json!({"type": "response.output_item.added", "output_index": at, "item": bare}));
    let mut push = |kind: &str, fields: Value| {
        let mut data = fields;
        data["type"] = json!(kind);
        data["output_index"] = json!(at);
        data["item_id"] = item["id"].clone();
        match field {
            "content" => data["content_index"] = json!(0),
            "summary" => data["summary_index"] = json!(0),
            _ => {}
        }
        all.push(data);
    };
    let part = match field {
        "content" => Some(("content_part", json!({"type": "output_text", "text": ""}))),
        "summary" if !text.is_empty() => {
            Some(("reasoning_summary_part", json!({"type": "summary_text", "text": ""})))
        }
        _ => None,
    };
    if let Some((name, empty)) = &part {
        push(&format!("response.{name}.added"), json!({"part": empty}));
    }
    for piece in chunks(&text, chars) {
        push(delta, json!({"delta": piece}));
    }
    let done = delta.replace(".delta", ".done");
    let last = if item[field].is_array() { "text" } else { field };
    if part.is_some() || !item[field].is_array() {
        push(&done, json!({last: text}));
    }
    if let Some((name, mut full)) = part {
        full["text"] = json!(text);
        push(&format!("response.{name}.done"), json!({"part": full}));
    }
    all.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
}
