//! What clients send: bodies of REST calls, payloads of socket events; and what they read.

use serde::{Serialize, de::DeserializeOwned};
use troupe_api::{admin, auth, chat, device, git, meta, problem, resource, task};

/// Reads the bytes as the types of the API that can be read: all that come in, and those that go out and
/// are more than a list of others.
///
/// # Panics
/// If something that was read cannot be written and read again.
pub fn run(bytes: &[u8]) {
    // auth
    round::<auth::SetupRequest>(bytes);
    round::<auth::LoginRequest>(bytes);
    round::<auth::TokenAnswer>(bytes);
    round::<auth::RefreshRequest>(bytes);
    round::<auth::UserView>(bytes);
    round::<auth::CreateUser>(bytes);
    round::<auth::UserPatch>(bytes);
    round::<auth::CreateApiKey>(bytes);
    round::<auth::ApiKeyView>(bytes);
    round::<auth::CreatedApiKey>(bytes);
    // chat
    round::<chat::ChatSend>(bytes);
    round::<chat::ChatSendAck>(bytes);
    round::<chat::ChatCancel>(bytes);
    round::<chat::ChatResume>(bytes);
    round::<chat::ChatResumeAck>(bytes);
    round::<chat::ChatRetry>(bytes);
    round::<chat::ChatEdit>(bytes);
    round::<chat::TaskJoin>(bytes);
    round::<chat::TaskRef>(bytes);
    round::<chat::QueueOp>(bytes);
    round::<chat::AuthToken>(bytes);
    round::<chat::HistorySync>(bytes);
    // task
    round::<task::Page<task::TaskLite>>(bytes);
    round::<task::TaskView>(bytes);
    round::<task::TurnsPage>(bytes);
    round::<task::FramesPage>(bytes);
    round::<task::JoinAnswer>(bytes);
    round::<task::TaskPatch>(bytes);
    round::<task::WhyAnswer>(bytes);
    round::<task::OpenAsks>(bytes);
    // device, git
    round::<device::DeviceView>(bytes);
    round::<device::InviteDevice>(bytes);
    round::<device::DeviceInvitation>(bytes);
    round::<device::InvitationView>(bytes);
    round::<device::DevicePatch>(bytes);
    round::<device::AnswerBlock>(bytes);
    round::<git::GitTokenView>(bytes);
    round::<git::PutGitToken>(bytes);
    // admin
    round::<admin::NodeList>(bytes);
    round::<admin::RebalanceSetting>(bytes);
    round::<admin::ShardList>(bytes);
    round::<admin::ActorTreeView>(bytes);
    round::<admin::QueuesView>(bytes);
    round::<admin::ContainersView>(bytes);
    round::<admin::MoveShard>(bytes);
    round::<admin::ShardMove>(bytes);
    round::<admin::DeadLetterView>(bytes);
    round::<admin::DiscardLetter>(bytes);
    round::<admin::DoctorReport>(bytes);
    round::<admin::AdminWhy>(bytes);
    round::<admin::AuditEntry>(bytes);
    // the rest
    round::<problem::Problem>(bytes);
    round::<resource::ApplyAnswer>(bytes);
    round::<resource::WatchItem>(bytes);
    round::<meta::Meta>(bytes);
}

fn round<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let name = std::any::type_name::<T>();
    let text = serde_json::to_string(&value).expect(name);
    if let Err(error) = serde_json::from_str::<T>(&text) {
        panic!("{name} was read and written, and is then refused: {error}\n{text}");
    }
}
