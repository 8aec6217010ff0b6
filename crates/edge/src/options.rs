//! What an agent is started with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use troupe_executor::Machine;
use troupe_link::LinkOptions;
use troupe_types::{Clock, DeviceId};
use troupe_wire::device::limits::SLOTS_MAX;

use crate::{engine::Engine, identity::IdentityStore, policy::Policy};

/// Least room of an outbox: some of the largest outputs.
pub const OUTBOX_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// How a device behaves.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// The device.
    pub device: DeviceId,
    /// What is kept of executions; made if it is not there, for the user alone.
    pub dir: PathBuf,
    /// Where workspaces of Tasks are made.
    pub workspaces: PathBuf,
    /// What the cluster may ask for.
    pub policy: Policy,
    /// What the device gives to runtimes and to git.
    pub machine: Machine,
    /// The runtimes that this device has.
    pub engines: Vec<Arc<dyn Engine>>,
    /// Executions at once, 1 to 20. Default 5.
    pub slots: u16,
    /// Labels for selectors.
    pub labels: Vec<(String, String)>,
    /// What the machine calls itself.
    pub host: String,
    /// The agent's version.
    pub build: String,
    /// Most bytes of output that wait to be acknowledged. Default 256 MiB, at least 4 MiB.
    pub outbox_bytes_max: u64,
    /// Most bytes of memory of one run, where runs are held by a cgroup; 0: as many as there are.
    /// Default: three quarters of the machine's.
    pub run_memory_bytes_max: u64,
    /// Times and limits of the link.
    pub link: LinkOptions,
    /// Keeps a renewed certificate; `None`: there is no certificate (in-process link).
    pub identity: Option<Arc<dyn IdentityStore>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Workspaces in which no turn began for so long are removed; `None`: they stay. Default 7
    /// days.
    pub workspaces_unused_max: Option<Duration>,
    /// How often that is looked at. Default 1 h.
    pub clean_every: Duration,
    /// How long executions get to stop when the agent ends. Default 10 s.
    pub stop_max: Duration,
}

impl EdgeOptions {
    /// Defaults for a device that keeps its things in `dir`.
    #[must_use]
    pub fn new(device: DeviceId, dir: PathBuf, machine: Machine) -> Self {
        Self {
            device,
            workspaces: dir.join("workspaces"),
            dir,
            policy: Policy::default(),
            clock: Arc::clone(&machine.clock),
            machine,
            engines: Vec::new(),
            slots: 5,
            labels: Vec::new(),
            host: String::new(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            outbox_bytes_max: 256 * 1024 * 1024,
            run_memory_bytes_max: memory_of_machine() / 4 * 3,
            link: LinkOptions::default(),
            identity: None,
            workspaces_unused_max: Some(Duration::from_secs(7 * 24 * 3_600)),
            clean_every: Duration::from_secs(3_600),
            stop_max: Duration::from_secs(10),
        }
    }

    /// What is out of bounds, in words.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=SLOTS_MAX).contains(&self.slots) {
            faults.push(format!("slots is {}, 1 to {SLOTS_MAX} are allowed", self.slots));
        }
        if self.outbox_bytes_max < OUTBOX_BYTES_MIN {
            let (found, min) = (self.outbox_bytes_max, OUTBOX_BYTES_MIN);
            faults.push(format!("the outbox has {found} bytes, at least {min} are needed"));
        }
        if self.labels.len() > troupe_wire::device::limits::LABELS_MAX {
            faults.push(format!("{} labels are too many", self.labels.len()));
        }
        faults
    }
}

/// Bytes, as the kernel says; 0: it does not.
fn memory_of_machine() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}
