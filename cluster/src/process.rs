//! What every kind of node does as a process: where it keeps things, what it tells, signals.
#![expect(clippy::print_stdout, reason = "says where the node is, and the one-time setup link")]

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::sync::CancellationToken;
use troupe_actor::spawn_task;
use troupe_cli::CliError;
use troupe_gateway::{Gateway, HttpsCert, serve};
use troupe_services::auth::SetupToken;
use troupe_store::backup::LoadError;
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_telemetry::MetricsHandle;

use crate::{
    config::Config,
    traces::{self, Collecting},
};

/// In conflict with how things are, as for client verbs.
const CONFLICT: u8 = 5;
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

/// The door for people.
pub(crate) struct Door {
    listener: TcpListener,
    https: Option<Arc<HttpsCert>>,
    pub(crate) at: SocketAddr,
    /// Names by which people may call it.
    pub(crate) names: Vec<String>,
}

impl Door {
    /// Where people find it: an address that means all of the machine's is none, so then it is
    /// the first name.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.https.is_some() { "https" } else { "http" };
        match first_name(&self.names).filter(|_| self.at.ip().is_unspecified()) {
            Some(name) => format!("{scheme}://{name}:{}", self.at.port()),
            None => format!("{scheme}://{}", self.at),
        }
    }

    /// Serves until told to stop.
    pub(crate) fn serve(
        self,
        gateway: &Gateway,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (Self { listener, https, .. }, router) = (self, gateway.router());
        async move {
            let serving = serve(listener, https.as_deref(), router, stop.cancelled_owned());
            let following = async {
                match &https {
                    Some(cert) => Arc::clone(cert).follow_files().await,
                    None => std::future::pending().await,
                }
            };
            let served = tokio::select! {
                served = serving => served,
                never = following => match never {},
            };
            if let Err(error) = served {
                tracing::error!(error = &error as &dyn std::error::Error, "nothing is served");
            }
        }
    }
}

pub(crate) async fn listen(config: &Config) -> Result<Door> {
    let https = config.tls.files().map(|(cert, key)| {
        warn_of_readers(key);
        HttpsCert::load(cert, key).map(Arc::new)
    });
    let https = https.transpose().context("tls")?;
    let listener = TcpListener::bind(config.http).await.with_context(|| {
        format!("cannot listen on {}; take another port with --http 127.0.0.1:0", config.http)
    })?;
    let at = listener.local_addr()?;
    if !at.ip().is_loopback() && !config.tls.is_https() {
        tracing::warn!(listen = %at, "listening beyond loopback without TLS: give it a \
            certificate (tls.cert-file), or put a proxy with TLS in front and say so (tls.proxy), \
            or whoever is on the network reads along");
    }
    let mut names = config.public_hosts.clone();
    names.extend(https.iter().flat_map(|cert| cert.names()).cloned());
    Ok(Door { listener, https, at, names })
}

/// The first of them that can stand in an address.
pub(crate) fn first_name(names: &[String]) -> Option<&str> {
    let name = names.iter().find(|name| !name.starts_with('*'))?;
    Some(name.split(':').next().unwrap_or(name))
}

/// Of a key that others on this machine may read.
fn warn_of_readers(key: &Path) {
    let mode = fs::metadata(key).map(|file| file.permissions().mode()).unwrap_or(0);
    if mode & 0o007 != 0 {
        tracing::warn!(file = %key.display(), "tls.key-file may be read by everybody: chmod 600 it");
    }
}

/// `$XDG_DATA_HOME/troupe`, else `~/.local/share/troupe`.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home)?;
    Some(base.join("troupe"))
}

/// The data directory of a verb that works beside a node: the option, or what is configured.
pub(crate) fn data_dir(told: Option<PathBuf>, config: Option<&Path>) -> Result<PathBuf> {
    let config =
        Config::load(config).map_err(|faults| anyhow::anyhow!("configuration: {faults}"))?;
    let told = Some(told.unwrap_or(config.data_dir)).filter(|dir| !dir.as_os_str().is_empty());
    told.or_else(default_data_dir).context("--data-dir: there is no home directory either")
}

/// Opens the store of a node that is alone.
pub(crate) async fn open_embedded(dir: PathBuf, options: SqliteOptions) -> Result<SqliteStore> {
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&dir, &options)).await?;
    store.map_err(|error| anyhow::anyhow!("{}", troupe_telemetry::error_chain(&error)))
}

/// How a process ends that failed, in the codes of client verbs.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<CliError>() {
        return error.exit_code();
    }
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::NotEmpty(_) | LoadError::Other(_) | LoadError::Differs { .. }) => {
            ExitCode::from(CONFLICT)
        }
        _ => ExitCode::FAILURE,
    }
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

/// Whole or not at all, for its owner alone: it may hold a secret. Outlives a power failure.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = file.with_extension(format!("new-{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut out = options.create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    sync_name(file)
}

/// Makes a directory for its owner alone, and those above it that are missing. They outlive a
/// power failure, unless we may not open the one that they are made in.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    let missing = dir.ancestors().take_while(|above| !above.exists()).count();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in dir.ancestors().take(missing.max(1)) {
        let _ = sync_name(made);
    }
    Ok(())
}

/// Makes the name of a file or directory durable, in the one that it lies in.
fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
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
