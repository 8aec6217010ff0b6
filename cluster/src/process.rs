//! What every kind of node does as a process: where it keeps things, what it tells, signals.
#![expect(clippy::print_stdout, reason = "says where the node is, and the one-time setup link")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tokio::{net::TcpListener, signal::unix::SignalKind};
use troupe_actor::spawn_task;
use troupe_services::auth::SetupToken;
use troupe_telemetry::MetricsHandle;

use crate::{
    config::Config,
    traces::{self, Collecting},
};

/// Requests that are under way when the node stops may take this long.
pub(crate) const REQUESTS_END_IN: Duration = Duration::from_secs(5);

/// Starts logs, metrics and traces; the latter are to be finished last of all. `node`: what
/// traces call this process.
pub(crate) fn observe(config: &Config, node: &str) -> Result<(MetricsHandle, Collecting)> {
    let metrics = troupe_telemetry::metrics::install().context("metrics")?;
    let traces = traces::start(config, node)?;
    let kept = metrics.clone();
    spawn_task("metrics-upkeep", async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            kept.upkeep();
        }
    });
    Ok((metrics, traces))
}

pub(crate) async fn listen(config: &Config) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(config.http).await.with_context(|| {
        format!("cannot listen on {}; take another port with --http 127.0.0.1:0", config.http)
    })?;
    let listen = listener.local_addr()?;
    if !listen.ip().is_loopback() {
        tracing::warn!(%listen, "listening beyond loopback without TLS: put a proxy with TLS \
            in front, or whoever is on the network reads along");
    }
    Ok((listener, listen))
}

/// `$XDG_DATA_HOME/troupe`, else `~/.local/share/troupe`.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home)?;
    Some(base.join("troupe"))
}

/// The setup link is for whoever reads this terminal.
pub(crate) fn print_setup_link(url: &str, token: &SetupToken) {
    println!("Set the administrator's password (link works once):");
    println!("  {url}/setup#{}", token.reveal());
}

/// Tells whoever started the node that it serves: URL, setup token or null, process, and `more`.
pub(crate) fn write_ready_file(
    file: &Path,
    url: &str,
    token: Option<&SetupToken>,
    more: Map<String, Value>,
) -> Result<()> {
    let mut told = Map::new();
    told.insert("http".to_owned(), url.into());
    told.insert("setup_token".to_owned(), token.map(SetupToken::reveal).into());
    told.insert("pid".to_owned(), std::process::id().into());
    told.extend(more);
    write_private(file, Value::Object(told).to_string().as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Whole or not at all, for its owner alone: it may hold a secret.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let fresh = file.with_extension(format!("new-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    out.write_all(bytes)?;
    std::fs::rename(&fresh, file)
}

/// Resolves at SIGTERM or SIGINT.
pub(crate) async fn stop_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
