//! Containers of Tasks at this node: its pool, and the door within their network.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use troupe_actor::{TaskHandle, spawn_task};
use troupe_containers::{Engine, Limits, Pool, PoolOptions};
use troupe_entities::device::container::POOL_SILENT;
use troupe_services::devices::{Authority, EdgePoint};
use troupe_store::Directory;
use troupe_types::Clock;

use crate::edge::Edge;

/// An engine that is not there is looked for again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Containers at once that a configuration may want: one port each.
const MAX: usize = 100;

/// Containers that Tasks run in (`on: container`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ContainersSection {
    /// The Docker engine, `unix:///var/run/docker.sock`. Without one this node runs no containers.
    /// Since v0.4.
    pub(crate) engine: Option<String>,
    /// Their image, as `cargo xtask image` makes it. Since v0.4.
    pub(crate) image: String,
    /// Other images that Shells may name (`baseImage`). Since v0.4.
    pub(crate) images: Vec<String>,
    /// Containers at once, 1 to 100. Since v0.4.
    pub(crate) max: usize,
    /// Of those, how many wait for a Task, so that it begins sooner. Since v0.4.
    pub(crate) warm: usize,
    /// Seconds that one is kept after a turn, for the next. Since v0.4.
    pub(crate) idle_seconds: u64,
    /// A node whose pool has been silent for so many seconds, and whose containers have no link, is
    /// given up: their Tasks begin anew in containers of other nodes. At least 90. Since v0.4.
    pub(crate) abandoned_seconds: u64,
    /// They reach this node and nothing else: no internet, no other machine. Since v0.4.
    pub(crate) isolated: bool,
    /// Cores. Since v0.4.
    pub(crate) cpus: f64,
    /// Memory in MiB, files of the workspace included. Since v0.4.
    pub(crate) memory_mib: u64,
    /// Processes and threads. Since v0.4.
    pub(crate) pids: u32,
    /// Size of the workspace in MiB. Since v0.4.
    pub(crate) workspace_mib: u64,
    /// Executions of the Task at once, 1 to 20. Since v0.4.
    pub(crate) slots: u16,
}

impl Default for ContainersSection {
    fn default() -> Self {
        let Limits { cpus, memory_mib, pids, workspace_mib, slots } = Limits::default();
        Self {
            engine: None,
            image: concat!("troupe-edge:", env!("CARGO_PKG_VERSION")).to_owned(),
            images: Vec::new(),
            max: 5,
            warm: 1,
            idle_seconds: 600,
            abandoned_seconds: 300,
            isolated: false,
            cpus,
            memory_mib,
            pids,
            workspace_mib,
            slots,
        }
    }
}

impl ContainersSection {
    /// One sentence per fault.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut want = |holds: bool, fault: &str| {
            if !holds {
                faults.push(format!("containers.{fault}"));
            }
        };
        let path = self.engine.as_ref().is_none_or(|engine| engine.starts_with("unix:///"));
        want(path, "engine: write unix:///PATH, the engine's socket");
        want(!self.image.is_empty(), "image: no image");
        want((1..=MAX).contains(&self.max), "max: must be from 1 to 100");
        want(self.warm <= self.max, "warm: must be at most max");
        want(
            self.abandoned_seconds >= POOL_SILENT.as_secs(),
            "abandoned-seconds: must be at least 90: a pool says every 30 s that it is there",
        );
        want(self.cpus > 0.0 && self.cpus <= 1_024.0, "cpus: must be above 0");
        want(self.memory_mib >= 64, "memory-mib: must be at least 64");
        want(self.pids >= 16, "pids: must be at least 16");
        want(
            (1..=self.memory_mib).contains(&self.workspace_mib),
            "workspace-mib: must be from 1 to memory-mib: the workspace lies in memory",
        );
        want((1..=20).contains(&self.slots), "slots: must be from 1 to 20");
        faults
    }

    fn limits(&self) -> Limits {
        let Self { cpus, memory_mib, pids, workspace_mib, slots, .. } = *self;
        Limits { cpus, memory_mib, pids, workspace_mib, slots }
    }
}

/// What a pool is made from.
pub(crate) struct Parts {
    pub(crate) section: ContainersSection,
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) edge: Arc<Edge>,
}

/// The pool, if this node is to have one; dropping the handle ends it, and leaves the containers.
pub(crate) fn start(parts: Parts) -> Option<TaskHandle<()>> {
    let engine = parts.section.engine.clone()?;
    let run = async move {
        loop {
            match parts.open(&engine).await {
                Ok(pool) => return pool.run().await,
                Err(error) => {
                    tracing::warn!(error = %format!("{error:#}"), "no containers: tried again");
                    sleep(AGAIN).await;
                }
            }
        }
    };
    Some(spawn_task("containers", run).abort_on_drop())
}

impl Parts {
    async fn open(&self, address: &str) -> Result<Pool> {
        let section = &self.section;
        let pool_name = format!("{}/{}", self.cluster, self.node);
        let network = format!("troupe-{}-{}", self.cluster, self.node);
        let mut engine =
            Engine::connect(address, pool_name.clone(), network, section.limits()).await?;
        engine.find_image(&section.image).await?;
        let gateway = engine.open_network(section.isolated).await?;
        let door = self.edge.open_within(gateway.into(), self.clock.as_ref())?;
        let edge = EdgePoint {
            host: door.ip().to_string(),
            port: door.port(),
            fingerprint: self.edge.fingerprint(),
        };
        tracing::info!(%address, at = %door, pool = %pool_name, max = section.max, "containers can be had");
        let options = PoolOptions {
            node: self.node.clone(),
            image: section.image.clone(),
            images: section.images.clone(),
            max: section.max,
            warm: section.warm,
            idle: Duration::from_secs(section.idle_seconds),
            abandoned: Duration::from_secs(section.abandoned_seconds),
            edge,
        };
        let (directory, authority) = (Arc::clone(&self.directory), Arc::clone(&self.authority));
        Ok(Pool::new(options, engine, directory, authority, Arc::clone(&self.clock)))
    }
}
