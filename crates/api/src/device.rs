//! Devices: machines that people enrol to run their agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use troupe_types::{Attempt, DeviceId, ExecutionId, TaskId, Timestamp};

/// A program that a device has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceTool {
    /// `claude`, `git`..
    pub name: String,
    /// What it says its version is; may be empty.
    #[serde(default)]
    pub version: String,
}

/// Whether a device is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DevicePresence {
    /// Its link is up.
    Online,
    /// Its link is gone; what it runs goes on there, and its lease runs.
    Away,
    /// Its link is gone, and it has nothing to do.
    #[default]
    Offline,
    /// Its owner took it out for good.
    Revoked,
}

/// One attempt on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceWork {
    /// Its Task.
    pub task_id: TaskId,
    /// The execution.
    pub execution: ExecutionId,
    /// The try.
    pub attempt: Attempt,
    /// The device has it on its disk.
    pub taken: bool,
    /// Since when.
    pub since: Timestamp,
}

/// How a device is linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicePath {
    /// What carries the link: `quic`, `websocket`.
    pub carrier: String,
    /// How long a packet and its answer take, in microseconds; absent: not measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
}

/// A time in which a device was linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LinkSpan {
    /// When the link came up.
    pub from: Timestamp,
    /// When it was gone; absent: it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// A device as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceView {
    /// Its id.
    pub id: DeviceId,
    /// Its name, unique among its owner's.
    pub name: String,
    /// Another name for people; may be empty.
    #[serde(default)]
    pub alias: String,
    /// Whether it is there.
    pub status: DevicePresence,
    /// It gets no new work.
    #[serde(default)]
    pub draining: bool,
    /// Preferred where several fit.
    #[serde(default)]
    pub is_default: bool,
    /// Labels: its own and its owner's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Executions that it runs at once: 1 to 20.
    pub slots: u16,
    /// How many of them are taken.
    pub slots_used: u16,
    /// Executions in line for a slot; one may be in line at several devices.
    #[serde(default)]
    pub queued: u32,
    /// `linux`.. ; empty until it was connected.
    #[serde(default)]
    pub os: String,
    /// `x86_64`..
    #[serde(default)]
    pub arch: String,
    /// What the machine calls itself.
    #[serde(default)]
    pub host: String,
    /// Version of its agent.
    #[serde(default)]
    pub build: String,
    /// What was found on it.
    #[serde(default)]
    pub tools: Vec<DeviceTool>,
    /// The node where its link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it is linked; a few seconds old at most. Absent: it has no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<DevicePath>,
    /// When it was linked in the last 24 hours, oldest first, as far as is known: the device itself
    /// tells it when it comes.
    #[serde(default)]
    pub links: Vec<LinkSpan>,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// It is a container: the Task that it works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// What it runs.
    #[serde(default)]
    pub work: Vec<DeviceWork>,
}

/// Asks for an invitation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InviteDevice {
    /// Name of the device; absent: the machine's own.
    #[serde(default)]
    pub name: Option<String>,
    /// Where the machine reaches the cluster, `host:port`; absent: as the node knows it.
    #[serde(default)]
    pub address: Option<String>,
}

/// An invitation: good once, for ten minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceInvitation {
    /// Names it, to ask what became of it.
    pub id: String,
    /// `troupe://HOST:PORT/TOKEN`, a secret until it was used: shown once.
    pub url: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What became of an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitationView {
    /// When it ends.
    pub expires_at: Timestamp,
    /// The device that joined with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceView>,
}

/// Changes of a device; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicePatch {
    /// Another name for people.
    #[serde(default)]
    pub alias: Option<String>,
    /// All labels that its owner gives it.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Executions at once, 1 to 20.
    #[serde(default)]
    pub slots: Option<u16>,
    /// No new work (or new work again).
    #[serde(default)]
    pub draining: Option<bool>,
    /// Preferred where several fit; takes it from the one before.
    #[serde(default)]
    pub is_default: Option<bool>,
}

/// A person's answer to an approval or a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnswerBlock {
    /// The Task.
    pub task_id: TaskId,
    /// The block that asks.
    pub block_id: String,
    /// `allow`, `allow_always`, `deny`, or `reply` (to a question).
    pub answer: AnswerWord,
    /// With `deny`: what the agent is told.
    #[serde(default)]
    pub message: Option<String>,
    /// With `reply`: what is chosen or written, by the question's id.
    #[serde(default)]
    pub answers: Option<BTreeMap<String, Vec<String>>>,
    /// A UUID: the same answer again with the same id is harmless.
    #[serde(default)]
    pub client_message_id: Option<troupe_types::Uuid>,
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AnswerWord {
    /// Yes, this time.
    Allow,
    /// Yes, and the same in this Task from now on.
    AllowAlways,
    /// No.
    Deny,
    /// The answer to a question.
    Reply,
}
