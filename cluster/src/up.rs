//! `troupe up`: one node with everything in it, on an embedded store.
#![expect(clippy::print_stdout, reason = "says where the node is")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use troupe_actor::spawn_task;
use troupe_edge::EdgeAgent;
use troupe_sharding::OneNode;
use troupe_store_sqlite::SqliteOptions;
use troupe_types::{Clock as _, SystemClock};

use crate::{
    config::Config,
    edge::{EdgeSetup, load_or_create_ca},
    parts::{Node, Secrets, Wiring, assemble, whole},
    process::{
        REQUESTS_END_IN, default_data_dir, listen, observe, open_embedded, print_setup_link,
        stop_signal, write_ready_file,
    },
};

/// The name of the cluster that one node is.
const CLUSTER: &str = "troupe";
/// A built-in device that ended is started again after this, then after twice as long, until it
/// is a minute.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Arguments of `troupe up`; they win over file and environment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  troupe up
  troupe up --http 127.0.0.1:0 --data-dir ./data --ready-file ./ready.json
  troupe up --http 0.0.0.0:8080 --tls-cert fullchain.pem --tls-key privkey.pem
  TROUPE__LOG__FILTER=debug troupe up --config troupe.toml

Configuration comes from built-in defaults, then --config, then variables TROUPE__SECTION__KEY,
then the command line. Everything durable lies in the data directory; deleting it uninstalls.")]
pub(crate) struct UpArgs {
    /// Where to listen [default: 127.0.0.1:8080]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Where devices come in, UDP and TCP [default: 127.0.0.1:8443]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    edge: Option<SocketAddr>,
    /// Certificate of HTTPS, PEM, with its chain; goes with --tls-key
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
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
pub(crate) async fn run(args: UpArgs, store: SqliteOptions) -> Result<()> {
    let config = configure(&args)?;
    let (metrics, traces) = observe(&config, "local")?;
    let store = open_embedded(config.data_dir.clone(), store).await?;
    let stores = store.stores();
    // Before keys are made: those of the backup may be on their way.
    whole(&stores).await?;
    let door = listen(&config).await?;
    let secrets = Secrets::load_or_create(&config.data_dir.join("keys"))?;
    let placement = Arc::new(OneNode(stores.boot_epoch));
    let clock = SystemClock::new();
    let ca = load_or_create_ca(&config.data_dir.join("keys"), CLUSTER, clock.now())?;
    let edge = EdgeSetup::bind(&config, ca, CLUSTER, "up", &clock)?;
    let edge_at = edge.local_addr();
    let wiring = Wiring {
        config: &config,
        stores,
        listen: door.at,
        names: door.names.clone(),
        metrics,
        secrets,
        placement,
        edge: Some(edge),
        member: None,
    };
    let node = assemble(wiring).await?;
    let stop = CancellationToken::new();
    let url = door.url();
    let serving = spawn_task("http", door.serve(&node.gateway, stop.clone()));
    node.gateway.set_ready();
    let token = node.auth.prepare_setup().await.context("setup token")?;
    println!("Troupe is up: {url}");
    if let Some(token) = &token {
        print_setup_link(&url, token);
    }
    if let Some(file) = &args.ready_file {
        let mut more = serde_json::Map::new();
        more.insert("edge".to_owned(), edge_at.map(|at| at.to_string()).into());
        write_ready_file(file, &url, token.as_ref(), more)?;
    }
    let agent = work_until_stopped(&config, &node).await?;

    tracing::info!("stopping: runs end their step");
    node.gateway.drain();
    if let Some(agent) = agent {
        // What it runs goes on after the next start.
        agent.stop().await;
    }
    let outcome = node.host.drain(config.drain_deadline()).await;
    tracing::info!(?outcome, "entities are at rest");
    node.gateway.close().await;
    if let Some(edge) = &node.edge {
        edge.close();
    }
    stop.cancel();
    if tokio::time::timeout(REQUESTS_END_IN, serving).await.is_err() {
        tracing::warn!("requests were still under way");
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    if let Some(file) = &args.ready_file {
        let _ = std::fs::remove_file(file);
    }
    traces.finish().await;
    Ok(())
}

/// Until SIGTERM or SIGINT; meanwhile this machine is a device, once somebody owns it.
async fn work_until_stopped(config: &Config, node: &Node) -> Result<Option<EdgeAgent>> {
    let stopped = stop_signal();
    let Some(edge) = node.edge.as_ref().filter(|_| config.device.enabled) else {
        stopped.await?;
        return Ok(None);
    };
    let start = async || edge.built_in(config, Arc::clone(&node.auth), &node.clock).await;
    keep_working(start, async |agent: &EdgeAgent| agent.ended().await, stopped).await
}

/// Starts something again whenever it ends, until it is to stop; answers what works then.
async fn keep_working<A>(
    start: impl AsyncFn() -> Result<A>,
    ended: impl AsyncFn(&A),
    stopped: impl Future<Output = Result<()>>,
) -> Result<Option<A>> {
    let mut stopped = std::pin::pin!(stopped);
    let mut pause = AGAIN_MIN;
    loop {
        let started = tokio::select! {
            biased;
            stopped = &mut stopped => return stopped.map(|()| None),
            started = start() => started,
        };
        match started {
            Ok(agent) => {
                let began = Instant::now();
                tokio::select! {
                    biased;
                    stopped = &mut stopped => return stopped.map(|()| Some(agent)),
                    () = ended(&agent) => {}
                }
                drop(agent);
                if began.elapsed() >= AGAIN_MAX {
                    pause = AGAIN_MIN;
                }
                tracing::error!(?pause, "the built-in device ended; it is started again");
            }
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), ?pause, "no built-in device");
            }
        }
        tokio::select! {
            biased;
            stopped = &mut stopped => return stopped.map(|()| None),
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

fn configure(args: &UpArgs) -> Result<Config> {
    let mut config = Config::load(args.config.as_deref())
        .map_err(|faults| anyhow::anyhow!("configuration: {faults}"))?;
    if let Some(http) = args.http {
        config.http = http;
    }
    if let Some(edge) = args.edge {
        config.edge.listen = edge;
        config.edge.required = true;
    } else if config.http.port() == 0 {
        // Several nodes on one machine: each takes what is free.
        config.edge.listen.set_port(0);
    }
    config.tls.set(args.tls_cert.clone(), args.tls_key.clone());
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// It fails twice, then it works for a while, ends, and works until all is to stop.
    #[tokio::test(start_paused = true)]
    async fn what_ends_is_started_again_after_a_pause_that_grows() -> Result<()> {
        let (begun, starts) = (Instant::now(), RefCell::new(Vec::new()));
        let stop = CancellationToken::new();
        let lasts = [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(100)];
        let start = async || {
            starts.borrow_mut().push(begun.elapsed().as_secs());
            let n = starts.borrow().len();
            anyhow::ensure!(n > 2, "it does not start");
            Ok(Cell::new(n - 3))
        };
        let ended = async |agent: &Cell<usize>| match lasts.get(agent.get()) {
            Some(lasts) => sleep(*lasts).await,
            None => {
                stop.cancel();
                std::future::pending().await
            }
        };
        let stopped = async {
            stop.cancelled().await;
            Ok(())
        };
        let works = keep_working(start, ended, stopped).await?.context("nothing works")?;
        assert_eq!(works.get(), 3);
        assert_eq!(starts.into_inner(), [0, 1, 3, 7, 25, 126]);
        Ok(())
    }
}
