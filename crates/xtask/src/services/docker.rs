//! A Docker engine: the machine's own if it answers us, else Debian's, with everything of its
//! own below `target/services/docker`.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Place, Service};
use crate::{
    tools::{apt, is_root, which},
    workspace::Workspace,
};

const PROGRAM: &str = "dockerd";
/// Where the machine's own engine listens.
const MACHINES: &str = "/var/run/docker.sock";
const PROBE: Duration = Duration::from_secs(2);
const ASKED: &[u8] = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.0 200";

#[derive(Debug)]
pub(crate) struct Docker;

impl Service for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn variable(&self) -> &'static str {
        "TROUPE_TEST_DOCKER"
    }

    fn ports(&self) -> usize {
        0
    }

    fn start_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn found(&self) -> Option<String> {
        answers(Path::new(MACHINES)).unwrap_or(false).then(|| format!("unix://{MACHINES}"))
    }

    fn install(&self, _: &Workspace) -> Result<()> {
        ensure!(
            is_root(),
            "only root can start a Docker engine: start the machine's and see that you may use it"
        );
        if which(PROGRAM).is_none() {
            apt(&["docker.io", "iptables"])?;
        }
        which(PROGRAM).map(drop).context("apt installed docker.io, yet there is no dockerd")
    }

    fn command(&self, _: &Workspace, place: &Place) -> Result<Command> {
        let mut command = Command::new(PROGRAM);
        for (option, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "dockerd.pid"),
            ("--config-file", "no.json"),
        ] {
            command.arg(option).arg(place.dir.join(name));
        }
        // Left by one that was killed; the lock beside our files says that none runs.
        let pidfile = place.dir.join("dockerd.pid");
        if pidfile.exists() {
            std::fs::remove_file(&pidfile).context("remove a stale pid file")?;
        }
        // A file that is named has to be there.
        std::fs::write(place.dir.join("no.json"), "{}\n").context("write no settings")?;
        // No network of its own: another engine's stays as it is.
        command.args(["--bridge", "none", "--host", &self.address(place)]);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        answers(&socket(place)).unwrap_or(false)
    }

    fn probe(&self) -> (&'static [u8], &'static [u8]) {
        (ASKED, ANSWER)
    }

    fn address(&self, place: &Place) -> String {
        format!("unix://{}", socket(place).display())
    }
}

fn socket(place: &Place) -> PathBuf {
    place.dir.join("docker.sock")
}

fn answers(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PROBE))?;
    stream.write_all(ASKED)?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == ANSWER)
}
