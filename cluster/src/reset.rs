//! `troupe reset-password`: for whoever lost theirs and holds the data directory.
#![expect(clippy::print_stdout, reason = "tells what it did")]

use std::{path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use clap::Args;
use troupe_cli::CliError;
use troupe_services::{
    Problem,
    auth::{self, AuthError},
};
use troupe_store::Directory;
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_types::SystemClock;

use crate::{
    parts::whole,
    process::{data_dir, open_embedded},
};

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
    let dir = data_dir(args.data_dir, args.config.as_deref())?;
    // Opened, it would be made.
    if !SqliteStore::is_in(&dir) {
        bail!("--data-dir: {} holds no data of a node", dir.display());
    }
    let store = open_embedded(dir, options).await?;
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
    let told = |error| refused(name, error);
    let user = auth::find_user(Arc::clone(&directory), name).await.map_err(told)?;
    let prompt = format!("New password of {}: ", user.user_name);
    let new = troupe_cli::verbs::secret(whose.password_stdin, &prompt)?;
    let clock = SystemClock::new();
    let user = auth::reset_password(directory, &clock, name, &new).await.map_err(told)?;
    println!("{} has a new password; their sessions have ended", user.user_name);
    Ok(())
}

/// Told as a node would tell it, but for the name, which a path has there.
fn refused(name: &str, error: AuthError) -> CliError {
    let mut problem = Problem::from(error);
    if problem.status == 404 {
        problem.detail = format!("there is no user `{name}`");
    }
    CliError::Problem(Box::new(problem))
}
