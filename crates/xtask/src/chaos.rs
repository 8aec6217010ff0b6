//! `cargo xtask chaos`: builds the nodes and the harness, installs what both need, runs it.

use std::{fs, net::Ipv4Addr, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    run::{run, shown, step},
    services,
    tools::{for_faults, is_root},
    workspace::{Workspace, in_ci},
};

/// What fits into a run of CI: about three minutes.
const CI: &str = "crash,redis-down,rolling-restart";

/// Where the harness's proxies listen, and so where drivers must look for the store.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 1);

#[derive(Clone, Debug, Args)]
pub(crate) struct ChaosArgs {
    /// A scenario, several with commas between, `all`, or `list`
    #[arg(default_value = "list")]
    scenario: String,
    /// Decides every fault and its moment; printed, so that a failure can be run again
    #[arg(long)]
    seed: Option<u64>,
    /// `ci`: each row once, short; `full`: each row 20 times, as long as the matrix says
    #[arg(long, default_value = "ci", value_parser = ["ci", "full"])]
    set: String,
    /// How often each scenario is run
    #[arg(long)]
    rounds: Option<u64>,
    /// Nodes begin with this `troupe` of an older build; `rolling-restart` brings the newer one
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// How many people work at once [default: 6]
    #[arg(long)]
    people: Option<u64>,
    /// Bounds of time that are exceeded are told and do not count
    #[arg(long)]
    lenient: bool,
    /// Nodes and harness built with optimisations
    #[arg(long)]
    release: bool,
}

/// For CI: some rows of the matrix, judged by what must never happen; times are told.
pub(crate) fn for_ci(ws: &Workspace) -> Result<()> {
    let scenario = CI.to_owned();
    let (seed, set, lenient) = (Some(7), "ci".to_owned(), true);
    let (rounds, people, before, release) = (None, None, None, false);
    chaos(ws, &ChaosArgs { scenario, seed, set, rounds, before, people, lenient, release })
}

pub(crate) fn chaos(ws: &Workspace, args: &ChaosArgs) -> Result<()> {
    let mut cargo = ws.cargo();
    // All of them: with the features that tests are built with, so that nothing is built twice.
    cargo.args(["build", "--quiet", "--workspace", "--bins"]);
    if in_ci() {
        // They are built already, and features are resolved over both.
        cargo.arg("--tests");
    }
    if args.release {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    let profile = if args.release { "release" } else { "debug" };
    let program = ws.target.join(profile).join("chaos");
    let mut chaos = ws.command(&program);
    chaos.arg(&args.scenario).args(["--set", &args.set]);
    for (name, value) in
        [("--seed", args.seed), ("--rounds", args.rounds), ("--people", args.people)]
    {
        if let Some(value) = value {
            chaos.arg(name).arg(value.to_string());
        }
    }
    if args.lenient {
        chaos.arg("--lenient");
    }
    if let Some(before) = &args.before {
        let before = before.canonicalize().with_context(|| before.display().to_string());
        chaos.arg("--before").arg(before.context("--before")?);
    }
    if args.scenario != "list" {
        if !is_root() {
            bail!("network namespaces and packet filters need root");
        }
        for_faults()?;
        let home = ws.target.join("chaos");
        fs::create_dir_all(&home).context("make a directory")?;
        let recipes = home.join("recipes.json");
        let all = services::recipes(ws, &home.join("services"), HUB)?;
        fs::write(&recipes, serde_json::to_string_pretty(&all)?).context("write recipes")?;
        chaos.arg("--recipes").arg(recipes).arg("--troupe").arg(ws.binary(profile));
        chaos.arg("--dir").arg(home.join("run"));
        step(&format!("logs and history: {}", home.join("run").display()));
    }
    let status = chaos.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("run `{}`", shown(&chaos)))?;
    if !status.success() {
        bail!("the verdict is not good ({status})");
    }
    Ok(())
}
