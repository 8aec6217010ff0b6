//! `skill upload|download`: Skills as packages.
#![expect(clippy::print_stderr, reason = "what was written where goes to standard error")]

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use troupe_packages::{PACKAGE_BYTES_MAX, pack, read};

use crate::{
    args::{Format, SkillDownloadArgs, SkillUploadArgs, SkillVerb},
    client::{Client, segment},
    error::CliError,
    output,
};

/// How long ten megabytes may take.
const BODY_MAX: Duration = Duration::from_secs(300);

pub(super) async fn run(client: &Client, format: Format, verb: SkillVerb) -> Result<(), CliError> {
    match verb {
        SkillVerb::Upload(args) => upload(client, format, args).await,
        SkillVerb::Download(args) => download(client, format, args).await,
    }
}

async fn upload(client: &Client, format: Format, args: SkillUploadArgs) -> Result<(), CliError> {
    let bytes = package(&args.path)?;
    // Before megabytes are sent that the node would refuse.
    let package = read(&bytes).map_err(|error| refused(&args.path, error.to_string()))?;
    let name = args.name.unwrap_or(package.folder);
    let path = format!(
        "/api/v1/kinds/skills/upload?namespace={}&name={}",
        segment(&args.namespace),
        segment(&name)
    );
    let made: Value = client.post_package(&path, bytes).await?;
    let size = made["status"]["fileSize"].as_u64().unwrap_or_default();
    let table = || format!("skill/{name} uploaded, {size} bytes\n");
    output::print(format, &made, table, || vec![format!("skill/{name}")]);
    Ok(())
}

/// A ZIP as it is, or one of a folder.
fn package(path: &Path) -> Result<Vec<u8>, CliError> {
    let unread = |error| CliError::local(format!("{} cannot be read", path.display()), error);
    let meta = fs::metadata(path).map_err(unread)?;
    if meta.is_dir() {
        return pack(path).map_err(|error| refused(path, chain(&error)));
    }
    if meta.len() > PACKAGE_BYTES_MAX as u64 {
        let most = PACKAGE_BYTES_MAX >> 20;
        return Err(refused(path, format!("the package is larger than {most} MiB")));
    }
    fs::read(path).map_err(unread)
}

fn refused(path: &Path, why: String) -> CliError {
    CliError::Usage(format!("{}: {why}", path.display()))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

async fn download(
    client: &Client,
    format: Format,
    args: SkillDownloadArgs,
) -> Result<(), CliError> {
    let to_stdout = args.file.as_deref().is_some_and(|file| file.as_os_str() == "-");
    let file = args.file.unwrap_or_else(|| format!("{}.zip", args.name).into());
    if !to_stdout && !args.force && file.exists() {
        return Err(CliError::Usage(format!("{} is there; --force replaces it", file.display())));
    }
    let (namespace, name) = (segment(&args.namespace), segment(&args.name));
    let skill: Value = client.get(&format!("/api/v1/namespaces/{namespace}/skills/{name}")).await?;
    let id = skill["metadata"]["uid"].as_str().unwrap_or_default();
    let path = format!("/api/v1/kinds/skills/{}/download", segment(id));
    let answer = client.download(Method::GET, &path).await?;
    let body = tokio::time::timeout(BODY_MAX, answer.bytes()).await;
    let body = body.map_err(|late| CliError::link("the node fell silent", late))?;
    let bytes = body.map_err(|cut| CliError::link("the package was cut off", cut))?;
    if to_stdout {
        return io::stdout().write_all(&bytes).map_err(|error| unwritten(&file, error));
    }
    keep(&file, &bytes).map_err(|error| unwritten(&file, error))?;
    eprintln!("{} written, {} bytes", file.display(), bytes.len());
    let told = json!({"file": file, "bytes": bytes.len(), "sha256": skill["status"]["fileHash"]});
    output::print(format, &told, String::new, || vec![file.display().to_string()]);
    Ok(())
}

/// Whole or not at all.
fn keep(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = NamedTempFile::new_in(dir)?;
    part.write_all(bytes)?;
    part.as_file().sync_all()?;
    part.persist(file)?;
    Ok(())
}

fn unwritten(file: &Path, error: io::Error) -> CliError {
    CliError::local(format!("{} cannot be written", file.display()), error)
}
