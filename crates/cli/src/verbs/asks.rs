//! `asks`: what waits for a person, over all Tasks.

use serde_json::Value;
use troupe_api::task::{OpenAsk, OpenAsks};
use troupe_types::{BlockKind, Place};

use crate::{
    args::Format,
    client::Client,
    error::CliError,
    output::{self, Table},
};

/// Characters of what is asked that a table shows.
const WHAT_CHARS: usize = 60;

pub(super) async fn list(client: &Client, format: Format) -> Result<(), CliError> {
    let open: OpenAsks = client.get("/api/v1/asks").await?;
    let value = serde_json::to_value(&open).unwrap_or_default();
    output::print(format, &value, || table(&open), || names(&open));
    Ok(())
}

fn table(open: &OpenAsks) -> String {
    if open.asks.is_empty() && !open.more {
        return "nothing waits for you\n".to_owned();
    }
    let mut table = Table::new(&["task", "block", "asks", "what", "from", "expires"]);
    for ask in &open.asks {
        let (kind, what) = words(ask);
        table.row(vec![
            ask.task_id.to_string(),
            ask.block.id.clone(),
            kind,
            what,
            from(ask),
            text(ask, "expires_at").unwrap_or("never").to_owned(),
        ]);
    }
    let mut text = table.render();
    if open.more {
        text.push_str("there is more than is shown here\n");
    }
    text
}

/// A line each, as `approve`, `deny` and `answer` take it.
fn names(open: &OpenAsks) -> Vec<String> {
    open.asks.iter().map(|ask| format!("{} {}", ask.task_id, ask.block.id)).collect()
}

fn field<'a>(ask: &'a OpenAsk, name: &str) -> Option<&'a Value> {
    let BlockKind::Other(fields) = &ask.block.kind else { return None };
    fields.get(name)
}

fn text<'a>(ask: &'a OpenAsk, name: &str) -> Option<&'a str> {
    field(ask, name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What kind it is, and the beginning of what is asked.
fn words(ask: &OpenAsk) -> (String, String) {
    let kind = text(ask, "type").unwrap_or("?").to_owned();
    let question = field(ask, "questions").and_then(|all| all[0]["text"].as_str());
    let what = match question {
        Some(question) => question.to_owned(),
        None => {
            let tool = text(ask, "tool_name").unwrap_or_default();
            let title = text(ask, "title").unwrap_or_default();
            format!("{tool} {title}").trim().to_owned()
        }
    };
    let short = match what.char_indices().nth(WHAT_CHARS) {
        Some((at, _)) => format!("{}..", &what[..at]),
        None => what,
    };
    (kind, short)
}

fn from(ask: &OpenAsk) -> String {
    match &ask.place {
        Place::Device { name, .. } => format!("{} on {name}", ask.bot_name),
        _ => ask.bot_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_types::{MessageId, TaskId};

    use super::*;

    fn ask(block: &Value) -> OpenAsk {
        serde_json::from_value(json!({
            "task_id": TaskId::derived(&["t"]), "title": "t", "team_name": "devs",
            "team_namespace": "default", "subtask_id": MessageId::derived(&["m"]), "attempt": 1,
            "bot_name": "dev", "where": {"kind": "device", "id": "dev_1", "name": "laptop"},
            "block": block,
        }))
        .unwrap()
    }

    #[test]
    fn a_row_says_what_is_asked_and_until_when() {
        let approval = json!({"id": "2.1.1", "type": "approval", "status": "pending",
            "timestamp": 0, "tool_name": "Bash", "title": "x".repeat(100),
            "expires_at": "2026-12-01T00:00:00.000Z"});
        let question = json!({"id": "2.1.2", "type": "question", "status": "pending",
            "timestamp": 0, "questions": [{"id": "q", "text": "Which colour?"}]});
        let open = OpenAsks { asks: vec![ask(&approval), ask(&question)], more: true };
        let table = table(&open);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("Bash xxx") && lines[1].contains("2026-12-01T00:00:00.000Z"));
        assert!(lines[2].contains("Which colour?") && lines[2].ends_with("never"), "{table}");
        assert!(lines[2].contains("dev on laptop"));
        assert_eq!(lines.len(), 4, "and that there is more");
        assert_eq!(names(&open)[1], format!("{} 2.1.2", TaskId::derived(&["t"])));
    }
}
