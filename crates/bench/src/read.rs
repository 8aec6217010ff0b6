//! REST reads at a fixed rate. Times are counted from when a request was due, so that a
//! slow answer also counts for those that had to wait behind it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    http::Http,
    node::Node,
    stats::{Times, cores, grouped, note, row},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests per second
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// How long each kind of request is asked, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Connections that share the rate
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// Tasks that are read in turn
    #[arg(long, default_value_t = 100)]
    tasks: usize,
}

pub(crate) async fn run(node: &Node, args: &Args) -> Result<()> {
    note("making tasks");
    let tasks = node.tasks(args.tasks).await?;
    let views = tasks.iter().map(|task| format!("/api/v1/tasks/{task}")).collect();
    let turns = tasks.iter().map(|task| format!("/api/v1/tasks/{task}/turns?limit=20")).collect();
    let kinds: [(&str, Vec<String>); 5] = [
        ("GET a task", views),
        ("GET its turns", turns),
        ("GET tasks?limit=20", vec!["/api/v1/tasks?limit=20".to_owned()]),
        ("GET a team", vec!["/api/v1/namespaces/default/teams/bench".to_owned()]),
        ("GET users/me", vec!["/api/v1/users/me".to_owned()]),
    ];
    for (what, paths) in kinds {
        note(&format!("{what} at {}/s", args.rate));
        at_rate(node, args, what, Arc::new(paths)).await.context(what)?;
    }
    Ok(())
}

async fn at_rate(node: &Node, args: &Args, what: &str, paths: Arc<Vec<String>>) -> Result<()> {
    let gap = Duration::from_secs(1) * args.connections / args.rate;
    let each = args.rate * args.seconds / args.connections;
    let mut askers = JoinSet::new();
    let (start, before) = (Instant::now() + Duration::from_millis(200), node.cpu()?);
    for number in 0..args.connections {
        let mut http = node.http().await?;
        let paths = Arc::clone(&paths);
        let first = start + gap * number / args.connections;
        askers.spawn(async move { ask(&mut http, &paths, (first, gap), number, each).await });
    }
    let mut times = Times::default();
    while let Some(asked) = askers.join_next().await {
        times.append(asked.context("an asker died")??);
    }
    let took = start.elapsed();
    let rate = times.len() as f64 / took.as_secs_f64();
    let cpu = cores(node.cpu()? - before, took);
    let summary = times.summary();
    row(what, format!("{summary} at {}/s; node {cpu}", grouped(rate)));
    Ok(())
}

async fn ask(
    http: &mut Http,
    paths: &[String],
    (first, gap): (Instant, Duration),
    number: u32,
    count: u32,
) -> Result<Times> {
    let mut times = Times::default();
    for n in 0..count {
        let due = first + gap * n;
        sleep_until(due).await;
        let at = (number + n.wrapping_mul(7)) as usize % paths.len();
        // The timer is good for a millisecond; what is late by it is not the node's fault.
        let begun = Instant::now();
        let waited = begun.saturating_duration_since(due).saturating_sub(Duration::from_millis(2));
        http.call("GET", &paths[at], None).await?.ok()?;
        times.push(begun.elapsed() + waited);
    }
    Ok(times)
}
