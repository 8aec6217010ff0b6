//! Debian's Redis, on loopback, without anything on disk.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Place, Service};
use crate::{
    tools::{apt, which},
    workspace::Workspace,
};

const PROGRAM: &str = "redis-server";
/// How long one probe of its port may take.
const PROBE: Duration = Duration::from_secs(2);
const ANSWER: &[u8] = b"+PONG\r\n";

#[derive(Debug)]
pub(crate) struct Redis;

impl Service for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn variable(&self) -> &'static str {
        "TROUPE_TEST_REDIS"
    }

    fn ports(&self) -> usize {
        1
    }

    fn start_limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn install(&self, _: &Workspace) -> Result<()> {
        if which(PROGRAM).is_none() {
            apt(&[PROGRAM])?;
        }
        which(PROGRAM).map(drop).context("apt installed redis-server, yet it is not on the path")
    }

    fn command(&self, _: &Workspace, place: &Place) -> Result<Command> {
        let port = place.ports.first().context("a port is needed")?;
        let mut command = Command::new(PROGRAM);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&place.dir);
        // Tests leave keys behind that go by themselves; should they not, they go first.
        command.args(["--maxmemory", "128mb", "--maxmemory-policy", "volatile-ttl"]);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        place.ports.first().is_some_and(|port| answers(*port).unwrap_or(false))
    }

    fn probe(&self) -> (&'static [u8], &'static [u8]) {
        (b"PING\r\n", ANSWER)
    }

    fn address(&self, place: &Place) -> String {
        format!("redis://127.0.0.1:{}", place.ports.first().copied().unwrap_or_default())
    }
}

fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == ANSWER)
}
