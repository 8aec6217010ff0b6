//! What a Task's own tasks and timers tell it.

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_domain::task::RunEvent;
use troupe_sharding::Reply;
use troupe_store::{AppendError, WriteError};
use troupe_telemetry::TraceParent;
use troupe_types::{Attempt, ExecutionId, Seq, Uuid};

use super::place::Placed;
use crate::{commit::Appended, team::SlotAnswer};

/// A message from within.
#[derive(Debug)]
pub enum TaskInternal {
    /// An append ended.
    Appended(Appended),
    /// A runner says something.
    Run {
        /// Its execution.
        execution: ExecutionId,
        /// Its attempt.
        attempt: Attempt,
        /// What.
        event: Box<RunEvent>,
        /// Its place among the pieces under way; dropped when the piece left the buffers.
        permit: OwnedSemaphorePermit,
        /// Told when the entry is committed.
        committed: Option<oneshot::Sender<()>>,
        /// Where in a trace it was said.
        trace: Option<TraceParent>,
    },
    /// A runner is gone, whether it said how it ended or not.
    RunnerGone {
        /// Its execution.
        execution: ExecutionId,
        /// Its attempt.
        attempt: Attempt,
    },
    /// The Team's answer to a request for a slot.
    Slot(SlotAnswer),
    /// The Team was told that its slot is not needed any more.
    SlotReleased,
    /// Time to renew or ask again.
    SlotTimer,
    /// A device was looked for.
    Placed {
        /// For this execution.
        execution: ExecutionId,
        /// And attempt.
        attempt: Attempt,
        /// Whether one has it now.
        outcome: Placed,
    },
    /// Time to look for a device again.
    PlaceAgain {
        /// For this execution.
        execution: ExecutionId,
    },
    /// A snapshot ended.
    Snapshot {
        /// The last entry it covers.
        upto: Seq,
        /// Its result.
        result: Result<(), AppendError>,
    },
    /// The list row was written (or not).
    Projected {
        /// The last entry it knew.
        seq: Seq,
        /// Approvals and questions that it counted.
        asks: u32,
        /// Its result.
        result: Result<(), WriteError>,
    },
    /// Texts for a confirmation were looked up.
    ConfirmReady {
        /// The person's key.
        key: Uuid,
        /// Replaces the automatic hand-off.
        message: Option<String>,
        /// The request that began the pipeline.
        original: String,
        /// The answer of the stage that waits.
        previous: String,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Wake rows of earlier activations were removed, or stay.
    Tidied,
    /// Time to look which approvals and questions nobody answered.
    AsksDue,
}
