//! OpenAI chat completions, as OpenAI and many compatible servers speak them.

use serde_json::Value;

use crate::{
    assemble::Assembler,
    config::{LlmOptions, ModelConfig, ProviderKind},
    error::ModelError,
    http::{Decoder, Protocol, base_headers, error_in_stream},
    message::{Request, StopReason, Usage},
    sse::SseEvent,
};

mod request;

/// Blocks of tool calls are numbered from here; text and thinking from 0.
const TOOL_BLOCKS: u64 = 1 << 32;

#[derive(Debug)]
pub(crate) struct OpenAi;

impl Protocol for OpenAi {
    const NAME: &'static str = ProviderKind::OpenAi.as_str();
    type Decoder = ChunkDecoder;

    fn url(config: &ModelConfig) -> String {
        let base = config.base_url.as_deref().unwrap_or("https://api.openai.com/v1");
        let base = base.trim_end_matches('/');
        let bare = base.split_once("://").is_none_or(|(_, rest)| !rest.contains('/'));
        format!("{base}{}/chat/completions", if bare { "/v1" } else { "" })
    }

    fn headers(config: &ModelConfig) -> Result<reqwest::header::HeaderMap, ModelError> {
        let key = config.api_key.iter();
        let pairs: Vec<_> =
            key.map(|key| ("authorization", format!("Bearer {}", key.expose()))).collect();
        base_headers(config, &pairs)
    }

    fn body(config: &ModelConfig, _options: &LlmOptions, request: &Request) -> Value {
        request::body(config, request)
    }
}

/// Reads chunks up to `[DONE]`. Lenient where compatible servers differ: no index, no id, the
/// end without `[DONE]`, `stop` after tool calls.
#[derive(Debug, Default)]
pub(crate) struct ChunkDecoder {
    complete: bool,
    run: u64,
    in_thinking: Option<bool>,
    calls: Vec<Call>,
}

/// A tool call that was begun.
#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: String,
    /// Arguments that came before the name.
    early: String,
    started: bool,
}

impl Decoder for ChunkDecoder {
    fn event(&mut self, event: &SseEvent, answer: &mut Assembler) -> Result<(), ModelError> {
        if self.complete {
            return Ok(());
        }
        if event.data.trim() == "[DONE]" {
            return self.finish(answer);
        }
        if event.data.is_empty() {
            return Ok(());
        }
        let data = event.json()?;
        if data.get("error").is_some_and(|error| !error.is_null()) {
            return Err(error_in_stream(event.data.clone()));
        }
        if let (None, Some(id)) = (&answer.response_id, data["id"].as_str()) {
            answer.response_id = Some(id.to_owned());
        }
        if let Some(model) = data["model"].as_str().filter(|model| !model.is_empty()) {
            model.clone_into(&mut answer.model);
        }
        let choice = &data["choices"][0];
        self.delta(&choice["delta"], answer)?;
        if let Some(reason) = choice["finish_reason"].as_str() {
            answer.stop = Some(stop_reason(reason));
        }
        usage(&data["usage"], answer);
        Ok(())
    }

    fn end(&mut self, answer: &mut Assembler) -> Result<(), ModelError> {
        if answer.stop.is_none() {
            return Err(ModelError::Cut);
        }
        self.finish(answer)
    }
}

impl ChunkDecoder {
    fn delta(&mut self, delta: &Value, answer: &mut Assembler) -> Result<(), ModelError> {
        let thinking = delta["reasoning_content"].as_str().or_else(|| delta["reasoning"].as_str());
        if let Some(piece) = thinking.filter(|piece| !piece.is_empty()) {
            answer.thinking(self.block(true), piece)?;
        }
        match &delta["content"] {
            Value::String(piece) if !piece.is_empty() => answer.text(self.block(false), piece)?,
            Value::Array(parts) => {
                for piece in parts.iter().filter_map(|part| part["text"].as_str()) {
                    answer.text(self.block(false), piece)?;
                }
            }
            _ => {}
        }
        if let Some(piece) = delta["refusal"].as_str() {
            answer.text(self.block(false), piece)?;
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.tool_call(call, answer)?;
        }
        Ok(())
    }

    /// The block that text or thinking goes to: a new one whenever they change.
    fn block(&mut self, thinking: bool) -> u64 {
        if self.in_thinking != Some(thinking) {
            self.in_thinking = Some(thinking);
            self.run += 1;
        }
        self.run
    }

    fn tool_call(&mut self, delta: &Value, answer: &mut Assembler) -> Result<(), ModelError> {
        self.in_thinking = None; // Text after a call is a part of its own.
        let index = delta["index"].as_u64();
        let id = delta["id"].as_str().unwrap_or_default();
        let function = &delta["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let args = match &function["arguments"] {
            Value::String(args) => args.clone(),
            whole @ Value::Object(_) => whole.to_string(),
            _ => String::new(),
        };
        let known = self.calls.iter().rposition(|call| match (index, id) {
            (Some(_), "") => call.index == index,
            (Some(_), id) => call.index == index && (call.id.is_empty() || call.id == id),
            (None, "") => name.is_empty() || !call.started,
            (None, id) => call.id == id,
        });
        let at = known.unwrap_or_else(|| {
            let call = Call { index, id: String::new(), early: String::new(), started: false };
            self.calls.push(call);
            self.calls.len() - 1
        });
        let block = TOOL_BLOCKS + at as u64;
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if call.started {
            return answer.tool_args(block, &args);
        }
        call.early.push_str(&args);
        if name.is_empty() {
            return Ok(());
        }
        call.started = true;
        answer.tool_start(block, &call.id, name)?;
        answer.tool_args(block, &std::mem::take(&mut call.early))
    }

    fn finish(&mut self, answer: &mut Assembler) -> Result<(), ModelError> {
        if self.calls.iter().any(|call| !call.started) {
            let detail = "a tool call without a name".to_owned();
            return Err(ModelError::Protocol { detail });
        }
        self.complete = true;
        if answer.has_tools() && matches!(answer.stop, None | Some(StopReason::EndTurn)) {
            answer.stop = Some(StopReason::ToolUse);
        }
        answer.complete();
        Ok(())
    }
}

fn usage(usage: &Value, answer: &mut Assembler) {
    if !usage.is_object() {
        return;
    }
    let number = |value: &Value| value.as_u64();
    let cached = number(&usage["prompt_tokens_details"]["cached_tokens"])
        .or_else(|| number(&usage["prompt_cache_hit_tokens"]));
    answer.usage = Usage {
        input: number(&usage["prompt_tokens"]).unwrap_or(answer.usage.input),
        output: number(&usage["completion_tokens"]).unwrap_or(answer.usage.output),
        cached_read: cached.unwrap_or(answer.usage.cached_read),
        cache_write: 0,
        reasoning: number(&usage["completion_tokens_details"]["reasoning_tokens"])
            .unwrap_or(answer.usage.reasoning),
    };
    answer.tell_usage();
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "stop" | "end_turn" => StopReason::EndTurn,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refusal,
        other => StopReason::Other(other.to_owned()),
    }
}

#[cfg(test)]
mod tests;
