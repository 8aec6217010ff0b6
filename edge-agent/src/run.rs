//! `run`: the agent itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use troupe_edge::{EdgeAgent, identity::IdentityStore, tools::tools_line};
use troupe_link::device::{Dialler, EdgeDialler};
use troupe_telemetry::LogOptions;

use crate::{Global, REFUSED, coded, config::Home, control::Socket, show::say};

/// How long `join --no-run` waits for the link.
const ONCE_MAX: Duration = Duration::from_secs(20);

async fn start(home: &Home, global: &Global) -> Result<EdgeAgent> {
    let facts = home.facts()?;
    // Logging can be set up once; `join` and `run` in one process do it once.
    let log = LogOptions { filter: global.log.clone(), ..LogOptions::default() };
    if let Err(error) = troupe_telemetry::init(&log) {
        tracing::debug!(%error, "logging is set up already");
    }
    let identity = home.identity().load()?;
    let options = home.options(facts.device)?;
    let left = options.machine.containment.sweep();
    if left > 0 {
        tracing::warn!(left, "processes that an earlier agent left were ended");
    }
    let dialler = EdgeDialler::new(facts.addresses, &identity, options.link.clone())?;
    let dialler: Arc<dyn Dialler> = Arc::new(dialler);
    Ok(EdgeAgent::start(options, dialler).await?)
}

/// Says when it is connected, and what was found.
async fn connected(agent: &EdgeAgent, global: &Global) -> Result<()> {
    wanted_until(agent, |state| state == "connected").await?;
    let capabilities = agent.capabilities();
    let text = format!("connected: found {}", tools_line(&capabilities.tools));
    let tools: Vec<_> = capabilities
        .tools
        .iter()
        .map(|tool| json!({"name": tool.name, "version": tool.version}))
        .collect();
    say(global.output, &text, &json!({"connected": {"tools": tools}}))
}

/// Until the link's state is one; an error once the cluster does not want this device any more.
async fn wanted_until(agent: &EdgeAgent, mut is: impl FnMut(&str) -> bool) -> Result<()> {
    let mut link = agent.link();
    loop {
        let now = link.borrow_and_update().clone();
        if is(&now.state) {
            return Ok(());
        }
        if matches!(now.state.as_str(), "refused" | "revoked") {
            let why = now.trouble.unwrap_or_default();
            let text = format!("the cluster does not want this device: {why}");
            return Err(coded(REFUSED, text));
        }
        link.changed().await.context("the agent is gone")?;
    }
}

/// Connects once, so that both sides see that it works.
pub(crate) async fn once(home: &Home, global: &Global) -> Result<()> {
    let _lock = home.lock()?;
    let agent = start(home, global).await?;
    let up = timeout(ONCE_MAX, connected(&agent, global)).await;
    agent.stop().await;
    up.context("joined, but no session came up in time: see `troupe-edge doctor`")?
}

/// Works until it is told to stop.
pub(crate) async fn run(home: &Home, global: &Global) -> Result<()> {
    let _lock = home.lock()?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let agent = start(home, global).await?;
    let socket = Socket::open(home)?;
    let serving = async {
        let told = async {
            connected(&agent, global).await?;
            wanted_until(&agent, |_| false).await
        };
        tokio::select! {
            told = told => told,
            () = socket.serve(&agent) => bail!("the control socket ended"),
            () = agent.ended() => bail!("the agent ended; its log says why"),
        }
    };
    let done = tokio::select! {
        done = serving => done,
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    };
    agent.stop().await;
    done
}
