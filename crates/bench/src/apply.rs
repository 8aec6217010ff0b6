//! Applies of a few documents, one after the other on each connection.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    node::Node,
    stats::{Times, cores, grouped, row},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

pub(crate) async fn run(node: &Node, args: &Args) -> Result<()> {
    for connections in [1, 16] {
        with(node, Duration::from_secs(args.seconds), connections).await?;
    }
    Ok(())
}

async fn with(node: &Node, time: Duration, connections: u32) -> Result<()> {
    let mut appliers = JoinSet::new();
    let (start, before) = (Instant::now(), node.cpu()?);
    for number in 0..connections {
        let mut http = node.http().await?;
        appliers.spawn(async move {
            let mut times = Times::default();
            for n in 0.. {
                let begun = Instant::now();
                if begun.duration_since(start) > time {
                    break;
                }
                let yaml = documents(number, n);
                let body = Some(("application/yaml", yaml.as_bytes()));
                let path = "/api/v1/namespaces/default/apply";
                http.call("POST", path, body).await?.ok()?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Times::default();
    while let Some(applied) = appliers.join_next().await {
        times.append(applied.context("an applier died")??);
    }
    let took = start.elapsed();
    let rate = grouped(times.len() as f64 / took.as_secs_f64());
    let what = format!("apply of 3 documents, {connections} at once");
    let cpu = cores(node.cpu()? - before, took);
    let summary = times.summary();
    row(&what, format!("{summary}, {rate}/s; node {cpu}"));
    Ok(())
}

/// Changed each time, so that each apply writes.
fn documents(number: u32, n: u32) -> String {
    format!(
        "kind: Ghost\nmetadata: {{name: g{number}}}\nspec: {{systemPrompt: Version {n}.}}\n---\n\
         kind: Bot\nmetadata: {{name: b{number}, displayName: Version {n}}}\n\
         spec:\n  ghostRef: {{name: g{number}}}\n  shellRef: {{name: Chat}}\n  \
         modelRef: {{name: bench}}\n---\n\
         kind: Team\nmetadata: {{name: t{number}}}\nspec:\n  collaborationModel: solo\n  \
         description: Version {n}.\n  members: [{{botRef: {{name: b{number}}}}}]\n"
    )
}
