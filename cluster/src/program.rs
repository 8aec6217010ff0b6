//! The command line of the program.

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use troupe_cli::GlobalArgs;
use troupe_store_sqlite::SqliteOptions;

use crate::{node, process::exit_code, reset, restore, up};

const EXAMPLES: &str = "\
Examples:
  troupe up                                    one node on http://127.0.0.1:8080
  troupe login                                 remember who you are
  troupe run \"What can you do?\"                a first task, with the demo model
  troupe model add anthropic --model claude-sonnet-4 --key-from-env ANTHROPIC_API_KEY
  troupe apply -f team.yaml                    your own team
  troupe run \"Plan a parser\" --team plan-then-build";

/// A self-hosted platform on which teams of AI agents work.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts one node with everything in it
    Up(Box<up::UpArgs>),
    /// Fills the empty data directory of `troupe up` from a backup
    Restore(restore::RestoreArgs),
    /// Sets the password of a user of `troupe up`, for who lost theirs
    ResetPassword(reset::ResetArgs),
    /// Runs one node of a cluster, makes the keys of one, or fills its database from a backup
    Node(Box<node::NodeArgs>),
    #[command(flatten)]
    Client(troupe_cli::Verb),
}

#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    exit_code(&error)
}

/// Does what a command line says, the program's name first, and tells how the process ends.
/// Embedded stores are opened with these options. A wrong command line ends the process at once.
#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
pub fn run(args: impl IntoIterator<Item = OsString>, store: SqliteOptions) -> ExitCode {
    let command = Cli::command();
    let matches = command.clone().get_matches_from(args);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = match cli.verb {
        Verb::Node(args) => runtime.block_on(node::run(*args)),
        Verb::Up(args) => runtime.block_on(up::run(*args, store)).map_err(failed),
        Verb::Restore(args) => runtime.block_on(restore::run(args, store)).map_err(failed),
        Verb::ResetPassword(args) => runtime.block_on(reset::run(args, store)).map_err(failed),
        Verb::Client(verb) => runtime
            .block_on(Box::pin(troupe_cli::run(verb, cli.global, command)))
            .map_err(|error| {
                eprintln!("error: {}", troupe_telemetry::error_chain(&error));
                error.exit_code()
            }),
    };
    // A reader that hangs on standard input must not keep the process.
    runtime.shutdown_background();
    ended.err().unwrap_or(ExitCode::SUCCESS)
}
