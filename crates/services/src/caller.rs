//! Who calls.

use troupe_api::auth::UserRole;
use troupe_types::{ApiKeyId, SessionId, Timestamp, UserId};

/// A proven person. Made by `Auth::verify` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// The name, as it was when the token was made.
    pub name: String,
    /// What they may do at large.
    pub role: UserRole,
    /// By what they proved it.
    pub credential: Credential,
    /// When the proof ends; `None`: never (an API key without expiry).
    pub expires_at: Option<Timestamp>,
}

/// By what a caller proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A login.
    Session(SessionId),
    /// An API key.
    ApiKey(ApiKeyId),
}

impl Caller {
    /// Whether they may do everything.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role == UserRole::Admin
    }
}
