//! Answers, for people and for programs.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;
use troupe_edge::EdgeStatus;

use crate::{Global, Output, config::Home, control};

/// One answer on standard output.
pub(crate) fn say(output: Output, text: &str, value: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Text => writeln!(out, "{text}")?,
        Output::Json => writeln!(out, "{value}")?,
    }
    out.flush().context("standard output")
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| format!("{}", path.display()))
}

/// A status for people.
fn table(status: &EdgeStatus) -> String {
    let link = &status.link;
    let mut lines = vec![format!("device   {}", status.device)];
    let mut line = format!("link     {}", link.state);
    if let (Some(cluster), Some(node)) = (&link.cluster, &link.node) {
        let carrier = link.carrier.as_deref().unwrap_or("?");
        line += &format!(" to {cluster} ({node}) over {carrier}");
    }
    if let Some(rtt) = link.rtt_ms {
        line += &format!(", {rtt:.1} ms there and back");
    }
    lines.push(line);
    if let Some(trouble) = &link.trouble {
        lines.push(format!("trouble  {trouble}"));
    }
    let draining = if status.draining { ", takes no new work" } else { "" };
    lines.push(format!("slots    {} of {} used{draining}", status.slots_used, status.slots));
    let mib = |bytes: u64| bytes / (1024 * 1024);
    lines.push(format!(
        "outbox   {} bytes wait, {} MiB at most",
        status.outbox_bytes,
        mib(status.outbox_bytes_max)
    ));
    for run in &status.executions {
        lines.push(format!(
            "{}.{}  {:8}  {}  {} said, {} acknowledged",
            run.execution, run.attempt, run.state, run.team, run.last, run.acked
        ));
    }
    lines.join("\n")
}

pub(crate) async fn status(home: &Home, global: &Global) -> Result<()> {
    home.facts()?;
    let status = control::ask(home).await?;
    say(global.output, &table(&status), &serde_json::to_value(&*status)?)
}
