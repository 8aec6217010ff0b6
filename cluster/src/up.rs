//! `troupe up`: one node with everything in it, on an embedded store.
#![expect(clippy::print_stdout, reason = "says where the node is, and the one-time setup link")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::sync::CancellationToken;
use troupe_actor::spawn_task;
use troupe_gateway::serve;
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_telemetry::{LogOptions, MetricsHandle};

use crate::{
    config::Config,
    parts::{Node, assemble},
};

/// Requests that are under way when the node stops may take this long.
const REQUESTS_END_IN: Duration = Duration::from_secs(5);

/// Arguments of `troupe up`; they win over file and environment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  troupe up
  troupe up --http 127.0.0.1:0 --data-dir ./data --ready-file ./ready.json
  TROUPE__LOG__FILTER=debug troupe up --config troupe.toml

Configuration comes from built-in defaults, then --config, then variables TROUPE__SECTION__KEY,
then the command line. Everything durable lies in the data directory; deleting it uninstalls.")]
pub(crate) struct UpArgs {
    /// Where to listen [default: 127.0.0.1:8080]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Where everything durable lies [default: ~/.local/share/troupe]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Written once the node serves: {"http": URL, "setup_token": T or null, "pid": N}
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: UpArgs) -> Result<()> {
    let config = configure(&args)?;
    troupe_telemetry::init(&LogOptions {
        json: config.log.json,
        filter: config.log.filter.clone(),
    })
    .context("logging")?;
    let metrics = troupe_telemetry::metrics::install().context("metrics")?;
    let data_dir = config.data_dir.clone();
    let store = tokio::task::spawn_blocking(move || {
        SqliteStore::open(&data_dir, &SqliteOptions::default())
    })
    .await?
    .map_err(|error| anyhow::anyhow!("{}", troupe_telemetry::error_chain(&error)))?;

    let listener = TcpListener::bind(config.http).await.with_context(|| {
        format!("cannot listen on {}; take another port with --http 127.0.0.1:0", config.http)
    })?;
    let listen = listener.local_addr()?;
    let node = assemble(&config, store.stores(), listen, Some(metrics.clone())).await?;
    keep_metrics(metrics);
    let stop = CancellationToken::new();
    let serving =
        spawn_task("http", serve(listener, node.gateway.router(), stop.clone().cancelled_owned()));
    node.gateway.set_ready();
    announce(&node, listen, &args).await?;
    wait_for_signal().await?;

    tracing::info!("stopping: runs end their step");
    node.gateway.drain();
    let outcome = node.host.drain(config.drain_deadline()).await;
    tracing::info!(?outcome, "entities are at rest");
    node.gateway.close().await;
    stop.cancel();
    if tokio::time::timeout(REQUESTS_END_IN, serving).await.is_err() {
        tracing::warn!("requests were still under way");
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    if let Some(file) = &args.ready_file {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

fn configure(args: &UpArgs) -> Result<Config> {
    let mut config = Config::load(args.config.as_deref())
        .map_err(|faults| anyhow::anyhow!("configuration: {faults}"))?;
    if let Some(http) = args.http {
        config.http = http;
    }
    if let Some(dir) = &args.data_dir {
        config.data_dir.clone_from(dir);
    }
    if config.data_dir.as_os_str().is_empty()
        && let Some(dir) = default_data_dir()
    {
        config.data_dir = dir;
    }
    if let Err(faults) = config.validate() {
        bail!("configuration:\n  {}", faults.join("\n  "));
    }
    Ok(config)
}

/// `$XDG_DATA_HOME/troupe`, else `~/.local/share/troupe`.
fn default_data_dir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home)?;
    Some(base.join("troupe"))
}

/// Says where the node is; the setup link is for whoever reads this terminal.
async fn announce(node: &Node, listen: SocketAddr, args: &UpArgs) -> Result<()> {
    let url = format!("http://{listen}");
    let token = node.auth.prepare_setup().await.context("setup token")?;
    println!("Troupe is up: {url}");
    if let Some(token) = &token {
        println!("Set the administrator's password (link works once):");
        println!("  {url}/setup#{}", token.reveal());
    }
    if !listen.ip().is_loopback() {
        tracing::warn!(%listen, "listening beyond loopback without TLS: put a proxy with TLS \
            in front, or whoever is on the network reads along");
    }
    if let Some(file) = &args.ready_file {
        let told = serde_json::json!({
            "http": url,
            "setup_token": token.as_ref().map(|t| t.reveal()),
            "pid": std::process::id(),
        });
        write_private(file, told.to_string().as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Whole or not at all, for its owner alone: it may hold the setup token.
fn write_private(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let fresh = file.with_extension(format!("new-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    out.write_all(bytes)?;
    std::fs::rename(&fresh, file)
}

fn keep_metrics(metrics: MetricsHandle) {
    spawn_task("metrics-upkeep", async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            metrics.upkeep();
        }
    });
}

async fn wait_for_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
