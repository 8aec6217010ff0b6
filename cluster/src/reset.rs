//! `troupe reset-password`: for whoever lost theirs and holds the data directory.
#![expect(clippy::print_stdout, reason = "tells what it did")]

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use thiserror::Error;
use troupe_cli::CliError;
use troupe_services::auth::{self, AuthError};
use troupe_store::Directory;
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_types::SystemClock;

use crate::{config::Config, parts::whole, process::default_data_dir};

// As for client verbs.
const FAILURE: u8 = 1;
const NOT_FOUND: u8 = 3;
const CONFLICT: u8 = 5;

/// Whose, and where the new one comes from.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Name of the user
    user: String,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Arguments of `troupe reset-password`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  troupe reset-password admin
  echo \"$PASSWORD\" | troupe reset-password ada --password-stdin --data-dir ./data

The node must not run. All sessions of the user end; API keys stay, `troupe key` takes them away.
Who knows the password and wants another changes it in the console; an administrator sets that of
any other user there. A cluster on a CQL database: troupe node reset-password.")]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    whose: Whose,
    /// Where everything durable lies [default: ~/.local/share/troupe]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) async fn run(args: ResetArgs, options: SqliteOptions) -> Result<()> {
    let config = Config::load(args.config.as_deref())
        .map_err(|faults| anyhow::anyhow!("configuration: {faults}"))?;
    let told = args.data_dir.unwrap_or(config.data_dir);
    let told = Some(told).filter(|dir| !dir.as_os_str().is_empty());
    let dir = told.or_else(default_data_dir).context("--data-dir: there is no home directory")?;
    // Opened, it would be made.
    if !SqliteStore::is_in(&dir) {
        bail!("--data-dir: {} holds no data of a node", dir.display());
    }
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&dir, &options)).await?;
    let store =
        store.map_err(|error| anyhow::anyhow!("{}", troupe_telemetry::error_chain(&error)))?;
    let stores = store.stores();
    let done = match whole(&stores).await {
        Ok(_) => reset(stores.directory, &args.whose).await,
        Err(error) => Err(error),
    };
    tokio::task::spawn_blocking(move || store.close()).await?;
    done
}

/// Asks for the password once it is known that it can be set.
pub(crate) async fn reset(directory: Arc<dyn Directory>, whose: &Whose) -> Result<()> {
    let name = &whose.user;
    let told = |error| refused(name, &error);
    let user = auth::find_user(Arc::clone(&directory), name).await.map_err(told)?;
    let prompt = format!("New password of {}: ", user.user_name);
    let new = troupe_cli::verbs::secret(whose.password_stdin, &prompt)?;
    let clock = SystemClock::new();
    let user = auth::reset_password(directory, &clock, name, &new).await.map_err(told)?;
    println!("{} has a new password; their sessions have ended", user.user_name);
    Ok(())
}

/// Why nothing was changed.
#[derive(Debug, Error)]
#[error("{text}")]
struct Refused {
    code: u8,
    text: String,
}

fn refused(name: &str, error: &AuthError) -> Refused {
    let (code, text) = match error {
        AuthError::NotFound(_) => (NOT_FOUND, format!("there is no user `{name}`")),
        AuthError::Invalid { path, message } => (FAILURE, format!("{path}: {message}")),
        AuthError::Conflict(why) => (CONFLICT, (*why).to_owned()),
        other => (FAILURE, troupe_telemetry::error_chain(other)),
    };
    Refused { code, text }
}

/// As for client verbs.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<CliError>() {
        return error.exit_code();
    }
    error.downcast_ref::<Refused>().map_or(ExitCode::FAILURE, |told| ExitCode::from(told.code))
}
