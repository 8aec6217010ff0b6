//! Processes that outlive this program: what is written down of them, and how they end.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// How often a process that starts or ends is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// How long a server may take to end by itself before it is killed.
pub(crate) const END_WAIT: Duration = Duration::from_secs(20);
/// Ports looked at for those that are asked for.
const PORT_TRIES: usize = 200;
/// Lines of a log that are shown when something does not start.
const LOG_LINES: usize = 15;

/// What is written down about an instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) address: String,
    pub(crate) ports: Vec<u16>,
    pub(crate) pid: u32,
    /// When the kernel says that the process began: process ids come again.
    pub(crate) began: u64,
}

pub(crate) fn is_alive(record: &Record) -> bool {
    record.pid != 0 && began(record.pid) == Some(record.began)
}

/// When a process began, in ticks since the machine did; `None` if it is gone or a zombie.
pub(crate) fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state ppid ...": the name may hold blanks and brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok())?
}

/// Ends a process: SIGTERM, and SIGKILL if it takes longer than `wait`.
pub(crate) fn end(record: &Record, name: &str, wait: Duration) -> Result<()> {
    for signal in ["TERM", "KILL"] {
        let start = Instant::now();
        while is_alive(record) && start.elapsed() < wait {
            // The shell's own kill: a minimal machine has no program of that name.
            let mut kill = Command::new("sh");
            kill.arg("-c").arg(format!("kill -{signal} {}", record.pid)).stderr(Stdio::null());
            // It may have ended by itself meanwhile: that is what we want.
            let _already_gone = kill.status();
            thread::sleep(POLL);
        }
    }
    if is_alive(record) {
        bail!("{name} (process {}) does not end", record.pid);
    }
    Ok(())
}

pub(crate) fn is_free(ports: &[u16]) -> bool {
    let free = |port: &u16| {
        let at = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
    };
    !ports.is_empty() && ports.iter().all(free)
}

pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..PORT_TRIES {
        if held.len() == count {
            break;
        }
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
        let port = tcp.local_addr()?.port();
        // Free means free for both: services and nodes listen on TCP and on UDP.
        if let Ok(udp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, tcp, udp));
        }
    }
    ensure!(held.len() == count, "found {} of {count} free ports on loopback", held.len());
    Ok(held.iter().map(|(port, ..)| *port).collect())
}

pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    format!("the end of {}:\n{}", log.display(), shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_beginning() {
        let me = std::process::id();
        let record = Record { pid: me, began: began(me).unwrap(), ..Record::default() };
        assert!(is_alive(&record));
        assert!(!is_alive(&Record { began: record.began + 1, ..record }));
        assert!(!is_alive(&Record::default()));
    }

    #[test]
    fn ports_are_free_and_differ() {
        // Another process may take a port between the two looks, so one round in twenty will do.
        let free = || is_free(&free_ports(4).unwrap());
        assert!((0..20).any(|_| free()));
        let mut distinct = free_ports(4).unwrap();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(&[taken.local_addr().unwrap().port()]));
        assert!(!is_free(&[]));
    }
}
