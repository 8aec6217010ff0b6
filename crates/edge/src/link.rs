//! The link of a device: dials, says hello, carries frames both ways, comes back.

mod actor;
mod carry;
mod dialing;
mod past;
mod sender;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use troupe_link::device::Dialler;
use troupe_types::{Clock, DeviceId, Uuid};
use troupe_wire::device::{Capabilities, DeviceFrame, limits::TO_DEVICE_CREDIT_BYTES};

pub use actor::{LinkActor, LinkMsg};
pub use past::{FILE as PAST_FILE, files as past_files};

use crate::{identity::IdentityStore, outbox::Outbox, status::LinkStatus};

/// Frames that wait to be written.
pub(crate) const OUT_MAX: usize = 256;
/// Frames that wait for the agent.
pub(crate) const IN_MAX: usize = 64;
/// Credit is given back in pieces of this size.
const CREDIT_PIECE: u64 = TO_DEVICE_CREDIT_BYTES / 8;
/// How often liveness and the way there and back are looked at.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Something for the agent.
#[derive(Debug)]
pub enum FromLink {
    /// The cluster says something; `taken` gives credit for it back when it is dropped.
    Frame(Box<DeviceFrame>, tokio::sync::OwnedSemaphorePermit),
    /// A link came up.
    Linked {
        /// The cluster says when what was taken begins.
        begins: bool,
    },
    /// The cluster acknowledged what this device never had, or what it has cannot be read.
    Damaged(troupe_wire::device::AttemptKey),
    /// The device is not wanted any more.
    Revoked(String),
}

/// What the link needs.
#[derive(Clone, Debug)]
pub struct LinkArgs {
    /// The device.
    pub device: DeviceId,
    /// New with every start of the agent.
    pub boot: Uuid,
    /// The agent's version.
    pub build: String,
    /// Makes connections.
    pub dialler: Arc<dyn Dialler>,
    /// Times and limits.
    pub options: troupe_link::LinkOptions,
    /// Where output comes from.
    pub outbox: Outbox,
    /// What the device can do; a change is told at once.
    pub capabilities: watch::Receiver<Capabilities>,
    /// Changes of the machine's network.
    pub network: watch::Receiver<u64>,
    /// Where frames go.
    pub to_agent: mpsc::Sender<FromLink>,
    /// How the link is.
    pub status: watch::Sender<LinkStatus>,
    /// Keeps renewed certificates.
    pub identity: Option<Arc<dyn IdentityStore>>,
    /// Where it is kept when the device was linked.
    pub past: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}
