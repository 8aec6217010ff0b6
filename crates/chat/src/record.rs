//! Step records in the form of the `llm` crate: what is journaled, and how it is read again.

use serde_json::{Value, json};
use troupe_domain::task::{StepRecord, execution::OpenCall};
use troupe_llm::{Completion, Message, Part, StopReason};

use crate::{caps, prompt::Summary};

/// Largest record, in bytes of JSON: it shares an entry of 256 KiB with other things.
pub(crate) const RECORD_BYTES_MAX: usize = 192 * 1024;
/// The field that a record of a summary has instead of a message.
const SUMMARY: &str = "summary";
/// What the model is told of a call whose result was lost.
pub(crate) const UNKNOWN: &str = "outcome unknown: it may have run";

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A model call ended.
    Model { message: Message, stop: StopReason },
    /// A tool call has its result; the part is a `ToolResult`.
    Tool { id: String, result: Part },
    /// The oldest part of the conversation was summed up; nothing was said or done.
    Summary(Summary),
}

/// The record of a finished model call.
pub(crate) fn of_model(completion: &Completion) -> StepRecord {
    let open = |(id, _, _): (&str, &str, &Value)| OpenCall {
        tool_use_id: id.to_owned(),
        block_id: id.to_owned(),
    };
    let calls = completion.tool_calls().map(open).collect();
    StepRecord::Model { message: json!(completion), calls }
}

/// The record of a summary. A version that knows of none finds no message in it, and passes it
/// over.
pub(crate) fn of_summary(summary: &Summary) -> StepRecord {
    StepRecord::Model { message: json!({ SUMMARY: summary }), calls: Vec::new() }
}

/// The record of a result.
pub(crate) fn of_tool(id: &str, result: &Part) -> StepRecord {
    let unknown = matches!(result, Part::ToolResult { unknown: true, .. });
    StepRecord::Tool { tool_use_id: id.to_owned(), result: json!(result), unknown }
}

/// The result of a call that may have run.
pub(crate) fn unknown_result(id: &str) -> Part {
    let content = UNKNOWN.to_owned();
    Part::ToolResult { id: id.to_owned(), content, is_error: true, unknown: true }
}

/// Reads a record; `None`: it holds nothing that this version understands.
pub(crate) fn decode(record: &StepRecord) -> Option<Step> {
    match record {
        StepRecord::Model { message, .. } => {
            if let Some(summary) = message.get(SUMMARY) {
                return serde_json::from_value(summary.clone()).ok().map(Step::Summary);
            }
            if let Ok(done) = serde_json::from_value::<Completion>(message.clone()) {
                return Some(Step::Model { message: done.message, stop: done.stop });
            }
            let message: Message = serde_json::from_value(message.clone()).ok()?;
            let calls = message.parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
            let stop = if calls { StopReason::ToolUse } else { StopReason::EndTurn };
            Some(Step::Model { message, stop })
        }
        StepRecord::Tool { tool_use_id, result, unknown } => {
            let result = match serde_json::from_value::<Part>(result.clone()) {
                Ok(Part::ToolResult { content, is_error, unknown: lost, .. }) => {
                    let (id, unknown) = (tool_use_id.clone(), *unknown || lost);
                    Part::ToolResult { id, content, is_error, unknown }
                }
                // Closed by somebody who does not know the form of results.
                Ok(_) | Err(_) if *unknown => unknown_result(tool_use_id),
                Ok(_) | Err(_) => {
                    let content = match result {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    let id = tool_use_id.clone();
                    Part::ToolResult { id, content, is_error: false, unknown: false }
                }
            };
            Some(Step::Tool { id: tool_use_id.clone(), result })
        }
    }
}

/// Steps of an earlier message as the model sees them again: without its thinking, which only
/// belongs to a tool loop under way, and with every call answered.
pub(crate) fn past_messages(steps: &[StepRecord]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut open: Vec<(String, Option<Part>)> = Vec::new();
    for step in steps.iter().filter_map(decode) {
        match step {
            Step::Model { mut message, .. } => {
                close(&mut messages, &mut open);
                message.parts.retain(|part| {
                    !matches!(part, Part::Thinking { .. } | Part::RedactedThinking { .. })
                });
                open = message.parts.iter().filter_map(call_id).map(|id| (id, None)).collect();
                if !message.parts.is_empty() {
                    messages.push(message);
                }
            }
            Step::Tool { id, result } => {
                if let Some(slot) = open.iter_mut().find(|(call, _)| *call == id) {
                    slot.1 = Some(result);
                }
            }
            Step::Summary(_) => {}
        }
    }
    close(&mut messages, &mut open);
    messages
}

fn call_id(part: &Part) -> Option<String> {
    match part {
        Part::ToolCall { id, .. } => Some(id.clone()),
        _ => None,
    }
}

fn close(messages: &mut Vec<Message>, open: &mut Vec<(String, Option<Part>)>) {
    if !open.is_empty() {
        let results = open.drain(..);
        let parts = results.map(|(id, part)| part.unwrap_or_else(|| unknown_result(&id)));
        messages.push(Message::results(parts.collect()));
    }
}

/// Makes an answer fit into a record: first the thinking of a final answer goes, then the
/// middle of its texts (people have them, whole, in the transcript).
///
/// # Errors
/// Bytes that the record would have: the arguments of its calls are too large.
pub(crate) fn fit(completion: &mut Completion) -> Result<(), usize> {
    let size = |completion: &Completion| json!(completion).to_string().len();
    if size(completion) <= RECORD_BYTES_MAX {
        return Ok(());
    }
    let parts = &mut completion.message.parts;
    if !parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) {
        parts.retain(|p| !matches!(p, Part::Thinking { .. } | Part::RedactedThinking { .. }));
    }
    let texts = parts.iter().filter(|part| matches!(part, Part::Text { .. })).count().max(1);
    for share in [2, 4, 16] {
        if size(completion) <= RECORD_BYTES_MAX {
            break;
        }
        for part in &mut completion.message.parts {
            if let Part::Text { text } = part {
                *text = caps::cap_bytes(text, RECORD_BYTES_MAX / share / texts);
            }
        }
    }
    match size(completion) {
        fits if fits <= RECORD_BYTES_MAX => Ok(()),
        bytes => Err(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_llm::Usage;

    fn completion(parts: Vec<Part>) -> Completion {
        let message = Message { role: troupe_llm::Role::Assistant, parts };
        let (usage, stop) = (Usage::default(), StopReason::EndTurn);
        Completion { message, usage, stop, model: "m".into(), response_id: None }
    }

    fn call(id: &str, args: Value) -> Part {
        Part::ToolCall { id: id.into(), name: "t".into(), args }
    }

    #[test]
    fn results_of_others_are_read() {
        let lost = StepRecord::Tool { tool_use_id: "a".into(), result: Value::Null, unknown: true };
        let step = decode(&lost);
        assert_eq!(step, Some(Step::Tool { id: "a".into(), result: unknown_result("a") }));
        let plain =
            StepRecord::Tool { tool_use_id: "a".into(), result: json!("x"), unknown: false };
        let Some(Step::Tool { result: Part::ToolResult { content, .. }, .. }) = decode(&plain)
        else {
            panic!()
        };
        assert_eq!(content, "x");
        let garbage = StepRecord::Model { message: json!(7), calls: Vec::new() };
        assert_eq!(decode(&garbage), None);
    }

    #[test]
    fn the_form_on_disk_stays() {
        let model = json!({"step": "model", "calls": [{"tool_use_id": "a", "block_id": "a"}],
            "message": {
                "message": {"role": "assistant", "parts": [
                    {"type": "thinking", "text": "hm", "signature": "s"},
                    {"type": "text", "text": "x"},
                    {"type": "tool_call", "id": "a", "name": "t", "args": {"n": 1}}]},
                "usage": {"input": 1, "output": 2, "cached_read": 0, "cache_write": 0, "reasoning": 0},
                "stop": "tool_use", "model": "m"}});
        let tool = json!({"step": "tool", "tool_use_id": "a", "unknown": false, "result":
            {"type": "tool_result", "id": "a", "content": "r", "is_error": false, "unknown": false}});
        let thinking = Part::Thinking { text: "hm".into(), signature: Some("s".into()) };
        let text = Part::Text { text: "x".into() };
        let said = completion(vec![thinking, text, call("a", json!({"n": 1}))]);
        let usage = Usage { input: 1, output: 2, ..Usage::default() };
        let said = Completion { usage, stop: StopReason::ToolUse, ..said };
        assert_eq!(json!(of_model(&said)), model);
        let (id, content) = ("a".to_owned(), "r".to_owned());
        let result = Part::ToolResult { id, content, is_error: false, unknown: false };
        assert_eq!(json!(of_tool("a", &result)), tool);
        let read: StepRecord = serde_json::from_value(model).unwrap();
        let (message, stop) = (said.message, StopReason::ToolUse);
        assert_eq!(decode(&read), Some(Step::Model { message, stop }));
    }

    #[test]
    fn a_summary_is_no_message_to_who_knows_of_none() {
        let text = "They agreed.".to_owned();
        let summary = Summary { first: 2, messages: 18, of: "ab".into(), text };
        let record = of_summary(&summary);
        let on_disk = json!({"step": "model", "calls": [], "message": {"summary":
            {"first": 2, "messages": 18, "of": "ab", "text": "They agreed."}}});
        assert_eq!(json!(record), on_disk);
        let StepRecord::Model { message, .. } = &record else { panic!() };
        // All that a version without summaries tries.
        assert!(serde_json::from_value::<Completion>(message.clone()).is_err());
        assert!(serde_json::from_value::<Message>(message.clone()).is_err());
        assert_eq!(decode(&record), Some(Step::Summary(summary)));
        assert_eq!(past_messages(&[record]), []);
        let unknown = json!({"summary": {"another": "form"}});
        assert_eq!(decode(&StepRecord::Model { message: unknown, calls: Vec::new() }), None);
    }

    #[test]
    fn the_past_is_whole_and_without_thinking() {
        let thinking = Part::Thinking { text: "hm".into(), signature: Some("s".into()) };
        let said = completion(vec![thinking, call("a", json!({})), call("b", json!({}))]);
        let result = unknown_result("b");
        let messages =
            past_messages(&[of_model(&said), of_tool("b", &result), of_tool("x", &result)]);
        let results = Message::results(vec![unknown_result("a"), result]);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].parts, said.message.parts[1..]);
        assert_eq!(messages[1], results);
    }

    #[test]
    fn records_are_bounded() {
        let long = "\"\n".repeat(RECORD_BYTES_MAX);
        let thinking = Part::Thinking { text: long.clone(), signature: Some("s".into()) };
        let mut answer = completion(vec![thinking, Part::Text { text: long.clone() }]);
        fit(&mut answer).unwrap();
        assert!(json!(answer).to_string().len() <= RECORD_BYTES_MAX);
        let mut asks = completion(vec![call("a", json!({"text": long}))]);
        assert!(fit(&mut asks).unwrap_err() > RECORD_BYTES_MAX);
    }
}
