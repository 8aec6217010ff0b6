//! `admin backup`

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};
use troupe_store::backup::{FORMAT, Head, Kind, Totals, verify};
use troupe_types::{Clock as _, SystemClock};

use super::long;
use crate::{
    args::{BackupArgs, Format},
    client::Client,
    error::CliError,
    output,
};

const PATH: &str = "/api/v1/admin/backup";
/// How long the node may be silent in the middle of it.
const SILENCE_MAX: Duration = Duration::from_secs(120);

pub(super) async fn run(client: &Client, format: Format, args: BackupArgs) -> Result<(), CliError> {
    if args.verify {
        let (head, totals) = verified(&args.file)?;
        print(format, &args.file, &head, &totals);
        return Ok(());
    }
    if args.file.as_os_str() == "-" {
        return receive(client, &mut io::stdout().lock()).await;
    }
    if !args.force && args.file.exists() {
        let text = format!("{} is there; --force replaces it", args.file.display());
        return Err(CliError::Usage(text));
    }
    let part = Part::begin(&args.file)?;
    receive(client, &mut &part.file).await?;
    let (head, totals) = part.keep()?;
    print(format, &args.file, &head, &totals);
    Ok(())
}

/// Writes what the node gives. A body that ends early is an error, not an end.
async fn receive(client: &Client, to: &mut impl Write) -> Result<(), CliError> {
    let mut answer = client.download(Method::POST, PATH).await?;
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {bytes} received, {bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    loop {
        let piece = tokio::time::timeout(SILENCE_MAX, answer.chunk()).await;
        let piece = piece.map_err(|e| CliError::local("the node fell silent", e))?;
        let cut = |e| CliError::local("the backup was cut off; the node's log says why", e);
        let Some(piece) = piece.map_err(cut)? else { break };
        to.write_all(&piece).map_err(unwritten)?;
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    to.flush().map_err(unwritten)
}

fn unwritten(error: io::Error) -> CliError {
    let what = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "there is no room for the backup; nothing of it is kept"
        }
        _ => "the backup cannot be written",
    };
    CliError::local(what, error)
}

/// A file under a name for the time being; it goes unless it is kept.
struct Part<'a> {
    file: File,
    path: PathBuf,
    end: &'a Path,
    kept: bool,
}

impl<'a> Part<'a> {
    fn begin(end: &'a Path) -> Result<Self, CliError> {
        let mut path = end.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let what = format!("{} cannot be made", path.display());
        let failed = |e: io::Error| CliError::local(what.clone(), e);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        file.try_lock().map_err(|e| CliError::local("another backup is written there", e))?;
        // Of an earlier run perhaps.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        file.set_len(0).map_err(failed)?;
        Ok(Self { file, path, end, kept: false })
    }

    /// It gets its name once it is on disk and whole as it lies there.
    fn keep(mut self) -> Result<(Head, Totals), CliError> {
        self.file.sync_all().map_err(unwritten)?;
        let found = verified(&self.path)?;
        fs::rename(&self.path, self.end).map_err(unwritten)?;
        self.kept = true;
        let dir = self.end.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = File::open(dir.unwrap_or(Path::new(".")));
        dir.and_then(|dir| dir.sync_all()).map_err(unwritten)?;
        Ok(found)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: the next backup of this name begins with it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn verified(path: &Path) -> Result<(Head, Totals), CliError> {
    let failed = |e| CliError::local(path.display().to_string(), e);
    let file = File::open(path).map_err(failed)?;
    let broken = |e| CliError::local(path.display().to_string(), e);
    verify(BufReader::with_capacity(1024 * 1024, file)).map_err(broken)
}

fn print(format: Format, path: &Path, head: &Head, totals: &Totals) {
    let now = SystemClock::new().now().as_millis();
    let seconds = u64::try_from(now.saturating_sub(head.at.as_millis())).unwrap_or(0) / 1_000;
    let table = || {
        let counts = [
            (Kind::Entity, "journals"),
            (Kind::Entry, "entries"),
            (Kind::Task, "tasks"),
            (Kind::Row, "rows"),
            (Kind::Blob, "blobs"),
            (Kind::DeadLetter, "dead letters"),
        ];
        let counts = counts.map(|(kind, what)| format!("{} {what}", totals.of(kind)));
        format!(
            "{}: whole, format {FORMAT}, {} bytes\nmade {} ({} ago) by node {}, troupe {}\n{}\n",
            path.display(),
            totals.bytes,
            head.at,
            long(seconds),
            head.node,
            head.build,
            counts.join(", ")
        )
    };
    let name = || vec![path.display().to_string()];
    output::print(format, &value(path, head, totals), table, name);
}

fn value(path: &Path, head: &Head, totals: &Totals) -> Value {
    json!({
        "file": path.display().to_string(),
        "format": FORMAT,
        "id": head.id,
        "made_at": head.at,
        "node": head.node,
        "build": head.build,
        "bytes": totals.bytes,
        "journals": totals.of(Kind::Entity),
        "entries": totals.of(Kind::Entry),
        "snapshots": totals.of(Kind::Snapshot),
        "wake_rows": totals.of(Kind::Wake),
        "tasks": totals.of(Kind::Task),
        "rows": totals.of(Kind::Row),
        "blobs": totals.of(Kind::Blob),
        "dead_letters": totals.of(Kind::DeadLetter),
    })
}
