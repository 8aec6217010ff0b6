//! Items of a Codex turn: commands, file changes, MCP calls, messages.

use serde_json::{Value, json};
use troupe_types::ErrorType;

use crate::{
    error::sort_http,
    event::{
        DIFF_BYTES_MAX, Diff, DiffFile, RuntimeEvent, TOOL_INPUT_BYTES_MAX, TOOL_OUTPUT_BYTES_MAX,
        ToolCall, ToolOutcome,
    },
    text,
};

/// What an item that began means; `None`: it is no tool.
pub(super) fn started(item: &Value) -> Option<ToolCall> {
    let said = |name: &str| item[name].as_str().unwrap_or_default();
    let (tool, title, server, input) = match said("type") {
        "commandExecution" => {
            let command = command(item);
            ("command", text::line(&command), None, json!({"command": command, "cwd": item["cwd"]}))
        }
        "fileChange" => {
            let paths: Vec<&str> = paths(item).collect();
            ("apply_patch", text::line(&paths.join(", ")), None, json!({"files": paths}))
        }
        "mcpToolCall" => {
            let server = Some(said("server").to_owned());
            (said("tool"), text::line(said("tool")), server, item["arguments"].clone())
        }
        "webSearch" => {
            ("web_search", text::line(said("query")), None, json!({"query": item["query"]}))
        }
        "imageView" => {
            ("view_image", text::line(said("path")), None, json!({"path": item["path"]}))
        }
        "collabAgentToolCall" => {
            (said("tool"), text::line(said("prompt")), None, json!({"prompt": item["prompt"]}))
        }
        _ => return None,
    };
    Some(ToolCall {
        id: said("id").to_owned(),
        tool: tool.to_owned(),
        title: Some(title),
        server,
        input: text::bounded(input, TOOL_INPUT_BYTES_MAX),
        parent: None,
    })
}

/// The command as the model wrote it, without the shell around it.
pub(super) fn command(item: &Value) -> String {
    let actions = item["commandActions"].as_array();
    match actions.map(Vec::as_slice) {
        Some([action]) if action["command"].is_string() => {
            action["command"].as_str().unwrap_or_default().to_owned()
        }
        _ => item["command"].as_str().unwrap_or_default().to_owned(),
    }
}

fn paths(item: &Value) -> impl Iterator<Item = &str> {
    item["changes"].as_array().into_iter().flatten().filter_map(|change| change["path"].as_str())
}

/// How an item that was a tool ended.
pub(super) fn ended(item: &Value) -> RuntimeEvent {
    let outcome = match item["status"].as_str().unwrap_or_default() {
        "completed" if item["exitCode"].as_i64().is_some_and(|code| code != 0) => {
            ToolOutcome::Failed
        }
        "completed" | "" => ToolOutcome::Done,
        "declined" => ToolOutcome::Denied,
        "inProgress" => ToolOutcome::Aborted,
        _ => ToolOutcome::Failed,
    };
    let output = match item["type"].as_str().unwrap_or_default() {
        "commandExecution" => {
            let output = item["aggregatedOutput"].as_str().unwrap_or_default();
            match item["exitCode"].as_i64() {
                Some(code) if code != 0 => format!("{output}\n[exit code {code}]"),
                _ => output.to_owned(),
            }
        }
        "mcpToolCall" => mcp_result(item),
        _ => String::new(),
    };
    let id = item["id"].as_str().unwrap_or_default().to_owned();
    RuntimeEvent::ToolEnded { id, outcome, output: text::cut(&output, TOOL_OUTPUT_BYTES_MAX) }
}

fn mcp_result(item: &Value) -> String {
    if let Some(error) = item["error"]["message"].as_str() {
        return error.to_owned();
    }
    let content = item["result"]["content"].as_array().into_iter().flatten();
    content.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// The diff of a finished file change.
pub(super) fn diff(item: &Value) -> Option<Diff> {
    if item["type"] != "fileChange" || item["status"] != "completed" {
        return None;
    }
    let call = item["id"].as_str().unwrap_or_default();
    let mut diff =
        Diff { id: format!("diff-{call}"), tool: Some(call.to_owned()), ..Diff::default() };
    for change in item["changes"].as_array().into_iter().flatten() {
        let path = change["path"].as_str().unwrap_or_default();
        let body = change["diff"].as_str().unwrap_or_default();
        let kind = change["kind"]["type"].as_str().unwrap_or("update");
        let lines = u64::try_from(body.lines().count()).unwrap_or(u64::MAX);
        let starting = |sign: char| {
            u64::try_from(body.lines().filter(|line| line.starts_with(sign)).count())
                .unwrap_or(u64::MAX)
        };
        let signed =
            |sign: &str| body.lines().map(|line| format!("{sign}{line}\n")).collect::<String>();
        // Of added and deleted files the whole content comes, without signs.
        let (word, added, removed, text) = match kind {
            "add" => {
                let head = format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{lines} @@\n");
                ("added", lines, 0, head + &signed("+"))
            }
            "delete" => {
                let head = format!("--- a/{path}\n+++ /dev/null\n@@ -1,{lines} +0,0 @@\n");
                ("deleted", 0, lines, head + &signed("-"))
            }
            _ => {
                let head = format!("--- a/{path}\n+++ b/{path}\n");
                ("modified", starting('+'), starting('-'), format!("{head}{body}\n"))
            }
        };
        diff.files.push(DiffFile {
            path: path.to_owned(),
            change: word.to_owned(),
            added: Some(added),
            removed: Some(removed),
        });
        diff.patch.push_str(&text);
        diff.truncated |= diff.patch.len() > DIFF_BYTES_MAX;
        diff.patch = text::head(&diff.patch, DIFF_BYTES_MAX).to_owned();
    }
    Some(diff)
}

/// Sorts an error of Codex: by what it calls it, else by its words.
pub(super) fn sort(error: &Value) -> (ErrorType, String) {
    let message = error["message"].as_str().unwrap_or("Codex gives no reason").to_owned();
    let info = &error["codexErrorInfo"];
    let named = info.as_str().map(str::to_owned);
    let inner = info.as_object().and_then(|info| info.iter().next());
    let name = named.or_else(|| inner.map(|(name, _)| name.clone())).unwrap_or_default();
    let status = inner.and_then(|(_, fields)| fields["httpStatusCode"].as_u64());
    let sort = match name.as_str() {
        "contextWindowExceeded" => ErrorType::ContextLengthExceeded,
        "usageLimitExceeded" => ErrorType::QuotaExceeded,
        "serverOverloaded" => ErrorType::ModelUnavailable,
        "unauthorized" => ErrorType::PermissionDenied,
        "badRequest" => sort_http(Some(400), &message),
        "internalServerError" => ErrorType::ProviderError,
        "responseStreamDisconnected" if status.is_none() => ErrorType::NetworkError,
        _ => sort_http(status, &message),
    };
    (sort, text::cut(&message, 4_096))
}
