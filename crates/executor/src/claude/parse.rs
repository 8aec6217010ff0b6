//! Pieces of Claude Code's lines, and of its answers.

use serde_json::{Value, json};

use crate::{
    drive::Effects,
    event::{
        DIFF_BYTES_MAX, Diff, DiffFile, Question, QuestionOption, RuntimeEvent, UNKNOWN_BYTES_MAX,
    },
    job::Grant,
    text,
};

pub(super) fn unknown(kind: &str, raw: &[u8]) -> RuntimeEvent {
    let raw = String::from_utf8_lossy(&raw[..raw.len().min(UNKNOWN_BYTES_MAX)]).into_owned();
    RuntimeEvent::Unknown {
        kind: text::line(kind),
        raw: text::head(&raw, UNKNOWN_BYTES_MAX).to_owned(),
    }
}

pub(super) fn deny(message: &str) -> Value {
    json!({"behavior": "deny", "message": message})
}

pub(super) fn answer(id: &str, behavior: &Value, out: &mut Effects) {
    let response = json!({"subtype": "success", "request_id": id, "response": behavior});
    out.json(&json!({"type": "control_response", "response": response}));
}

/// What "always" would mean: the very command for a shell, else the tool.
pub(super) fn grant(tool: &str, input: &Value) -> Option<Grant> {
    match tool {
        "ExitPlanMode" | "EnterPlanMode" => None,
        "Bash" => {
            let command = input["command"].as_str()?.to_owned();
            Some(Grant { tool: tool.to_owned(), command: Some(command) })
        }
        _ => Some(Grant { tool: tool.to_owned(), command: None }),
    }
}

/// A question is named by its text: that is what an answer goes by.
pub(super) fn questions(input: &Value) -> Vec<Question> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let question = |question: &Value| {
        let options = question["options"].as_array().into_iter().flatten();
        Question {
            id: text(&question["question"]),
            header: text(&question["header"]),
            text: text(&question["question"]),
            options: options
                .map(|option| QuestionOption {
                    label: text(&option["label"]),
                    description: text(&option["description"]),
                })
                .collect(),
            multiple: question["multiSelect"] == json!(true),
        }
    };
    input["questions"].as_array().into_iter().flatten().map(question).collect()
}

/// A result's content: text, or blocks of which only the text is told.
pub(super) fn content(content: &Value) -> String {
    let block = |block: &Value| match block["type"].as_str() {
        Some("text") => block["text"].as_str().unwrap_or_default().to_owned(),
        Some(other) => format!("[{other}]"),
        None => String::new(),
    };
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().map(block).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// The change of one file, if that is what a tool says it did.
pub(super) fn diff(call: &str, result: &Value) -> Option<Diff> {
    let path = result["filePath"].as_str()?;
    let hunks = result["structuredPatch"].as_array()?;
    let created = result["type"] == "create";
    let mut patch = String::new();
    let (mut added, mut removed) = (0, 0);
    let old = if created { "/dev/null".to_owned() } else { format!("a/{path}") };
    patch.push_str(&format!("--- {old}\n+++ b/{path}\n"));
    let mut push = |line: &str| {
        added += u64::from(line.starts_with('+'));
        removed += u64::from(line.starts_with('-'));
        if patch.len() < DIFF_BYTES_MAX {
            patch.push_str(line);
            patch.push('\n');
        }
    };
    for hunk in hunks {
        let number = |name: &str| hunk[name].as_u64().unwrap_or_default();
        push(&format!(
            "@@ -{},{} +{},{} @@",
            number("oldStart"),
            number("oldLines"),
            number("newStart"),
            number("newLines")
        ));
        hunk["lines"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .for_each(&mut push);
    }
    if created {
        let lines: Vec<&str> = result["content"].as_str().unwrap_or_default().lines().collect();
        push(&format!("@@ -0,0 +1,{} @@", lines.len()));
        lines.iter().for_each(|line| push(&format!("+{line}")));
    }
    if added + removed == 0 {
        return None;
    }
    let truncated = patch.len() >= DIFF_BYTES_MAX;
    let change = if created { "added" } else { "modified" };
    let file = DiffFile {
        path: path.to_owned(),
        change: change.to_owned(),
        added: Some(added),
        removed: Some(removed),
    };
    Some(Diff {
        id: format!("diff-{call}"),
        tool: Some(call.to_owned()),
        files: vec![file],
        patch: text::head(&patch, DIFF_BYTES_MAX).to_owned(),
        truncated,
    })
}
