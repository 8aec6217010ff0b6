//! `admin ..`

mod backup;
mod doctor;
mod letters;
mod moves;
mod nodes;
mod shards;
mod tree;

use std::time::Duration;

use serde_json::{Value, json};
use troupe_api::{
    Problem,
    admin::{AdminWhy, AuditEntry, ContainersView, QueuesView, RebalanceSetting},
    task::Page,
};

use super::tasks::{print_why, resolve};
use crate::{
    args::{AdminVerb, Format, NodeArgs, RebalanceArg},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

pub(super) async fn run(client: &Client, format: Format, verb: AdminVerb) -> Result<(), CliError> {
    match verb {
        AdminVerb::Nodes(args) => nodes::list(client, format, args).await,
        AdminVerb::Shards(args) => shards::list(client, format, args).await,
        AdminVerb::Actors(args) => tree::run(client, format, args).await,
        AdminVerb::Queues(args) => queues(client, format, args).await,
        AdminVerb::Containers => containers(client, format).await,
        AdminVerb::DeadLetters { verb } => letters::run(client, format, verb).await,
        AdminVerb::Doctor { strict } => doctor::run(client, format, strict).await,
        AdminVerb::Why { task } => why(client, format, &task).await,
        AdminVerb::Drain { node, no_wait, timeout } => {
            nodes::drain(client, format, &node, no_wait, timeout).await
        }
        AdminVerb::Move { shard, node, wait, timeout } => {
            let wait = wait.then(|| Duration::from_secs(timeout));
            moves::run(client, format, shard, &node, wait).await
        }
        AdminVerb::Rebalance { action } => rebalance(client, format, action).await,
        AdminVerb::Backup(args) => backup::run(client, format, args).await,
        AdminVerb::Audit { limit } => audit(client, format, limit).await,
    }
}

/// An answer of the node in its own form, for `-o json` and `-o yaml`.
fn value_of(answer: &impl serde::Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

/// A path with the node in its query.
fn at_node(path: &str, node: Option<&str>) -> String {
    match node {
        Some(node) => format!("/api/v1/admin/{path}?node={}", segment(node)),
        None => format!("/api/v1/admin/{path}"),
    }
}

/// `3 s`, `5 min`, `2 h 10 min`, `4 d`.
fn long(seconds: u64) -> String {
    match seconds {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..172_800 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s => format!("{} d", s / 86_400),
    }
}

/// Who paused rebalancing, and what to do; empty if nobody did.
fn paused(setting: Option<&RebalanceSetting>) -> String {
    let Some(RebalanceSetting { user_name, at, .. }) = setting.filter(|set| set.paused) else {
        return String::new();
    };
    format!("rebalancing was paused by {user_name} at {at}: troupe admin rebalance resume\n")
}

fn begun(format: Format, answer: &Value) {
    let detail = answer["detail"].as_str().unwrap_or_default();
    output::print(format, answer, || format!("{detail}\n"), Vec::new);
}

async fn rebalance(client: &Client, format: Format, action: RebalanceArg) -> Result<(), CliError> {
    let body = json!({ "action": action.word() });
    begun(format, &client.post::<Value>("/api/v1/admin/rebalance", &body).await?);
    Ok(())
}

async fn containers(client: &Client, format: Format) -> Result<(), CliError> {
    let answer: ContainersView = client.get("/api/v1/admin/containers").await?;
    let table = || {
        let mut pools = Table::new(&["node", "containers", "state"]);
        for pool in &answer.pools {
            let state = if pool.live { "live" } else { "silent" };
            let used = format!("{} of {}", pool.used, pool.max);
            pools.row(vec![pool.node.clone(), used, state.to_owned()]);
        }
        if answer.pools.is_empty() {
            return "no node runs containers: set containers.engine on one\n".to_owned();
        }
        let mut text = pools.render();
        if !answer.items.is_empty() {
            let mut items = Table::new(&["task", "state", "container", "node", "since", "error"]);
            for item in &answer.items {
                items.row(vec![
                    item.task_id.to_string(),
                    item.state.clone(),
                    item.name.clone().unwrap_or_default(),
                    item.node.clone().unwrap_or_default(),
                    item.since.to_string(),
                    item.error.clone().unwrap_or_default(),
                ]);
            }
            text += &format!("\n{}", items.render());
        }
        text
    };
    let names = || answer.items.iter().map(|item| item.task_id.to_string()).collect();
    output::print(format, &value_of(&answer), table, names);
    Ok(())
}

async fn queues(client: &Client, format: Format, args: NodeArgs) -> Result<(), CliError> {
    let answer: QueuesView = client.get(&at_node("queues", args.node.as_deref())).await?;
    let table = || {
        let mut kinds = Table::new(&[
            "kind",
            "live",
            "starting",
            "resting",
            "queued",
            "unanswered",
            "refused",
            "restarts",
        ]);
        for kind in &answer.kinds {
            let numbers = [
                kind.live,
                kind.starting,
                kind.resting,
                kind.queued,
                kind.unanswered,
                kind.overloaded,
                kind.restarts,
            ];
            let mut row = vec![kind.kind.clone()];
            row.extend(numbers.map(|n| n.to_string()));
            kinds.row(row);
        }
        let mut text = kinds.render();
        let busy: Vec<_> =
            answer.deepest.iter().filter(|e| e.unanswered > 0 || e.restarts > 0).collect();
        if !busy.is_empty() {
            let mut deepest =
                Table::new(&["entity", "shard", "state", "unanswered", "restarts", "last error"]);
            for entity in busy {
                deepest.row(vec![
                    entity.entity.clone(),
                    entity.shard.to_string(),
                    entity.state.clone(),
                    format!("{} of {}", entity.unanswered, answer.limit),
                    entity.restarts.to_string(),
                    entity.last_error.clone().unwrap_or_default(),
                ]);
            }
            text.push('\n');
            text.push_str(&deepest.render());
        }
        text
    };
    let names = || answer.deepest.iter().map(|entity| entity.entity.clone()).collect();
    output::print(format, &value_of(&answer), table, names);
    Ok(())
}

async fn why(client: &Client, format: Format, task: &str) -> Result<(), CliError> {
    // A beginning of an id is looked for among one's own; a whole one may be anybody's.
    let task = resolve(client, task).await?;
    let answer: AdminWhy = client.get(&format!("/api/v1/admin/tasks/{task}/why")).await?;
    let words = || {
        let steps = &answer.next_steps;
        format!(
            "{}\n{}",
            answer.title,
            print_why(answer.status, &answer.summary, &answer.details, steps)
        )
    };
    output::print(format, &value_of(&answer), words, || vec![task.to_string()]);
    Ok(())
}

async fn audit(client: &Client, format: Format, limit: u32) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/audit?limit={}", limit.clamp(1, 200));
    let page: Page<AuditEntry> = client.get(&path).await?;
    let table = || {
        let mut table = Table::new(&["at", "who", "action", "target", "outcome", "detail"]);
        for entry in &page.items {
            table.row(vec![
                entry.at.to_string(),
                entry.user_name.clone(),
                entry.action.clone(),
                entry.target.clone(),
                entry.outcome.clone(),
                entry.detail.clone(),
            ]);
        }
        table.render()
    };
    let names = || page.items.iter().map(|entry| entry.action.clone()).collect();
    output::print(format, &value_of(&page), table, names);
    Ok(())
}

/// A problem of this side that reads like one of the node.
fn failed(code: &str, detail: impl Into<String>) -> CliError {
    CliError::Problem(Box::new(Problem::new(400, code, detail)))
}
