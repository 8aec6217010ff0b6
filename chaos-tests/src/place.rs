//! Where nodes live: a network namespace each, joined by a bridge, with faults between them.
//!
//! The services, the model, the clients and all proxies are in the machine's own namespace and
//! are reached at the bridge's address. What one node sends to another's link port goes through a
//! UDP proxy of ours (rewritten on its way out), so that it can be delayed, reordered and doubled;
//! loss and cuts are rules of nftables in the node's namespace.

pub(crate) mod rules;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use self::rules::Rules;

/// Where nodes listen for each other, and for clients.
pub(crate) const LINK_PORT: u16 = 8444;
pub(crate) const HTTP_PORT: u16 = 8080;
/// The first port of the link proxies; one per ordered pair of nodes.
const PROXY_PORT: u16 = 9500;
const BRIDGE: &str = "trpchaos";
/// The network that the bridge uses: 10.77.9.0/24.
const NET: [u8; 3] = [10, 77, 9];

/// An address of the network.
pub(crate) const fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(NET[0], NET[1], NET[2], host)
}

/// The bridge's own address.
pub(crate) const fn hub() -> Ipv4Addr {
    address(1)
}

/// Node `n` (0, 1, 2..).
pub(crate) fn node_address(n: usize) -> Ipv4Addr {
    address(10 + u8::try_from(n).unwrap_or(0))
}

/// Where the link proxy speaks from on behalf of node `n`.
pub(crate) fn face_address(n: usize) -> Ipv4Addr {
    address(30 + u8::try_from(n).unwrap_or(0))
}

/// Where the link proxy listens for what `from` sends to `to`.
pub(crate) fn proxy_port(from: usize, to: usize) -> u16 {
    PROXY_PORT + u16::try_from(from * 10 + to).unwrap_or(0)
}

/// The namespace of node `n`.
pub(crate) fn namespace(n: usize) -> String {
    format!("trpchaos{n}")
}

/// Runs a program; its words on failure.
pub(crate) async fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}`: {}", args.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn ip(line: &str) -> Result<String> {
    run("ip", &line.split(' ').collect::<Vec<_>>()).await
}

/// The network; made at the start, taken away at the end.
#[derive(Debug)]
pub(crate) struct Network {
    rules: Vec<Rules>,
}

impl Network {
    /// Makes `count` namespaces and the bridge. What an earlier run left behind goes first.
    ///
    /// # Errors
    /// If the right or a program is missing.
    pub(crate) async fn make(count: usize) -> Result<Self> {
        clear(count).await;
        ip(&format!("link add {BRIDGE} type bridge"))
            .await
            .context("make a bridge (needs root)")?;
        for host in std::iter::once(hub()).chain((0..count).map(face_address)) {
            ip(&format!("addr add {host}/24 dev {BRIDGE}")).await?;
        }
        ip(&format!("link set {BRIDGE} up")).await?;
        for n in 0..count {
            let (ns, inside, outside) = (namespace(n), format!("trpci{n}"), format!("trpco{n}"));
            ip(&format!("netns add {ns}")).await?;
            ip(&format!("link add {outside} type veth peer name {inside}")).await?;
            ip(&format!("link set {outside} master {BRIDGE} up")).await?;
            ip(&format!("link set {inside} netns {ns}")).await?;
            ip(&format!("-n {ns} addr add {}/24 dev {inside}", node_address(n))).await?;
            ip(&format!("-n {ns} link set lo up")).await?;
            ip(&format!("-n {ns} link set {inside} up")).await?;
        }
        let mut network = Self { rules: (0..count).map(|n| Rules::new(n, count)).collect() };
        for n in 0..count {
            network.change(n, |_| {}).await?;
        }
        Ok(network)
    }

    /// Changes what stands between a node and the others.
    pub(crate) async fn change(&mut self, n: usize, change: impl FnOnce(&mut Rules)) -> Result<()> {
        let rules = self.rules.get_mut(n).context("no such node")?;
        change(rules);
        let file = std::env::temp_dir().join(format!("trpchaos-{}-{n}.nft", std::process::id()));
        tokio::fs::write(&file, rules.render()).await.context("write rules")?;
        let path = file.to_string_lossy().into_owned();
        let applied = run("ip", &["netns", "exec", &namespace(n), "nft", "-f", &path]).await;
        // Only a copy: the rules are in the kernel.
        let _ = tokio::fs::remove_file(&file).await;
        applied.map(drop).context("apply rules")
    }

    /// Takes all loss and every cut away.
    pub(crate) async fn heal(&mut self) -> Result<()> {
        for n in 0..self.rules.len() {
            self.change(n, Rules::heal).await?;
        }
        Ok(())
    }

    /// Processes that live in the nodes' namespaces, as "pid name".
    pub(crate) async fn processes(&self) -> Vec<String> {
        let mut all = Vec::new();
        for n in 0..self.rules.len() {
            for pid in pids(&namespace(n)).await {
                let name = tokio::fs::read_to_string(format!("/proc/{pid}/comm")).await;
                all.push(format!("{pid} {}", name.unwrap_or_default().trim()));
            }
        }
        all
    }

    /// Takes it away.
    pub(crate) async fn remove(self) {
        clear(self.rules.len()).await;
    }
}

/// Processes of a namespace.
pub(crate) async fn pids(namespace: &str) -> Vec<u32> {
    let listed = ip(&format!("netns pids {namespace}")).await.unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// kill -9 of everything in a namespace; whether nothing is left.
pub(crate) async fn empty(namespace: &str, within: Duration) -> bool {
    troupe_testkit::try_until(within, async || {
        let pids = pids(namespace).await;
        for pid in &pids {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            // It may have ended by itself meanwhile.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        pids.is_empty()
    })
    .await
}

/// Ends everything in the places and takes them away. Best effort: what is not there cannot be
/// removed.
pub(crate) async fn clear(count: usize) {
    for n in 0..count {
        empty(&namespace(n), Duration::from_secs(5)).await;
        let _ = ip(&format!("link del trpco{n}")).await;
        let _ = ip(&format!("netns del {}", namespace(n))).await;
    }
    let _ = ip(&format!("link del {BRIDGE}")).await;
}
