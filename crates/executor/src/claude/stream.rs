//! The model's stream as Claude Code passes it on: raw Anthropic events.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::{
    event::{RuntimeEvent, TOOL_INPUT_BYTES_MAX, Tokens, ToolCall},
    text,
};

/// Message ids that are remembered as streamed.
const STREAMED_MAX: usize = 64;
/// Arguments of one call that are collected; more are cut.
const ARGS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A block under way.
#[derive(Debug)]
enum Open {
    Tool { id: String, name: String, args: String },
    Other,
}

/// Follows the stream of one model call after the other.
#[derive(Debug, Default)]
pub(super) struct ModelStream {
    blocks: BTreeMap<u64, Open>,
    message: String,
    tokens: Tokens,
    stop: Option<String>,
    /// Messages whose blocks were streamed: their `assistant` lines say nothing new.
    streamed: HashSet<String>,
}

impl ModelStream {
    pub(super) fn was_streamed(&self, message: &str) -> bool {
        self.streamed.contains(message)
    }

    /// What an event of the Bot's own model call says.
    pub(super) fn event(&mut self, event: &Value) -> Vec<RuntimeEvent> {
        let index = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => self.start(&event["message"]),
            "content_block_start" => return self.block(index, &event["content_block"]),
            "content_block_delta" => return self.delta(index, &event["delta"]),
            "content_block_stop" => return self.close(index),
            "message_delta" => {
                self.stop = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                let output = event["usage"]["output_tokens"].as_u64();
                self.tokens.output = output.unwrap_or(self.tokens.output);
            }
            "message_stop" => {
                let (stop, usage) = (self.stop.take(), Some(std::mem::take(&mut self.tokens)));
                return vec![RuntimeEvent::ModelDone { stop, usage }];
            }
            _ => {}
        }
        Vec::new()
    }

    fn start(&mut self, message: &Value) {
        self.blocks.clear();
        self.message = message["id"].as_str().unwrap_or_default().to_owned();
        if self.streamed.len() >= STREAMED_MAX {
            self.streamed.clear();
        }
        self.streamed.insert(self.message.clone());
        self.tokens = tokens(message);
    }

    fn block(&mut self, index: u64, block: &Value) -> Vec<RuntimeEvent> {
        if block["type"] != "tool_use" {
            self.blocks.insert(index, Open::Other);
            return Vec::new();
        }
        let id = block["id"].as_str().unwrap_or_default().to_owned();
        let name = block["name"].as_str().unwrap_or_default().to_owned();
        let started = (!is_subagent(&name)).then(|| tool_started(&id, &name, Value::Null, None));
        self.blocks.insert(index, Open::Tool { id, name, args: String::new() });
        started.into_iter().collect()
    }

    fn delta(&mut self, index: u64, delta: &Value) -> Vec<RuntimeEvent> {
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => text::pieces(delta["text"].as_str().unwrap_or_default())
                .map(|text| RuntimeEvent::Text { text, parent: None })
                .collect(),
            "thinking_delta" => text::pieces(delta["thinking"].as_str().unwrap_or_default())
                .map(|text| RuntimeEvent::Thinking { text, parent: None })
                .collect(),
            "input_json_delta" => {
                let piece = delta["partial_json"].as_str().unwrap_or_default();
                if let Some(Open::Tool { args, .. }) = self.blocks.get_mut(&index)
                    && args.len() + piece.len() <= ARGS_BYTES_MAX
                {
                    args.push_str(piece);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn close(&mut self, index: u64) -> Vec<RuntimeEvent> {
        let Some(Open::Tool { id, name, args }) = self.blocks.remove(&index) else {
            return Vec::new();
        };
        let input = match args.trim().is_empty() {
            true => Value::Object(serde_json::Map::new()),
            false => serde_json::from_str(&args).unwrap_or(Value::String(args)),
        };
        if is_subagent(&name) {
            return vec![subagent(id, &input)];
        }
        vec![RuntimeEvent::ToolInput { id, input: text::bounded(input, TOOL_INPUT_BYTES_MAX) }]
    }
}

/// Tokens of a message's start.
pub(super) fn tokens(message: &Value) -> Tokens {
    let count = |name: &str| message["usage"][name].as_u64().unwrap_or_default();
    let cached = count("cache_read_input_tokens");
    Tokens {
        model: message["model"].as_str().unwrap_or_default().to_owned(),
        input: count("input_tokens") + count("cache_creation_input_tokens") + cached,
        output: count("output_tokens"),
        cached,
        cost: None,
    }
}

/// The tool that starts a sub-agent, by its present and its older name.
pub(super) fn is_subagent(tool: &str) -> bool {
    matches!(tool, "Agent" | "Task")
}

pub(super) fn subagent(id: String, input: &Value) -> RuntimeEvent {
    let title = input["description"].as_str().or_else(|| input["prompt"].as_str());
    RuntimeEvent::SubagentStarted { id, title: text::line(title.unwrap_or("sub-agent")) }
}

pub(super) fn tool_started(
    id: &str,
    name: &str,
    input: Value,
    parent: Option<String>,
) -> RuntimeEvent {
    let server = name.strip_prefix("mcp__").and_then(|rest| rest.split_once("__"));
    RuntimeEvent::ToolStarted(ToolCall {
        id: id.to_owned(),
        title: (!input.is_null()).then(|| title(name, &input)),
        tool: name.to_owned(),
        server: server.map(|(server, _)| server.to_owned()),
        input: text::bounded(input, TOOL_INPUT_BYTES_MAX),
        parent,
    })
}

/// What a call is about, in one line.
pub(super) fn title(tool: &str, input: &Value) -> String {
    let named = ["command", "file_path", "notebook_path", "pattern", "url", "query", "plan"];
    let said = named.iter().find_map(|name| input[*name].as_str());
    text::line(said.unwrap_or(tool))
}
