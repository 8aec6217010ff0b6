//! `admin nodes`, `admin drain`
#![expect(clippy::print_stdout, reason = "a client prints")]

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_api::admin::{NodeList, NodeView};

use super::{begun, failed, long, paused, value_of};
use crate::{
    args::{Format, WatchArgs},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

const NODES: &str = "/api/v1/admin/nodes";
/// Between two looks at a node that drains.
const DRAIN_LOOK: Duration = Duration::from_millis(500);

pub(super) async fn list(client: &Client, format: Format, args: WatchArgs) -> Result<(), CliError> {
    watched(args, async || {
        let list: NodeList = client.get(NODES).await?;
        Ok(text(format, &list))
    })
    .await
}

fn text(format: Format, list: &NodeList) -> String {
    let names = || list.items.iter().map(|node| node.name.clone()).collect();
    output::text(format, &value_of(list), || table(list), names)
}

/// Prints what `look` gives; with `--watch` again and again, when it changed.
pub(super) async fn watched(
    args: WatchArgs,
    look: impl AsyncFn() -> Result<String, CliError>,
) -> Result<(), CliError> {
    let mut shown = look().await?;
    print!("{shown}");
    if !args.watch {
        return Ok(());
    }
    loop {
        tokio::time::sleep(args.every()).await;
        let now = look().await?;
        if now != shown {
            if std::io::stdout().is_terminal() {
                // Home, and nothing left of what was there.
                print!("\x1b[H\x1b[2J");
            }
            print!("{now}");
            let _ = std::io::stdout().flush();
            shown = now;
        }
    }
}

fn lease(node: &NodeView) -> String {
    match node.lease_left_ms {
        Some(left) if left < 0 => format!("overdue {} s", -left / 1_000),
        Some(left) => format!("{} s left", left / 1_000),
        None => "-".to_owned(),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn table(list: &NodeList) -> String {
    let mut table = Table::new(&[
        "name", "state", "inc", "lease", "shards", "entities", "queued", "memory", "up", "build",
        "roles", "http",
    ]);
    for node in &list.items {
        let number = |pick: fn(&troupe_api::admin::NodeLoad) -> u64| {
            node.load.as_ref().map_or_else(|| "?".to_owned(), |load| pick(load).to_string())
        };
        let marked = if node.is_this { format!("{}*", node.name) } else { node.name.clone() };
        table.row(vec![
            marked,
            node.unreachable.as_ref().map_or_else(|| node.state.clone(), |_| "silent".to_owned()),
            node.incarnation.to_string(),
            lease(node),
            number(|load| u64::from(load.shards)),
            number(|load| load.entities),
            number(|load| load.queued),
            node.load.map_or_else(|| "?".to_owned(), |load| mib(load.memory_bytes)),
            node.load.map_or_else(|| "?".to_owned(), |load| long(load.uptime_seconds)),
            node.build.clone(),
            node.roles.join(","),
            node.http.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let mut text = table.render();
    text.push_str(&match (list.rebalance.as_str(), list.rebalance_setting.as_ref()) {
        (_, Some(setting)) if setting.paused => paused(Some(setting)),
        ("paused", None) => {
            "rebalancing is paused, by whom is not known: troupe admin rebalance resume\n"
                .to_owned()
        }
        ("slow", _) => "rebalancing rests while the store is slow\n".to_owned(),
        _ => String::new(),
    });
    text
}

/// Begins a drain and, unless told otherwise, waits until the node owns nothing.
pub(super) async fn drain(
    client: &Client,
    format: Format,
    node: &str,
    no_wait: bool,
    timeout: u64,
) -> Result<(), CliError> {
    let path = format!("{NODES}/{}/drain", segment(node));
    let answer: Value = client.post(&path, &json!({})).await?;
    if no_wait {
        begun(format, &answer);
        return Ok(());
    }
    let total = answer["shards"].as_u64().unwrap_or(0);
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} shards  {msg}") {
        bar.set_style(style);
    }
    let until = Instant::now() + Duration::from_secs(timeout);
    let mut is_asked = false;
    loop {
        let left = match client.get::<NodeList>(NODES).await {
            Ok(list) => {
                let found = list.items.into_iter().find(|other| other.name == node);
                is_asked = found.as_ref().is_some_and(|found| found.is_this);
                found.and_then(left_of)
            }
            Err(CliError::Problem(problem)) if problem.status == 503 => None,
            // The very node that drains is the one that is asked, and nobody listens there any
            // more: its end is that of the drain.
            Err(CliError::Unreachable { source, .. }) if is_asked && is_refused(&source) => Some(0),
            Err(CliError::Unreachable { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(left) = left {
            bar.set_length(total.max(left));
            bar.set_position(total.max(left) - left);
            bar.set_message(format!("{left} left"));
            if left == 0 {
                bar.finish_and_clear();
                let told = json!({ "node": node, "shards": 0, "outcome": "drained" });
                let line =
                    || format!("{node} owns no shard any more; its process ends by itself.\n");
                output::print(format, &told, line, || vec![node.to_owned()]);
                return Ok(());
            }
        }
        if Instant::now() >= until {
            bar.abandon();
            let left = left.map_or_else(|| "an unknown number".to_owned(), |n| n.to_string());
            let detail = format!(
                "{node} still owns {left} of its shards after {timeout} s; the drain goes on: \
                 troupe admin nodes --watch"
            );
            return Err(failed("timeout", detail));
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// Whether nobody listens at the address.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = error.source();
    }
    false
}

/// Shards that a node still owns; a dead one owns none that counts.
fn left_of(node: NodeView) -> Option<u64> {
    if node.state == "dead" {
        return Some(0);
    }
    node.load.map(|load| u64::from(load.shards))
}

#[cfg(test)]
mod tests {
    use troupe_api::admin::{NodeLoad, RebalanceSetting};
    use troupe_types::{Timestamp, UserId};

    use super::*;

    #[test]
    fn a_silent_node_says_so_and_the_one_that_answers_is_marked() {
        let load = NodeLoad { shards: 640, memory_bytes: 64 << 20, ..NodeLoad::default() };
        let node = |name: &str| NodeView {
            name: name.to_owned(),
            state: "alive".to_owned(),
            lease_left_ms: Some(5_500),
            load: Some(load),
            ..NodeView::default()
        };
        let silent = NodeView {
            load: None,
            unreachable: Some("no answer".to_owned()),
            lease_left_ms: Some(-9_100),
            ..node("b")
        };
        let items = vec![NodeView { is_this: true, ..node("a") }, silent];
        let setting = RebalanceSetting {
            paused: true,
            user_id: UserId::derived(&["ann"]),
            user_name: "ann".to_owned(),
            at: Timestamp::from_millis(0),
        };
        let told = table(&NodeList {
            items,
            rebalance: "paused".to_owned(),
            rebalance_setting: Some(setting),
        });
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[1].starts_with("a*") && lines[1].contains("5 s left"), "{told}");
        assert!(lines[1].contains("640") && lines[1].contains("64 MiB"), "{told}");
        assert!(lines[2].contains("silent") && lines[2].contains("overdue 9 s"), "{told}");
        assert!(lines[3].contains("by ann at 1970") && lines[3].contains("resume"), "{told}");
    }
}
