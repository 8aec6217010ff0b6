//! Anthropic Messages.

use serde_json::Value;

use crate::{
    assemble::Assembler,
    config::{AuthStyle, LlmOptions, ModelConfig, ProviderKind},
    error::ModelError,
    http::{Decoder, Protocol, base_headers, error_in_stream},
    message::{Request, StopReason, Usage},
    sse::SseEvent,
};

mod request;
mod thinking;

const VERSION: &str = "2023-06-01";

#[derive(Debug)]
pub(crate) struct Anthropic;

impl Protocol for Anthropic {
    const NAME: &'static str = ProviderKind::Claude.as_str();
    type Decoder = MessageDecoder;

    fn url(config: &ModelConfig) -> String {
        let base = config.base_url.as_deref().unwrap_or("https://api.anthropic.com");
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        format!("{base}/v1/messages")
    }

    fn headers(config: &ModelConfig) -> Result<reqwest::header::HeaderMap, ModelError> {
        let mut pairs = vec![("anthropic-version", VERSION.to_owned())];
        if let Some(key) = &config.api_key {
            pairs.push(match config.auth {
                AuthStyle::Default => ("x-api-key", key.expose().to_owned()),
                AuthStyle::Bearer => ("authorization", format!("Bearer {}", key.expose())),
            });
        }
        base_headers(config, &pairs)
    }

    fn body(config: &ModelConfig, options: &LlmOptions, request: &Request) -> Value {
        request::body(config, options, request)
    }
}

/// Reads `message_start` .. `message_stop`. Unknown events, blocks and deltas are passed over:
/// the protocol allows new ones at any time.
#[derive(Debug, Default)]
pub(crate) struct MessageDecoder {
    complete: bool,
    /// Tokens of the prompt, as the provider counts them.
    prompt: Prompt,
}

#[derive(Clone, Copy, Debug, Default)]
struct Prompt {
    fresh: u64,
    cached_read: u64,
    cache_write: u64,
}

impl Decoder for MessageDecoder {
    fn event(&mut self, event: &SseEvent, answer: &mut Assembler) -> Result<(), ModelError> {
        if self.complete {
            return Ok(());
        }
        let data = event.json()?;
        let block = data.get("index").and_then(Value::as_u64).unwrap_or(0);
        let kind = match text_at(&data, "type") {
            "" => event.event.as_str(), // Some gateways name it there only.
            kind => kind,
        };
        match kind {
            "message_start" => {
                let message = &data["message"];
                text_at(message, "id").clone_into(answer.response_id.get_or_insert_default());
                if let model @ [_, ..] = text_at(message, "model").as_bytes() {
                    answer.model = String::from_utf8_lossy(model).into_owned();
                }
                self.usage(&message["usage"], answer);
                Ok(())
            }
            "content_block_start" => start_block(block, &data["content_block"], answer),
            "content_block_delta" => {
                let delta = &data["delta"];
                match text_at(delta, "type") {
                    "text_delta" => answer.text(block, text_at(delta, "text")),
                    "thinking_delta" => answer.thinking(block, text_at(delta, "thinking")),
                    "signature_delta" => answer.signature(block, text_at(delta, "signature")),
                    "input_json_delta" => answer.tool_args(block, text_at(delta, "partial_json")),
                    _ => Ok(()),
                }
            }
            "content_block_stop" => {
                answer.end(block);
                Ok(())
            }
            "message_delta" => {
                if let Some(reason) = data["delta"]["stop_reason"].as_str() {
                    answer.stop = Some(stop_reason(reason));
                }
                self.usage(&data["usage"], answer);
                Ok(())
            }
            "message_stop" => {
                self.complete = true;
                answer.complete();
                Ok(())
            }
            "error" => Err(error_in_stream(event.data.clone())),
            _ => Ok(()),
        }
    }

    fn end(&mut self, _answer: &mut Assembler) -> Result<(), ModelError> {
        Err(ModelError::Cut)
    }
}

impl MessageDecoder {
    /// Numbers that are told again replace the ones before; `input_tokens` leaves the cached
    /// ones out, ours does not.
    fn usage(&mut self, usage: &Value, answer: &mut Assembler) {
        if !usage.is_object() {
            return;
        }
        let number = |key: &str| usage.get(key).and_then(Value::as_u64);
        let prompt = &mut self.prompt;
        prompt.fresh = number("input_tokens").unwrap_or(prompt.fresh);
        prompt.cached_read = number("cache_read_input_tokens").unwrap_or(prompt.cached_read);
        prompt.cache_write = number("cache_creation_input_tokens").unwrap_or(prompt.cache_write);
        let thinking = usage["output_tokens_details"]["thinking_tokens"].as_u64();
        answer.usage = Usage {
            input: prompt
                .fresh
                .saturating_add(prompt.cached_read)
                .saturating_add(prompt.cache_write),
            output: number("output_tokens").unwrap_or(answer.usage.output),
            cached_read: prompt.cached_read,
            cache_write: prompt.cache_write,
            reasoning: thinking.unwrap_or(answer.usage.reasoning),
        };
        answer.tell_usage();
    }
}

fn start_block(index: u64, block: &Value, answer: &mut Assembler) -> Result<(), ModelError> {
    match text_at(block, "type") {
        "text" => answer.text(index, text_at(block, "text")),
        "thinking" => {
            answer.thinking_start(index)?;
            answer.thinking(index, text_at(block, "thinking"))?;
            answer.signature(index, text_at(block, "signature"))
        }
        "redacted_thinking" => answer.redacted(index, text_at(block, "data")),
        "tool_use" => {
            answer.tool_start(index, text_at(block, "id"), text_at(block, "name"))?;
            match block.get("input") {
                // Usually `{}`, with the arguments in deltas; some servers send all at once.
                Some(Value::Object(input)) if !input.is_empty() => {
                    answer.tool_args(index, &block["input"].to_string())
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::MaxTokens,
        "model_context_window_exceeded" => StopReason::ContextWindow,
        "refusal" => StopReason::Refusal,
        "pause_turn" => StopReason::Pause,
        other => StopReason::Other(other.to_owned()),
    }
}

fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::provider::ModelEvent;

    fn events() -> impl Strategy<Value = Value> {
        let kind = prop::sample::select(vec![
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
            "ping",
            "error",
            "new_thing",
        ]);
        let block =
            prop::sample::select(vec!["text", "thinking", "redacted_thinking", "tool_use", "?"]);
        let delta = prop::sample::select(vec![
            "text_delta",
            "thinking_delta",
            "signature_delta",
            "input_json_delta",
            "citations_delta",
        ]);
        (kind, 0_u64..3, block, delta, "[a{}\"你]{0,4}").prop_map(|(kind, index, block, delta, s)| {
            json!({
                "type": kind, "index": index,
                "message": {"id": s, "usage": {"input_tokens": index}},
                "content_block": {"type": block, "id": s, "name": s, "data": s, "text": s},
                "delta": {"type": delta, "text": s, "thinking": s, "signature": s, "partial_json": s},
            })
        })
    }

    proptest! {
        /// Whatever order events come in: no panic, and what was told equals what is kept.
        #[test]
        fn any_order_of_events_is_an_answer_or_an_error(all in prop::collection::vec(events(), 0..25)) {
            let mut decoder = MessageDecoder::default();
            let mut answer = Assembler::new("m", 1_000);
            for value in all {
                let event = SseEvent { event: String::new(), data: value.to_string() };
                if decoder.event(&event, &mut answer).is_err() {
                    break;
                }
            }
            let (mut text, mut calls) = (String::new(), 0);
            while let Some(event) = answer.pop() {
                match event {
                    ModelEvent::Text(piece) => text.push_str(&piece),
                    ModelEvent::ToolCallEnd { .. } => calls += 1,
                    ModelEvent::Completed(completion) => {
                        prop_assert_eq!(completion.text().chars().count(), text.chars().count());
                        prop_assert_eq!(completion.tool_calls().count(), calls);
                    }
                    _ => {}
                }
            }
        }
    }
}
