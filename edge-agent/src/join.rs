//! `join` and `leave`.

use std::io::{self, BufRead as _, Read as _};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use troupe_edge::{
    identity::{IdentityError, write_private},
    link::past_files,
    tools::host_name,
};
use troupe_link::device::{EnrolError, EnrolFacts, Invitation, enrol};

use crate::{
    Global, Output, REFUSED, coded,
    config::{Home, make_private},
    keep, run,
    show::{self, say},
};

/// Longest line with an invitation.
const LINE_BYTES_MAX: u64 = 4_096;

#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    /// The line that `troupe device invite` printed; `-`: read from standard input
    #[arg(value_name = "troupe://HOST:PORT/TOKEN")]
    invitation: String,
    /// Executions at once, 1 to 20
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=20))]
    slots: Option<u16>,
    /// A label for selectors; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A program of the runtime `Command`, which the policy has to allow too; several times
    #[arg(long = "command", value_name = "NAME=PATH", value_parser = label)]
    commands: Vec<(String, String)>,
    /// Ends once it joined, instead of working
    #[arg(long)]
    no_run: bool,
    /// Works in a process of its own, and starts another when that is killed, so many times: for
    /// containers, where nothing else does it
    #[arg(long, value_name = "TIMES", env = "TROUPE_EDGE_RESTARTS")]
    restarts: Option<u32>,
    /// Joins although this machine is a device already; its old identity is forgotten
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LeaveArgs {
    /// Also deletes outbox, sessions and workspaces
    #[arg(long)]
    purge: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// The first line of standard input, on a thread: nothing else reads it.
async fn read_line() -> Result<String> {
    let read = || {
        let mut line = String::new();
        let mut input = io::stdin().lock().take(LINE_BYTES_MAX);
        input.read_line(&mut line).map(|_| line)
    };
    let line = tokio::task::spawn_blocking(read).await.context("read it")??;
    anyhow::ensure!(!line.trim().is_empty(), "standard input ended without a line");
    Ok(line)
}

pub(crate) async fn join(home: &Home, global: &Global, args: JoinArgs) -> Result<()> {
    let line = match args.invitation.as_str() {
        "-" => read_line().await.context("the invitation")?,
        given => given.to_owned(),
    };
    let invitation: Invitation = line.parse().context("the invitation")?;
    let identity = home.identity();
    match identity.facts() {
        Err(IdentityError::None) => {}
        Ok(facts) if !args.force => {
            let (name, cluster) = (facts.name, facts.cluster);
            anyhow::bail!(
                "this machine is the device {name} of the cluster {cluster} already: \
                 `troupe-edge run` works, `troupe-edge leave` forgets it, --force joins anew"
            );
        }
        Ok(_) => {}
        Err(error) if !args.force => return Err(error.into()),
        Err(_) => {}
    }
    // A policy that does not read must not be found out after the invitation is used up.
    home.read_policy()?;
    make_private(&home.dir)?;
    let lock = home.lock()?;
    let facts = EnrolFacts {
        host: host_name(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (device, grant) = enrol(&invitation, &facts).await.map_err(|error| match &error {
        EnrolError::Refused(_) => coded(REFUSED, error.to_string()),
        _ => error.into(),
    })?;
    // Where it enrolled is certainly reached from here.
    let here = invitation.address();
    let others = grant.addresses.iter().filter(|address| **address != here).cloned();
    let addresses: Vec<String> = [here.clone()].into_iter().chain(others).collect();
    // It was linked as another device.
    for file in past_files(&home.dir) {
        show::remove(&file)?;
    }
    identity.keep(&device, &grant.name, &grant.cluster, &addresses)?;
    let mut settings = home.settings()?;
    settings.slots = args.slots.unwrap_or(settings.slots);
    settings.labels.extend(args.labels);
    let commands = args.commands.into_iter().map(|(name, path)| (name, path.into()));
    settings.commands.extend(commands);
    write_private(&home.settings_file(), toml::to_string(&settings)?.as_bytes())
        .context("edge.toml")?;
    let text = format!("joined {} as {} ({})", grant.cluster, grant.name, grant.device);
    let value = json!({"joined": {"cluster": grant.cluster, "name": grant.name,
        "device": grant.device, "addresses": addresses}});
    say(global.output, &text, &value)?;
    drop(lock);
    if args.no_run {
        return run::once(home, global).await;
    }
    match args.restarts {
        Some(restarts) => keep::run(home, global, restarts).await,
        None => run::run(home, global).await,
    }
}

pub(crate) async fn leave(home: &Home, global: &Global, args: &LeaveArgs) -> Result<()> {
    let facts = home.facts()?;
    let _lock = home.lock().context("stop the agent first")?;
    home.identity().forget()?;
    for file in past_files(&home.dir) {
        show::remove(&file)?;
    }
    if args.purge {
        for name in ["executions", "workspaces", "edge.toml"] {
            show::remove(&home.dir.join(name))?;
        }
    }
    let text = format!(
        "left {}; its owner may still revoke it there: troupe device revoke {}",
        facts.cluster, facts.name
    );
    say(global.output, &text, &json!({"left": facts.cluster, "device": facts.device}))?;
    if global.output == Output::Text && !args.purge {
        let text = format!("outbox and workspaces are kept in {}", home.dir.display());
        say(Output::Text, &text, &json!({}))?;
    }
    Ok(())
}
