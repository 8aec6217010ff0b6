//! What a container is made of: the fence around an agent.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, PortBinding};

/// Label of the pool that a container belongs to: `CLUSTER/NODE`.
pub(crate) const POOL_LABEL: &str = "troupe.pool";
/// Ports of this machine that lead into containers, for previews: one each.
pub(crate) const PORTS: std::ops::RangeInclusive<u16> = 10_001..=10_100;
/// Where a preview listens within a container (`PORT`).
const PREVIEW: &str = "8080/tcp";
/// Whoever works in the image that `cargo xtask image` makes.
const USER: u32 = 10_001;
/// The agent's own files: its outbox has at most 256 MiB.
const STATE_MIB: u64 = 320;
/// An agent that is killed within its container is followed by another, so many times.
const AGENT_RESTARTS: u32 = 5;
/// The first process of a container ends by itself within so long, or is killed.
const STOP_SECONDS: i64 = 5;

/// Bounds of one container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Of one core; 2.0: two cores.
    pub cpus: f64,
    /// Memory, in MiB; files in the workspace count.
    pub memory_mib: u64,
    /// Processes and threads.
    pub pids: u32,
    /// The workspace, in MiB: it lies in memory.
    pub workspace_mib: u64,
    /// Executions of the Task at once.
    pub slots: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpus: 2.0, memory_mib: 4_096, pids: 512, workspace_mib: 2_048, slots: 5 }
    }
}

/// A container to be made.
#[derive(Clone, Debug)]
pub(crate) struct Spec<'a> {
    pub(crate) name: &'a str,
    pub(crate) image: &'a str,
    pub(crate) pool: &'a str,
    pub(crate) network: &'a str,
    /// A port of this machine.
    pub(crate) port: Option<u16>,
    pub(crate) limits: Limits,
}

impl Spec<'_> {
    /// It waits for a line on its standard input: an invitation to join with.
    pub(crate) fn body(&self) -> ContainerCreateBody {
        let slots = self.limits.slots.to_string();
        let mut cmd = ["join", "-", "--slots", &slots, "--label", "container=true"]
            .map(str::to_owned)
            .to_vec();
        for (name, program) in
            [("sh", "/bin/sh"), ("git", "/usr/bin/git"), ("python3", "/usr/bin/python3")]
        {
            cmd.extend(["--command".to_owned(), format!("{name}={program}")]);
        }
        ContainerCreateBody {
            image: Some(self.image.to_owned()),
            hostname: Some(self.name.to_owned()),
            user: Some(format!("{USER}:{USER}")),
            cmd: Some(cmd),
            // An agent of the build before does not know the second, and does without.
            env: Some(vec![
                "PORT=8080".to_owned(),
                format!("TROUPE_EDGE_RESTARTS={AGENT_RESTARTS}"),
            ]),
            labels: Some(HashMap::from([(POOL_LABEL.to_owned(), self.pool.to_owned())])),
            exposed_ports: self.port.map(|_| vec![PREVIEW.to_owned()]),
            attach_stdin: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            stop_timeout: Some(STOP_SECONDS),
            host_config: Some(self.host()),
            ..ContainerCreateBody::default()
        }
    }

    fn host(&self) -> HostConfig {
        const MIB: u64 = 1024 * 1024;
        let bytes = |mib: u64| i64::try_from(mib.saturating_mul(MIB)).unwrap_or(i64::MAX);
        let memory = bytes(self.limits.memory_mib);
        let own = format!("uid={USER},gid={USER},mode=0700,exec,nosuid,nodev");
        let tmpfs = HashMap::from([
            // Apart from what the agent keeps: a full workspace loses no output.
            ("/state".to_owned(), format!("size={STATE_MIB}m,{own}")),
            ("/state/workspaces".to_owned(), format!("size={}m,{own}", self.limits.workspace_mib)),
            ("/tmp".to_owned(), "size=256m,mode=1777,exec,nosuid,nodev".to_owned()),
        ]);
        let binding = |port: u16| PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some(port.to_string()),
        };
        HostConfig {
            // No more, wherever it would come from: neither swap nor capabilities.
            memory: Some(memory),
            memory_swap: Some(memory),
            #[expect(clippy::cast_possible_truncation, reason = "a few cores in billionths")]
            nano_cpus: Some((self.limits.cpus * 1e9) as i64),
            pids_limit: Some(i64::from(self.limits.pids)),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            tmpfs: Some(tmpfs),
            shm_size: Some(bytes(64)),
            network_mode: Some(self.network.to_owned()),
            port_bindings: self
                .port
                .map(|port| HashMap::from([(PREVIEW.to_owned(), Some(vec![binding(port)]))])),
            // Reaps what agents leave.
            init: Some(true),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), "1m".to_owned()),
                    ("max-file".to_owned(), "2".to_owned()),
                ])),
            }),
            ..HostConfig::default()
        }
    }
}
