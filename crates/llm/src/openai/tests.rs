use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    message::{Completion, Part},
    provider::ModelEvent,
};

fn read(chunks: &[Value], done: bool) -> Result<Completion, ModelError> {
    let mut decoder = ChunkDecoder::default();
    let mut answer = Assembler::new("m", 10_000);
    for chunk in chunks {
        let event = SseEvent { event: String::new(), data: chunk.to_string() };
        decoder.event(&event, &mut answer)?;
    }
    if done {
        decoder.event(&SseEvent { event: String::new(), data: "[DONE]".into() }, &mut answer)?;
    } else {
        decoder.end(&mut answer)?;
    }
    while let Some(event) = answer.pop() {
        if let ModelEvent::Completed(completion) = event {
            return Ok(*completion);
        }
    }
    Err(ModelError::Cut)
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

#[test]
fn urls_take_what_people_write() {
    for (base, url) in [
        (None, "https://api.openai.com/v1/chat/completions"),
        (Some("http://127.0.0.1:8000"), "http://127.0.0.1:8000/v1/chat/completions"),
        (Some("http://127.0.0.1:8000/"), "http://127.0.0.1:8000/v1/chat/completions"),
        (Some("https://x.example/v1/"), "https://x.example/v1/chat/completions"),
        (Some("https://x.example/api/paas/v4"), "https://x.example/api/paas/v4/chat/completions"),
    ] {
        let config = ModelConfig {
            base_url: base.map(str::to_owned),
            ..ModelConfig::new(ProviderKind::OpenAi, "m")
        };
        assert_eq!(OpenAi::url(&config), url);
    }
}

#[test]
fn compatible_servers_may_differ() {
    // No index and no [DONE]; two calls; `stop` although tools were called.
    let call = |id: &str, name: &str, args: &str| {
        delta(json!({"tool_calls": [{"id": id, "function": {"name": name, "arguments": args}}]}))
    };
    let read_it = read(
        &[
            call("a", "clock", "{\"z\":"),
            call("", "", "1}"),
            call("b", "add", "{}"),
            finish("stop"),
        ],
        false,
    )
    .unwrap();
    assert_eq!(read_it.stop, StopReason::ToolUse);
    let calls: Vec<_> = read_it.tool_calls().collect();
    assert_eq!(calls, [("a", "clock", &json!({"z": 1})), ("b", "add", &json!({}))]);

    // Interleaved by index; an id that comes twice; arguments as an object.
    let call = |index: u64, id: &str, name: &str, args: Value| {
        delta(json!({"tool_calls": [
            {"index": index, "id": id, "function": {"name": name, "arguments": args}}
        ]}))
    };
    let read_it = read(
        &[
            call(0, "x", "clock", json!("")),
            call(1, "x", "add", json!({"a": 1})),
            call(0, "", "", json!("{\"q\":2}")),
            finish("tool_calls"),
        ],
        true,
    )
    .unwrap();
    let calls: Vec<_> = read_it.tool_calls().collect();
    assert_eq!(calls, [("x", "clock", &json!({"q": 2})), ("x_1", "add", &json!({"a": 1}))]);

    // Thinking under both names, around text; text in parts.
    let read_it = read(
        &[
            delta(json!({"reasoning_content": "a"})),
            delta(json!({"reasoning": "b"})),
            delta(json!({"content": [{"type": "text", "text": "c"}]})),
            delta(json!({"content": "d", "reasoning_content": ""})),
            delta(json!({"reasoning": "e"})),
            finish("length"),
            json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 2}}}),
        ],
        true,
    )
    .unwrap();
    let thinking = |text: &str| Part::Thinking { text: text.into(), signature: None };
    assert_eq!(
        read_it.message.parts,
        [thinking("ab"), Part::Text { text: "cd".into() }, thinking("e")]
    );
    assert_eq!(read_it.stop, StopReason::MaxTokens);
    let usage = Usage { input: 9, output: 4, cached_read: 3, cache_write: 0, reasoning: 2 };
    assert_eq!(read_it.usage, usage);
}

#[test]
fn an_end_without_a_reason_is_a_cut() {
    assert!(matches!(read(&[delta(json!({"content": "a"}))], false), Err(ModelError::Cut)));
    let nameless = delta(json!({"tool_calls": [{"index": 0, "id": "a"}]}));
    assert!(matches!(read(&[nameless, finish("stop")], true), Err(ModelError::Protocol { .. })));
}

fn chunks() -> impl Strategy<Value = Value> {
    let text = "[a{}\"你]{0,3}";
    (0_u64..3, text, text, text, any::<bool>(), any::<bool>()).prop_map(
        |(index, id, name, args, with_index, tool)| {
            let mut call = json!({"id": id, "function": {"name": name, "arguments": args}});
            if with_index {
                call["index"] = json!(index);
            }
            if tool {
                delta(json!({"tool_calls": [call, null, 5]}))
            } else {
                delta(json!({"content": id, "reasoning": name, "tool_calls": args}))
            }
        },
    )
}

proptest! {
    #[test]
    fn any_chunks_are_an_answer_or_an_error(all in prop::collection::vec(chunks(), 0..20)) {
        let _ = read(&all, true);
    }
}
