//! A cluster of one to three nodes: Tasks that idle, and shards that move.
//!
//! What streams through it is measured by [`crate::chunks`], with viewers at all nodes.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    http::Http,
    node::{Node, post},
    stats::{self, Times, grouped, note, row},
};

/// Callers at once.
const AT_ONCE: usize = 16;
/// How often shards are looked at: each look asks all nodes.
const LOOK: Duration = Duration::from_millis(250);
/// How long shards may take to be where they belong.
const PATIENCE: Duration = Duration::from_secs(150);
/// What a node needs for itself after its start.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct IdleArgs {
    /// A file with the ids of the Tasks, one a line
    #[arg(long)]
    ids: PathBuf,
    /// How many are made, at most
    #[arg(long, default_value_t = 2_000)]
    tasks: usize,
    /// How long they are made, in seconds, at most
    #[arg(long, default_value_t = 40)]
    seconds: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MovesArgs {
    /// The node that gives everything away; without one, what is not in its place moves there
    #[arg(long)]
    drain: Option<String>,
}

/// Makes Tasks, each with one answered message, and writes their ids down.
pub(crate) async fn fill(node: &Node, args: &IdleArgs) -> Result<()> {
    note(&format!("making {} tasks, for {} s at most", args.tasks, args.seconds));
    let (begun, most) = (Instant::now(), Duration::from_secs(args.seconds));
    let mut making = JoinSet::new();
    for part in 0..AT_ONCE {
        let count = (part..args.tasks).step_by(AT_ONCE).len();
        let node = node.clone();
        making.spawn(async move {
            let mut made = Vec::new();
            while made.len() < count && begun.elapsed() < most {
                made.extend(node.tasks(1).await?);
            }
            anyhow::Ok(made)
        });
    }
    let mut ids = Vec::with_capacity(args.tasks);
    while let Some(made) = making.join_next().await {
        ids.extend(made.context("a caller died")??);
    }
    let rate = grouped(ids.len() as f64 / begun.elapsed().as_secs_f64());
    row(&format!("Tasks made, a message and its answer each, {AT_ONCE} at once"), rate + "/s");
    fs::write(&args.ids, ids.join("\n")).context("write the ids down")
}

/// Activates all of them on a node that was started anew, so that what the making left with the
/// allocator does not count.
pub(crate) async fn idle(node: &Node, args: &IdleArgs) -> Result<()> {
    let ids = fs::read_to_string(&args.ids).context("the ids of the tasks")?;
    let mut ids: Vec<String> = ids.lines().map(str::to_owned).collect();
    // What is made once, connections and Namespaces, is there before memory is looked at.
    let first = ids.split_off(ids.len().saturating_sub(AT_ONCE));
    read(node, first).await?;
    sleep(SETTLE).await;
    let (before, begun, count) = (stats::resident(node.pid)?, Instant::now(), ids.len());
    let mut times = read(node, ids).await?;
    let took = begun.elapsed().as_secs_f64();
    let each = (stats::resident(node.pid)? - before) / count as f64 / 1024.0;
    let count = grouped(count as f64);
    row(&format!("memory of each of {count} idle Tasks"), format!("{each:.1} KiB"));
    let rate = grouped(times.len() as f64 / took);
    let what = format!("their activations, {AT_ONCE} at once");
    row(&what, format!("{rate}/s, {}", times.summary()));
    Ok(())
}

async fn read(node: &Node, ids: Vec<String>) -> Result<Times> {
    let mut reading = JoinSet::new();
    for part in 0..AT_ONCE {
        let ids: Vec<String> = ids.iter().skip(part).step_by(AT_ONCE).cloned().collect();
        let mut http = node.http().await?;
        reading.spawn(async move {
            let mut times = Times::default();
            for id in ids {
                let asked = Instant::now();
                http.call("GET", &format!("/api/v1/tasks/{id}"), None).await?.ok()?;
                times.push(asked.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Times::default();
    while let Some(times) = reading.join_next().await {
        all.append(times.context("a caller died")??);
    }
    Ok(all)
}

/// Shards by the node that owns them, and how many are not where they belong.
async fn shards(http: &mut Http) -> Result<(BTreeMap<String, usize>, usize)> {
    let page = http.call("GET", "/api/v1/admin/shards", None).await?.ok()?;
    let page: Value = serde_json::from_slice(&page).context("shards in json")?;
    let (mut owned, mut astray) = (BTreeMap::new(), 0);
    for shard in page["items"].as_array().context("a list of shards")? {
        let owner = shard["owner"].as_str().unwrap_or_default();
        *owned.entry(owner.to_owned()).or_insert(0) += 1;
        astray += usize::from(shard["preferred"] != shard["owner"]);
    }
    Ok((owned, astray))
}

/// Waits until a node owns nothing any more, or until everything is where it belongs.
pub(crate) async fn moves(node: &Node, args: &MovesArgs) -> Result<()> {
    let mut http = node.http().await?;
    let (owned, mut left) = shards(&mut http).await?;
    let asked = Instant::now();
    if let Some(drained) = &args.drain {
        left = owned.get(drained).copied().unwrap_or_default();
        let path = format!("/api/v1/admin/nodes/{drained}/drain");
        post(&mut http, &path, &json!({})).await.context("drain a node")?;
    }
    let (all, mut begun) = (left, None);
    let mut most = all;
    ensure!(all > 0 || args.drain.is_none(), "the node owns nothing");
    loop {
        ensure!(asked.elapsed() < PATIENCE, "{left} shards still have to move");
        sleep(LOOK).await;
        let (owned, astray) = shards(&mut http).await?;
        left = match &args.drain {
            Some(drained) => owned.get(drained).copied().unwrap_or_default(),
            None => astray,
        };
        // A node that has just come takes a while to be counted on.
        most = most.max(left);
        if left < most {
            begun.get_or_insert(Instant::now());
        }
        if left == 0 && (most > 0 || asked.elapsed() > SETTLE * 4) {
            break;
        }
    }
    let took = begun.map_or(Duration::ZERO, |at| at.elapsed() + LOOK);
    let rate = grouped(most as f64 / took.as_secs_f64().max(0.1));
    let what = match &args.drain {
        Some(drained) => format!("drain of {drained}: hand-offs"),
        None => "a node more: hand-offs to it".to_owned(),
    };
    let waited = asked.elapsed().saturating_sub(took).as_secs_f64();
    let figure = format!(
        "{most} shards in {:.1} s, {rate}/s (the first after {waited:.1} s)",
        took.as_secs_f64()
    );
    row(&what, figure);
    Ok(())
}
