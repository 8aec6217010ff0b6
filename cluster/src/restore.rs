//! `troupe restore`: fills the empty data directory of a node that is alone from a backup.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tells how far it is")]

use std::{
    fs::File,
    io::{BufReader, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use troupe_store::{
    Stores,
    backup::{self, Kind, Totals, Verified},
};
use troupe_store_sqlite::SqliteOptions;
use troupe_types::Uuid;

use crate::process::{data_dir, open_embedded};

/// Bytes that are read from the file at once.
const READ_BYTES: usize = 1024 * 1024;

/// Arguments of `troupe restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cp -a /backup/keys ~/.local/share/troupe/keys
  troupe restore troupe-monday.backup
  troupe restore troupe-monday.backup --data-dir ./data --new-keys

The data directory must hold nothing but the keys, which are no part of a backup. The file is
verified before anything is written. A restore that was interrupted is run again with the same
file; until then `troupe up` refuses to start. Then: troupe up.
A cluster on a CQL database: troupe node restore.")]
pub(crate) struct RestoreArgs {
    /// What `troupe admin backup` made
    file: PathBuf,
    /// Where everything durable will lie [default: ~/.local/share/troupe]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The keys are lost: sealed secrets stay unreadable, people log in anew, devices join anew
    #[arg(long)]
    new_keys: bool,
}

/// Runs the verb.
pub(crate) async fn run(args: RestoreArgs, options: SqliteOptions) -> Result<()> {
    let dir = data_dir(args.data_dir, args.config.as_deref())?;
    let backup = verified(&args.file)?;
    let keys = dir.join("keys");
    if !args.new_keys && !keys.is_dir() {
        bail!(
            "{} is missing: copy the keys there that the backed-up node had, without them what it \
             sealed cannot be read. --new-keys: go on without",
            keys.display()
        );
    }
    let store = open_embedded(dir.clone(), options).await?;
    let done = load(&store.stores(), backup).await;
    tokio::task::spawn_blocking(move || store.close()).await?;
    done?;
    println!("start it with: troupe up --data-dir {}", dir.display());
    Ok(())
}

/// The file, read to its end.
pub(crate) fn verified(path: &Path) -> Result<Verified<BufReader<File>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let file = BufReader::with_capacity(READ_BYTES, file);
    let verified = Verified::check(file).with_context(|| path.display().to_string())?;
    let head = verified.head();
    println!("whole: made {} by node {}, troupe {}", head.at, head.node, head.build);
    Ok(verified)
}

/// Writes it into empty stores and tells how far it is.
pub(crate) async fn load(stores: &Stores, backup: Verified<BufReader<File>>) -> Result<()> {
    let totals = *backup.totals();
    let tells = std::io::stderr().is_terminal();
    let mut told = 0;
    let step = |now: &Totals, whole: &Totals| {
        let percent = now.bytes.saturating_mul(100) / whole.bytes.max(1);
        if tells && percent > told {
            told = percent;
            eprint!("\rrestored {percent} %");
        }
    };
    let done = backup::load(stores, backup, Uuid::new_v4(), step).await;
    if tells && told > 0 {
        eprintln!();
    }
    done?;
    let [journals, entries, rows, blobs] =
        [Kind::Entity, Kind::Entry, Kind::Row, Kind::Blob].map(|kind| totals.of(kind));
    println!("restored {journals} journals, {entries} entries, {rows} rows, {blobs} blobs");
    Ok(())
}
