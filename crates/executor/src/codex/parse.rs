//! Pieces of Codex's messages, and of ours.

use serde_json::{Value, json};

use crate::{
    event::{ApprovalRequest, Question, QuestionOption, RuntimeEvent, UNKNOWN_BYTES_MAX},
    job::{Grant, Prompt},
    text,
};

pub(super) fn input(prompt: &Prompt) -> Value {
    let mut input = Vec::new();
    if !prompt.text.is_empty() || prompt.images.is_empty() {
        input.push(json!({"type": "text", "text": prompt.text}));
    }
    for image in &prompt.images {
        let url = format!("data:{};base64,{}", image.mime, image.data);
        input.push(json!({"type": "image", "url": url}));
    }
    Value::Array(input)
}

pub(super) fn request_name(id: &Value) -> String {
    format!("codex-{}", id.as_str().map_or_else(|| id.to_string(), str::to_owned))
}

pub(super) fn approval(
    tool: &str,
    title: &str,
    input: Value,
    item: &str,
    params: &Value,
    always: Option<Grant>,
) -> ApprovalRequest {
    ApprovalRequest {
        id: String::new(),
        tool: tool.to_owned(),
        title: title.to_owned(),
        input,
        tool_call: (!item.is_empty()).then(|| item.to_owned()),
        reason: params["reason"].as_str().map(str::to_owned),
        always,
    }
}

pub(super) fn question(question: &Value) -> Question {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let options = question["options"].as_array().into_iter().flatten();
    Question {
        id: text(&question["id"]),
        header: text(&question["header"]),
        text: text(&question["question"]),
        options: options
            .map(|option| QuestionOption {
                label: text(&option["label"]),
                description: text(&option["description"]),
            })
            .collect(),
        multiple: false,
    }
}

/// Notifications that say nothing that is not told otherwise.
pub(super) fn is_noise(method: &str) -> bool {
    const BEGINNINGS: [&str; 9] = [
        "thread/",
        "account/",
        "remoteControl/",
        "skills/",
        "app/",
        "hook/",
        "mcpServer/",
        "turn/diff/",
        "turn/plan/",
    ];
    const WHOLE: [&str; 8] = [
        "warning",
        "configWarning",
        "deprecationNotice",
        "item/reasoning/summaryPartAdded",
        "item/fileChange/outputDelta",
        "item/fileChange/patchUpdated",
        "item/commandExecution/terminalInteraction",
        "item/mcpToolCall/progress",
    ];
    WHOLE.contains(&method) || BEGINNINGS.iter().any(|beginning| method.starts_with(beginning))
}

pub(super) fn unknown(kind: &str, raw: &[u8]) -> RuntimeEvent {
    let raw = String::from_utf8_lossy(&raw[..raw.len().min(UNKNOWN_BYTES_MAX)]).into_owned();
    let raw = text::head(&raw, UNKNOWN_BYTES_MAX).to_owned();
    RuntimeEvent::Unknown { kind: text::line(kind), raw }
}
