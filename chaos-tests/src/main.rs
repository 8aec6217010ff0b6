//! Real nodes, a real store and a real Redis under faults, and a verdict per invariant.
//!
//! Started by `cargo xtask chaos`, which builds and installs what is needed; see
//! `docs/chaos.md`.

mod check;
mod cluster;
mod history;
mod load;
mod node;
mod place;
mod proxy;
mod report;
mod scenario;
mod service;
mod stage;
mod witness;

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    cluster::Plan,
    report::{Report, Row},
    scenario::{SCENARIOS, Scenario},
    stage::{Set, Stage},
};

/// Runs scenarios against a cluster of three nodes on this machine.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Args {
    /// A scenario, or several with commas between; `all`, or `list`
    scenario: String,
    /// Decides every fault and its moment; the same seed, the same schedule
    #[arg(long)]
    seed: Option<u64>,
    /// How much is done
    #[arg(long, value_enum, default_value_t = Set::Ci)]
    set: Set,
    /// How often each scenario is run, each time with another schedule
    #[arg(long)]
    rounds: Option<u64>,
    /// How many people work at once
    #[arg(long, default_value_t = 6)]
    people: u64,
    /// Bounds of time that are exceeded are told and do not count: for a machine that does other
    /// work
    #[arg(long)]
    lenient: bool,
    /// How to start the services (JSON)
    #[arg(long)]
    recipes: Option<PathBuf>,
    /// The `troupe` program
    #[arg(long)]
    troupe: Option<PathBuf>,
    /// The same of an older build: nodes begin with it, and `rolling-restart` brings the newer one
    #[arg(long)]
    before: Option<PathBuf>,
    /// For logs, data and the history; emptied first
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Rounds of the long set.
const ROUNDS_FULL: u64 = 20;

/// A line for the person who watches.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
pub(crate) fn print(line: &str) {
    println!("{line}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = run(Args::parse()) => outcome,
        // What is dropped here ends its processes.
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if outcome.is_err() {
        place::clear(cluster::NODES).await;
    }
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn interrupted() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn run(args: Args) -> Result<bool> {
    if args.scenario == "list" {
        SCENARIOS.iter().for_each(|one| print(&format!("{:<16} {}", one.name, one.about)));
        return Ok(true);
    }
    let chosen = choose(&args.scenario)?;
    let seed = args.seed.unwrap_or_else(rand::random);
    let rounds = args.rounds.unwrap_or(if args.set == Set::Full { ROUNDS_FULL } else { 1 });
    let dir = args.dir.context("--dir is needed; start by `cargo xtask chaos`")?;
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    fs::create_dir_all(&dir)?;
    let recipes = args.recipes.context("--recipes is needed; start by `cargo xtask chaos`")?;
    let plan = Plan {
        troupe: args.troupe.context("--troupe is needed; start by `cargo xtask chaos`")?,
        before: args.before,
        dir,
        recipes: serde_json::from_slice(&fs::read(recipes)?).context("recipes")?,
        seed,
        people: args.people,
    };
    print(&format!("chaos {} --seed {seed} --set {:?} --rounds {rounds}", args.scenario, args.set));
    let began = Instant::now();
    let mut report = Report::default();
    let mut stage = Stage::set_up(plan, args.set, StdRng::seed_from_u64(seed)).await?;
    print(&format!("the cluster is up after {:.1} s", began.elapsed().as_secs_f64()));
    for round in 0..rounds {
        for scenario in &chosen {
            report.add(one(&mut stage, scenario, seed, round).await);
        }
    }
    let began_end = Instant::now();
    let (figures, violations) = stage.finish().await?;
    let (took, error) = (began_end.elapsed(), None);
    report.add(Row { name: "the end".to_owned(), round: 0, took, figures, violations, error });
    print(&report.render(seed, began.elapsed()));
    if args.lenient && !report.is_well(false) && report.is_well(true) {
        print("only bounds of time were exceeded, and --lenient says that they do not count");
    }
    Ok(report.is_well(args.lenient))
}

fn choose(names: &str) -> Result<Vec<Scenario>> {
    if names == "all" {
        return Ok(SCENARIOS.to_vec());
    }
    let mut chosen = Vec::new();
    for name in names.split(',') {
        let Some(found) = SCENARIOS.iter().find(|one| one.name == name) else {
            bail!("no scenario {name}; `cargo xtask chaos list` names them");
        };
        chosen.push(*found);
    }
    Ok(chosen)
}

/// One scenario. What the harness itself cannot do is told as an error of the row.
async fn one(stage: &mut Stage, scenario: &Scenario, seed: u64, round: u64) -> Row {
    let mut hasher = DefaultHasher::new();
    (seed, round, scenario.name).hash(&mut hasher);
    let rng = StdRng::seed_from_u64(hasher.finish());
    let began = Instant::now();
    print(&format!("\n== {} (round {}): {}", scenario.name, round + 1, scenario.about));
    let outcome = async {
        stage.begin(scenario.name, rng).await?;
        (scenario.run)(stage).await
    }
    .await;
    // Even after an error: the next scenario begins with a cluster that is well.
    let closed = stage.close().await;
    let error = outcome.and(closed).err().map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        stage.note(format!("ERROR {error}"));
    }
    Row {
        name: scenario.name.to_owned(),
        round,
        took: began.elapsed(),
        figures: std::mem::take(&mut stage.figures),
        violations: std::mem::take(&mut stage.violations),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_known_by_distinct_names() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|one| one.name).collect();
        assert_eq!(choose("all").unwrap().len(), names.len());
        assert_eq!(choose("crash,freeze").unwrap().len(), 2);
        assert!(choose("crash,crush").is_err());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
