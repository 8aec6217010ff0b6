//! `troupe-edge`: makes this machine a device of a cluster, and keeps it one.

mod config;
mod control;
mod doctor;
mod join;
mod keep;
mod policy;
mod run;
mod service;
mod show;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  troupe-edge join troupe://host:8443/TOKEN    become a device and work, until Ctrl-C
  troupe-edge run                              work again
  troupe-edge service install                  work whenever you are logged in
  troupe-edge status                           link, executions, outbox
  troupe-edge doctor                           what is wrong, and the way out
  troupe-edge policy check                     read the policy file as the agent would

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not joined or not running, 4 refused by the cluster.";

/// Makes this machine a device of a Troupe cluster.
#[derive(Debug, Parser)]
#[command(name = "troupe-edge", version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args, Clone, Debug)]
struct Global {
    /// Where the device keeps its key, its outbox and its workspaces
    #[arg(long, global = true, env = "TROUPE_EDGE_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The policy file [default: ~/.config/troupe-edge/policy.toml]
    #[arg(long, global = true, env = "TROUPE_EDGE_POLICY", value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How to answer
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// What to log, as in `info,troupe_edge=debug`
    #[arg(
        long,
        global = true,
        env = "TROUPE_EDGE_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Becomes a device with an invitation, and works
    Join(join::JoinArgs),
    /// Works, until it is stopped
    Run,
    /// Says how the running agent is
    Status,
    /// Looks for what is wrong
    Doctor,
    /// The policy file of this device
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// The agent as a service of your user (systemd)
    #[command(subcommand)]
    Service(service::ServiceVerb),
    /// Forgets the cluster; with --purge also outbox and workspaces
    Leave(join::LeaveArgs),
}

/// A failure with an exit code of its own.
#[derive(Debug)]
struct Coded(u8, String);

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Coded {}

/// Not joined, or not running.
const ABSENT: u8 = 3;
/// Refused by the cluster.
const REFUSED: u8 = 4;

fn coded(code: u8, text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Coded(code, text.into()))
}

/// Threads that block are not given back: there might be none to be had later.
const FOR_GOOD: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().thread_keep_alive(FOR_GOOD);
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    // From here on there is one thread at least that can block, though a runtime may have taken
    // every process that this machine gives.
    drop(runtime.spawn_blocking(|| {}));
    let done = runtime.block_on(Box::pin(dispatch(global, verb)));
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let code = error.downcast_ref::<Coded>().map_or(1, |coded| coded.0);
            ExitCode::from(code)
        }
    }
}

async fn dispatch(global: Global, verb: Verb) -> anyhow::Result<()> {
    let home = config::Home::new(&global)?;
    match verb {
        Verb::Join(args) => join::join(&home, &global, args).await,
        Verb::Run => run::run(&home, &global).await,
        Verb::Status => show::status(&home, &global).await,
        Verb::Doctor => doctor::doctor(&home, &global).await,
        Verb::Policy(verb) => policy::policy(&home, &global, &verb),
        Verb::Service(verb) => service::service(&home, &global, &verb),
        Verb::Leave(args) => join::leave(&home, &global, &args).await,
    }
}
