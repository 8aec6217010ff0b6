//! Workspace, Task, Device.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use troupe_types::{Timestamp, frame::Status};

use super::{NameRef, State, words};

/// What a Task works on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceSpec {
    /// The repository; absent for a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
}

/// A git repository and a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// Where it is cloned from.
    pub git_url: String,
    /// Owner and name.
    pub git_repo: String,
    /// The host's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_repo_id: Option<u64>,
    /// The branch.
    pub branch_name: String,
    /// The host; selects the git token.
    pub git_domain: String,
}

/// Names a Team, perhaps another user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamRef {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its owner, if it is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// A durable conversation with a Team.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSpec {
    /// Name for people.
    pub title: String,
    /// The first request; at most 60,000 bytes.
    pub prompt: String,
    /// The Team.
    pub team_ref: TeamRef,
    /// The Workspace.
    pub workspace_ref: NameRef,
    /// Whether several people take part.
    #[serde(rename = "is_group_chat")]
    pub is_group_chat: bool,
    /// Its knowledge bases.
    pub knowledge_base_refs: Vec<BoundKnowledgeBase>,
    /// Parts of them.
    pub knowledge_base_scopes: Vec<KnowledgeScope>,
    /// Knowledge of third parties.
    pub external_knowledge_refs: Vec<Map<String, Value>>,
    /// The device to run on.
    #[serde(rename = "device_id", default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionPlace>,
    /// The Task that it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// Position of a pipeline, from 0.
    pub current_stage: u32,
}

/// A knowledge base of a Task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundKnowledgeBase {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Who bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Timestamp>,
}

/// A part of a knowledge base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnowledgeScope {
    /// Id of the knowledge base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether only the parts below count.
    pub scope_restricted: bool,
    /// Folders.
    pub folder_ids: Vec<String>,
    /// Documents.
    pub explicit_document_ids: Vec<String>,
    /// Folders inside the folders too.
    pub include_subfolders: bool,
    /// Who bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Timestamp>,
}

/// Where a Task runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionPlace {
    /// Directory on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<ExecutionWorkspace>,
}

/// A directory on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionWorkspace {
    /// What kind of place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// The Task that another one was copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fork {
    /// That Task.
    pub source_task_id: String,
    /// Copied up to this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_message_id: Option<String>,
    /// The first Task of the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_task_id: Option<String>,
    /// What runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

/// How far a Task is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskStatus {
    /// Whether it can be used.
    pub state: State,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How far it is.
    pub status: Status,
    /// Per cent.
    pub progress: u8,
    /// Of the last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
    /// Of the last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// When its last turn ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Read, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_tasks: Option<Vec<Map<String, Value>>>,
    /// A service that the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<TaskApp>,
    /// The archived workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<TaskArchive>,
}

/// A service that an agent started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskApp {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Where people see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<String>,
}

/// An archived workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskArchive {
    /// Where it lies.
    pub storage_key: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
    /// When it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How large it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// With the runtime's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_file_included: Option<bool>,
    /// With the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_included: Option<bool>,
}

words! {
    /// What kind of machine a device is.
    DeviceType {
        Local = "local",
        App = "app",
        Cloud = "cloud",
        Remote = "remote",
    }
}

words! {
    /// How a device is linked.
    ConnectionMode {
        Websocket = "websocket",
        Quic = "quic",
    }
}

words! {
    /// Whether a device is there.
    DevicePresence {
        Online = "online",
        Offline = "offline",
        Busy = "busy",
    }
}

/// An enrolled machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceSpec {
    /// Chosen by the device, never changes.
    pub device_id: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What it is.
    pub device_type: DeviceType,
    /// How it is linked.
    pub connection_mode: ConnectionMode,
    /// What runs on it: `claudecode` or `openclaw`.
    pub bind_shell: String,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// At most one for each user and type.
    pub is_default: bool,
    /// For `cloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_config: Option<Map<String, Value>>,
    /// For `remote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_config: Option<Map<String, Value>>,
    /// New with each start of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_instance_id: Option<String>,
}

/// How a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceStatus {
    /// Whether it can be used.
    pub state: State,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_status: Option<DevicePresence>,
    /// When it was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Timestamp>,
}
