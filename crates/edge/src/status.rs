//! What an agent says about itself.

use serde::{Deserialize, Serialize};
use troupe_types::{Attempt, DeviceId, ExecutionId, TaskId, Timestamp};

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeStatus {
    /// The device.
    pub device: DeviceId,
    /// How the link is.
    pub link: LinkStatus,
    /// Executions that it has, ended ones that are not forgotten included.
    pub executions: Vec<ExecutionStatus>,
    /// Executions at once.
    pub slots: u16,
    /// Slots in use.
    pub slots_used: u16,
    /// Whether it takes no new work.
    pub draining: bool,
    /// Bytes of output that wait to be acknowledged.
    pub outbox_bytes: u64,
    /// The most of it.
    pub outbox_bytes_max: u64,
    /// How runs are held; an older agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<RunsStatus>,
    /// When this was.
    pub at: Timestamp,
}

/// How an agent holds the processes of its runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsStatus {
    /// By what, in words.
    pub held_by: String,
    /// Why their number and memory have no bounds; absent: they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_bounds: Option<String>,
}

/// How a link is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `connecting`, `connected`, `refused`, `revoked`.
    pub state: String,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `quic`, `websocket`, `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// Milliseconds there and back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// The node's clock minus ours, in milliseconds, as of the last welcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Since when it is like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How often it was connected since the agent started.
    pub connects: u64,
    /// Why it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How an execution is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionStatus {
    /// Which.
    pub execution: ExecutionId,
    /// Which try.
    pub attempt: Attempt,
    /// Its Task.
    pub task: TaskId,
    /// The Team.
    pub team: String,
    /// `accepted`, `running`, `waiting`, `paused`, `ended`.
    pub state: String,
    /// Outputs that were made.
    pub last: u64,
    /// Outputs that were acknowledged.
    pub acked: u64,
}
