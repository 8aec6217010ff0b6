//! `service`: a systemd unit of the user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use serde_json::json;

use crate::{Global, config::Home, show::say};

const UNIT: &str = "troupe-edge.service";

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceVerb {
    /// Writes the unit, and starts it
    Install {
        /// Writes it only
        #[arg(long)]
        no_start: bool,
    },
    /// Stops it, and removes the unit
    Uninstall,
    /// Prints the unit
    Show,
}

/// Quoted as systemd reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// The same for a word of a command line, where systemd puts variables in; not in the program's path.
fn word(path: &Path) -> String {
    quoted(&path.to_string_lossy()).replace('$', "$$")
}

fn unit(home: &Home) -> Result<String> {
    let program = std::env::current_exe().context("the path of this program")?;
    let program = quoted(&program.to_string_lossy());
    let (dir, policy) = (word(&home.dir), word(&home.policy));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = quoted(&format!("PATH={}", path.to_string_lossy()));
    Ok(format!(
        "[Unit]\n\
         Description=Troupe device agent\n\
         Wants=network-online.target\n\
         After=network-online.target\n\n\
         [Service]\n\
         ExecStart={program} run --dir {dir} --policy {policy}\n\
         Environment={path}\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # Not joined, or refused: starting again does not help.\n\
         RestartPreventExitStatus=2 3 4\n\
         # The agent ends its runs itself; what it leaves is ended with it.\n\
         KillMode=mixed\n\
         TimeoutStopSec=30\n\
         Delegate=yes\n\
         UMask=0077\n\n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

fn unit_path() -> Result<PathBuf> {
    let home = std::env::home_dir().ok_or_else(|| anyhow!("there is no home directory"))?;
    Ok(home.join(".config/systemd/user").join(UNIT))
}

fn systemctl(args: &[&str]) -> Result<()> {
    let done = Command::new("systemctl").arg("--user").args(args).output();
    let done = done.context("systemctl is not here: start `troupe-edge run` by other means")?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("systemctl --user {}: {}", args.join(" "), said.trim());
    }
    Ok(())
}

pub(crate) fn service(home: &Home, global: &Global, verb: &ServiceVerb) -> Result<()> {
    let path = unit_path()?;
    match verb {
        ServiceVerb::Show => {
            let unit = unit(home)?;
            say(global.output, unit.trim_end(), &json!({"unit": unit, "path": path}))
        }
        ServiceVerb::Install { no_start } => {
            home.facts()?;
            let dir = path.parent().ok_or_else(|| anyhow!("{}", path.display()))?;
            fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
            fs::write(&path, unit(home)?).with_context(|| format!("{}", path.display()))?;
            if !no_start {
                systemctl(&["daemon-reload"])?;
                systemctl(&["enable", "--now", UNIT])?;
            }
            let text = format!(
                "wrote {}; to work while nobody is logged in: loginctl enable-linger",
                path.display()
            );
            say(global.output, &text, &json!({"installed": path, "started": !no_start}))
        }
        ServiceVerb::Uninstall => {
            if let Err(error) = systemctl(&["disable", "--now", UNIT]) {
                tracing::debug!(%error, "it was not running");
            }
            crate::show::remove(&path)?;
            say(global.output, &format!("removed {}", path.display()), &json!({"removed": path}))
        }
    }
}
