//! `run`, `ls`, `attach`, `send`, `confirm`, `cancel`, `retry`, `why`.
#![expect(clippy::print_stdout, reason = "a client prints")]

use serde_json::{Value, json};
use troupe_api::{
    chat::ChatSendAck,
    task::{Page, TaskLite, WhyAnswer},
};
use troupe_types::{FrameSeq, Status, TaskId};

use super::{beginning, fresh_key, only_one, stdin_text};
use crate::{
    args::{AttachArgs, ConfirmArgs, Format, LsArgs, RetryArgs, RunArgs, SendArgs},
    client::{Client, segment},
    error::CliError,
    follow::{FollowOptions, Until, follow, verdict},
    output::{self, Table},
};

/// Tasks that are looked through for a beginning of an id.
const PREFIX_PAGES_MAX: usize = 50;

pub(super) async fn run(client: &Client, format: Format, args: RunArgs) -> Result<(), CliError> {
    let mut body = json!({
        "team_id": args.team,
        "message": text(args.prompt)?,
        "client_message_id": fresh_key(),
    });
    if let Some(model) = args.model {
        body["force_override_bot_model"] = model.into();
    }
    if args.think {
        body["enable_deep_thinking"] = true.into();
    }
    if let Some(on) = args.on {
        body["device_id"] = on.into();
    }
    if let Some(repo) = args.repo {
        body["git_url"] = repo.into();
    }
    if let Some(branch) = args.branch {
        body["branch_name"] = branch.into();
    }
    if args.keep {
        body["preserve_executor"] = true.into();
    }
    if args.worktree {
        body["worktree"] = true.into();
    }
    if let Some(title) = args.title {
        body["title"] = title.into();
    }
    let ack: ChatSendAck = client.post("/api/v1/tasks", &body).await?;
    let task = ack.task_id;
    if args.detach || format == Format::Name {
        print_ack(format, &ack);
    }
    if args.detach {
        return Ok(());
    }
    let mut after = FrameSeq::ZERO;
    loop {
        let status = watch(client, task, after, format).await?;
        if status != Status::PendingConfirmation || !args.yes {
            return verdict(task, status);
        }
        after = head(client, task).await?;
        confirm_gate(client, task, None).await?;
    }
}

async fn watch(
    client: &Client,
    task: TaskId,
    after: FrameSeq,
    format: Format,
) -> Result<Status, CliError> {
    let until = Until::TurnEnds;
    let options = FollowOptions { after, past: FrameSeq::ZERO, until, format };
    follow(client, task, options).await
}

async fn head(client: &Client, task: TaskId) -> Result<FrameSeq, CliError> {
    let view: Value = client.get(&format!("/api/v1/tasks/{task}")).await?;
    Ok(FrameSeq(view["head"].as_u64().unwrap_or(0)))
}

fn text(given: String) -> Result<String, CliError> {
    if given == "-" { stdin_text(1024 * 1024) } else { Ok(given) }
}

pub(super) fn print_ack(format: Format, ack: &ChatSendAck) {
    let value = serde_json::to_value(ack).unwrap_or_default();
    let line = || {
        let queued = if ack.queued { " (queued behind the running turn)" } else { "" };
        format!("{}{queued}\n", ack.task_id)
    };
    output::print(format, &value, line, || vec![ack.task_id.to_string()]);
}

pub(super) async fn list(client: &Client, format: Format, args: LsArgs) -> Result<(), CliError> {
    let mut path = format!("/api/v1/tasks?limit={}", args.limit.clamp(1, 100));
    if !args.status.is_empty() {
        let words: Vec<String> = args.status.iter().map(|s| s.to_ascii_uppercase()).collect();
        path.push_str(&format!("&status={}", words.join(",")));
    }
    if let Some(text) = &args.text {
        path.push_str(&format!("&text={}", segment(text)));
    }
    if args.asks {
        path.push_str("&asks=true");
    }
    let page: Page<TaskLite> = client.get(&path).await?;
    let value = serde_json::to_value(&page).unwrap_or_default();
    let table = || {
        let mut table = Table::new(&["id", "status", "team", "updated", "title"]);
        for task in &page.items {
            table.row(vec![
                task.id.to_string(),
                if task.asks > 0 { "asks".to_owned() } else { word(task.status) },
                task.team_name.clone(),
                task.updated_at.to_string(),
                task.title.clone(),
            ]);
        }
        table.render()
    };
    output::print(format, &value, table, || page.items.iter().map(|t| t.id.to_string()).collect());
    Ok(())
}

fn word(status: Status) -> String {
    let value = serde_json::to_value(status).unwrap_or_default();
    value.as_str().unwrap_or_default().to_lowercase()
}

pub(super) async fn attach(
    client: &Client,
    format: Format,
    args: AttachArgs,
) -> Result<(), CliError> {
    let task = resolve(client, &args.task).await?;
    let path = format!("/api/v1/tasks/{task}/join?turns=0");
    let joined: Value = client.get(&path).await?;
    let outline = joined["outline"].as_array().cloned().unwrap_or_default();
    let turns = usize::try_from(args.turns).unwrap_or(usize::MAX);
    let first = outline.get(outline.len().saturating_sub(turns));
    let head = joined["head"].as_u64().unwrap_or(0);
    let after = match first.filter(|_| turns > 0) {
        Some(turn) => turn["first_seq"].as_u64().unwrap_or(1).saturating_sub(1),
        None => head,
    };
    let (after, past) = (FrameSeq(after), FrameSeq(head));
    let until = if args.follow { Until::Forever } else { Until::TurnEnds };
    let options = FollowOptions { after, past, until, format };
    verdict(task, follow(client, task, options).await?)
}

pub(super) async fn send(client: &Client, format: Format, args: SendArgs) -> Result<(), CliError> {
    let task = resolve(client, &args.task).await?;
    let after = head(client, task).await?;
    let mut body = json!({"message": text(args.message)?, "client_message_id": fresh_key()});
    if let Some(model) = args.model {
        body["force_override_bot_model"] = model.into();
    }
    if args.think {
        body["enable_deep_thinking"] = true.into();
    }
    let path = format!("/api/v1/tasks/{task}/messages");
    let ack: ChatSendAck = client.post(&path, &body).await?;
    if args.detach {
        print_ack(format, &ack);
        return Ok(());
    }
    verdict(task, watch(client, task, after, format).await?)
}

async fn confirm_gate(
    client: &Client,
    task: TaskId,
    message: Option<String>,
) -> Result<ChatSendAck, CliError> {
    let mut body = json!({"client_message_id": fresh_key()});
    if let Some(message) = message {
        body["message"] = message.into();
    }
    client.post(&format!("/api/v1/tasks/{task}/confirm"), &body).await
}

pub(super) async fn confirm(
    client: &Client,
    format: Format,
    args: ConfirmArgs,
) -> Result<(), CliError> {
    let task = resolve(client, &args.task).await?;
    let after = head(client, task).await?;
    let ack = confirm_gate(client, task, args.message).await?;
    if args.detach {
        print_ack(format, &ack);
        return Ok(());
    }
    verdict(task, watch(client, task, after, format).await?)
}

pub(super) async fn cancel(client: &Client, task: &str) -> Result<(), CliError> {
    let task = resolve(client, task).await?;
    client.post::<Value>(&format!("/api/v1/tasks/{task}/cancel"), &json!({})).await?;
    println!("{task} cancelled");
    Ok(())
}

pub(super) async fn retry(
    client: &Client,
    format: Format,
    args: RetryArgs,
) -> Result<(), CliError> {
    let task = resolve(client, &args.task).await?;
    let joined: Value = client.get(&format!("/api/v1/tasks/{task}/join?turns=1")).await?;
    let after = FrameSeq(joined["head"].as_u64().unwrap_or(0));
    let rows = joined["turns"].as_array().and_then(|t| t.last()).map(|t| t["messages"].clone());
    let failed = rows.as_ref().and_then(Value::as_array).and_then(|rows| {
        rows.iter().rev().find(|m| m["status"] == "FAILED" || m["status"] == "CANCELLED")
    });
    let Some(failed) = failed else {
        return Err(CliError::Usage(format!("nothing of the last turn of {task} has failed")));
    };
    let mut body = json!({"subtask_id": failed["subtask_id"]});
    if let Some(model) = args.model {
        body["force_override_bot_model"] = model.into();
    }
    client.post::<Value>(&format!("/api/v1/tasks/{task}/retry"), &body).await?;
    if args.detach {
        println!("{task}");
        return Ok(());
    }
    verdict(task, watch(client, task, after, format).await?)
}

pub(super) async fn why(client: &Client, format: Format, task: &str) -> Result<(), CliError> {
    let task = resolve(client, task).await?;
    let answer: WhyAnswer = client.get(&format!("/api/v1/tasks/{task}/why")).await?;
    let value = serde_json::to_value(&answer).unwrap_or_default();
    let WhyAnswer { status, summary, details, next_steps, .. } = &answer;
    let words = || print_why(*status, summary, details, next_steps);
    output::print(format, &value, words, || vec![task.to_string()]);
    Ok(())
}

/// Why a Task waits or what it does, for people.
pub(super) fn print_why(
    status: Status,
    summary: &str,
    details: &[String],
    next_steps: &[String],
) -> String {
    let mut text = format!("{}: {summary}\n", word(status));
    for line in details {
        text.push_str(&format!("  {line}\n"));
    }
    for line in next_steps {
        text.push_str(&format!("  you can: {line}\n"));
    }
    text
}

/// A whole id, or a unique beginning of one (with or without `tsk_`).
pub(super) async fn resolve(client: &Client, given: &str) -> Result<TaskId, CliError> {
    if let Ok(task) = given.parse() {
        return Ok(task);
    }
    let wanted = beginning(given, TaskId::PREFIX)?;
    let mut found: Vec<(TaskId, String)> = Vec::new();
    let mut cursor = None::<String>;
    for _ in 0..PREFIX_PAGES_MAX {
        let next = cursor.as_ref().map(|c| format!("&cursor={}", segment(c)));
        let path = format!("/api/v1/tasks?limit=100{}", next.unwrap_or_default());
        let page: Page<TaskLite> = client.get(&path).await?;
        let begins = |t: &TaskLite| {
            t.id.to_string().strip_prefix("tsk_").is_some_and(|id| id.starts_with(&wanted))
        };
        found.extend(page.items.into_iter().filter(begins).map(|t| (t.id, t.title)));
        cursor = page.next;
        if cursor.is_none() || found.len() > 5 {
            break;
        }
    }
    only_one(given, "task", "troupe ls", &found)
}
