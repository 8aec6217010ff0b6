//! What is found on a machine.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{process::Command, time::timeout};
use troupe_wire::device::{Capabilities, Tool, limits::DEVICE_NAME_BYTES_MAX};

use crate::{engine::Engine, options::EdgeOptions};

/// How long a program may take to say its version.
const VERSION_MAX: Duration = Duration::from_secs(10);
/// Programs that are looked for besides the runtimes.
const PROGRAMS: &[&str] = &["git", "docker", "node", "python3", "cargo", "go"];

/// The version in what `program --version` says: its first word with a digit in front.
fn version_of(said: &str) -> String {
    let words = said.split(|c: char| c.is_whitespace() || c == ',' || c == '(');
    let words = words.map(|word| word.trim_start_matches("go").trim_start_matches('v'));
    let mut versions = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut version = versions.next().unwrap_or_default().to_owned();
    version.truncate(version.floor_char_boundary(DEVICE_NAME_BYTES_MAX));
    version
}

async fn program(name: &'static str) -> Option<Tool> {
    let asked = Command::new(name)
        .arg(if name == "go" { "version" } else { "--version" })
        // Nowhere: some (rustup's cargo, go) fetch the toolchain that a project's files ask for.
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(VERSION_MAX, asked).await.ok()?.ok()?;
    let version = version_of(&String::from_utf8_lossy(&output.stdout));
    output.status.success().then(|| Tool { name: name.to_owned(), version })
}

async fn engine(engine: Arc<dyn Engine>) -> Option<Tool> {
    match engine.probe().await {
        Ok(found) => Some(Tool { name: found.kind.tool(), version: found.version }),
        Err(error) => {
            tracing::debug!(%error, "a runtime was not found");
            None
        }
    }
}

/// Looks for runtimes and programs; takes as long as the slowest of them.
pub async fn find_tools(engines: &[Arc<dyn Engine>]) -> Vec<Tool> {
    let mut looking = tokio::task::JoinSet::new();
    for one in engines {
        looking.spawn(engine(Arc::clone(one)));
    }
    for name in PROGRAMS {
        looking.spawn(program(name));
    }
    let mut tools: Vec<Tool> = looking.join_all().await.into_iter().flatten().collect();
    tools.sort();
    tools.dedup_by(|a, b| a.name == b.name);
    tools
}

/// What the machine calls itself.
#[must_use]
pub fn host_name() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let named = named.trim();
    if named.is_empty() { "device".to_owned() } else { named.to_owned() }
}

/// What the cluster is told about this device.
pub async fn capabilities(options: &EdgeOptions) -> Capabilities {
    Capabilities {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        host: options.host.clone(),
        tools: find_tools(&options.engines).await,
        labels: options.labels.clone(),
        slots: options.slots,
        draining: false,
    }
}

/// "claude 2.1.330, git 2.47.0", for people.
#[must_use]
pub fn tools_line(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return "no tools".to_owned();
    }
    let words = tools.iter().map(|tool| match tool.version.as_str() {
        "" => tool.name.clone(),
        version => format!("{} {version}", tool.name),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("git version 2.47.0\n", "2.47.0"),
            ("2.1.330 (Claude Code)", "2.1.330"),
            ("codex-cli 0.169.0", "0.169.0"),
            ("Docker version 28.1.1, build abc", "28.1.1"),
            ("v22.4.0", "22.4.0"),
            ("go version go1.25.1 linux/amd64", "1.25.1"),
            ("nothing", ""),
        ] {
            assert_eq!(version_of(said), version, "{said}");
        }
    }
}
