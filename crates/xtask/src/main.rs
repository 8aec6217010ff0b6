//! Automation of this repository: one verb per thing that a contributor or CI does.
//!
//! Invariants: every verb runs without a question and without standard input; what a
//! machine lacks is installed through its ordinary package clients and said in one line;
//! nothing is written outside `target/`, `node_modules/` and the console's `dist/`.
#![expect(clippy::print_stdout, reason = "a command line tool talks on standard output")]

mod bench;
mod chaos;
mod ci;
mod cluster;
mod console;
mod counts;
mod daemon;
mod deny;
mod deploy_check;
mod fresh;
mod fuzz;
mod image;
mod lint;
mod run;
mod runtimes;
mod services;
mod test;
mod tidy;
mod tools;
mod up;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{test::Suite, workspace::Workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask up                          build what is missing, start one node
  cargo xtask up -- --http 127.0.0.1:0    the same on a free port
  cargo xtask test                        every test that runs on this machine
  cargo xtask test journal                Rust tests with `journal` in their name
  cargo xtask test --suite browser        one suite only
  cargo xtask services up                 the real servers that tests run against
  cargo xtask cluster up --nodes 3        the same, and three nodes
  cargo xtask runtimes install            the agent programs that tests drive
  cargo xtask image                       the image that containers of Tasks run
  cargo xtask chaos all --seed 7          real nodes under faults, a verdict per invariant
  cargo xtask tidy                        order of crates, sizes, links, banned words
  cargo xtask deploy-check                rules, units, containers, manifests of deploy/
  cargo xtask bless                       accept changed snapshots
  cargo xtask ci                          exactly what CI runs";

/// Automation of the Troupe repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Builds what is missing and starts one node: console, API, built-in model
    Up {
        /// Passed on to `troupe up`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs the tests: Rust, console, real clients, browser
    Test {
        /// Only Rust tests whose name contains this
        filter: Option<String>,
        /// Only these suites (repeatable)
        #[arg(long, value_enum)]
        suite: Vec<Suite>,
        /// The long form of the Rust tests of that name: more rounds, no limit on a test's time
        #[arg(long, requires = "filter", conflicts_with = "suite")]
        long: bool,
    },
    /// Installs, starts and ends the servers that tests run against
    Services {
        #[command(subcommand)]
        verb: services::Verb,
    },
    /// Starts a cluster on this machine: a CQL server, Redis, and nodes; ends it
    Cluster {
        #[command(subcommand)]
        verb: cluster::Verb,
    },
    /// Installs the agent programs that tests drive, at pinned versions
    Runtimes {
        #[command(subcommand)]
        verb: runtimes::Verb,
    },
    /// Makes the image that containers of Tasks run, in a Docker engine (as root)
    Image(image::ImageArgs),
    /// Runs real nodes, a store and Redis under faults (as root); `list` names the scenarios
    Chaos(chaos::ChaosArgs),
    /// Checks format, clippy and the console's types and lints
    Lint,
    /// Checks the rules that a compiler does not: order of crates, sizes, links
    Tidy,
    /// Checks bans, licences and sources of the dependencies
    Deny,
    /// Builds the API documentation, warnings are errors
    Docs,
    /// Runs the Rust tests and accepts what their snapshots changed to
    Bless {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Runs the benchmarks in release mode; without a name, lists them
    #[command(after_help = bench::list())]
    Bench {
        /// A name of the list, or `all`
        name: Option<String>,
        /// A debug build, and small counts for `link`, `cql` and `cluster`: whether they run
        #[arg(long)]
        smoke: bool,
    },
    /// Runs the fuzz targets side by side; findings stay below `target/fuzz-runs`
    Fuzz {
        /// Only this target
        target: Option<String>,
        /// How long each target runs
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Has what lies in `deploy/` judged: rules, units, containers, manifests
    DeployCheck,
    /// What CI runs, verbatim: tidy, deny, deploy, lint, fuzz, test, chaos (a part of it)
    Ci,
    /// Runs the README's two commands in an empty Debian 12 (root only, on demand)
    FreshRoot(fresh::FreshArgs),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> Result<()> {
    let ws = Workspace::find()?;
    match verb {
        Verb::Up { args } => up::up(&ws, &args),
        Verb::Test { filter: Some(filter), long: true, .. } => test::long(&ws, &filter),
        Verb::Test { filter, suite, .. } => test::verb(&ws, filter.as_deref(), &suite),
        Verb::Services { verb } => services::verb(&ws, &verb),
        Verb::Cluster { verb } => cluster::verb(&ws, &verb),
        Verb::Runtimes { verb } => runtimes::verb(&ws, verb),
        Verb::Image(args) => image::image(&ws, &args),
        Verb::Chaos(args) => chaos::chaos(&ws, &args),
        Verb::Lint => lint::lint(&ws),
        Verb::Tidy => tidy::tidy(&ws),
        Verb::Deny => deny::deny(&ws),
        Verb::Docs => lint::docs(&ws),
        Verb::Bless { filter } => test::bless(&ws, filter.as_deref()),
        Verb::Bench { name, smoke } => bench::bench(&ws, name.as_deref(), smoke),
        Verb::Fuzz { target, seconds } => fuzz::fuzz(&ws, target.as_deref(), seconds),
        Verb::DeployCheck => deploy_check::deploy_check(&ws),
        Verb::Ci => ci::ci(&ws),
        Verb::FreshRoot(args) => fresh::fresh_root(&ws, &args),
    }
}
