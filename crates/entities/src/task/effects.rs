//! What a Task does once an entry is committed.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_sharding::{FailedAsk, Reply};
use troupe_types::{Attempt, DeviceId, ExecutionId, Seq};

use super::{view::Public, window::Held};

/// Runs after the commit of everything that was staged before it, in order.
#[derive(Debug)]
pub(super) enum Effect {
    /// Committed entry: into the window, frames to the followers.
    Committed(Held),
    /// What reads answer from now on.
    Public(Arc<Public>),
    /// An answer.
    Reply(Reply, Result<Bytes, FailedAsk>),
    /// A runner waits for its step.
    Told(oneshot::Sender<()>),
    /// Pieces that are durable now: their runner may send more.
    Permits(#[expect(dead_code, reason = "held until dropped")] Vec<OwnedSemaphorePermit>),
    /// A started attempt may run.
    Spawn(ExecutionId, Attempt),
    /// A device may be looked for: all that its job is made from is committed.
    Place(ExecutionId, Attempt),
    /// A device attempt's Task has something to say to its device.
    Poke(DeviceId, ExecutionId, Attempt),
    /// A state to be written as a snapshot.
    Snapshot(Seq, Bytes),
}
