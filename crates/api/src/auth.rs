//! Login, users, API keys.

use serde::{Deserialize, Serialize};
use troupe_types::{ApiKeyId, Timestamp, UserId};

macro_rules! secret_debug {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), " { .. }"))
            }
        }
    };
}

/// `POST /api/v1/setup`: the first administrator, by the one-time link.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The one-time token of the link.
    pub token: String,
    /// Name of the administrator; absent: `admin`.
    #[serde(default)]
    pub user_name: Option<String>,
    /// At least 8 characters.
    pub password: String,
}
secret_debug!(SetupRequest);

/// `POST /api/v1/auth/login`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Name, any case.
    pub user_name: String,
    /// Password.
    pub password: String,
    /// `cookie` (browser: the refresh token goes into a cookie, `proof` into the body) or
    /// `body` (CLI: the refresh token is in the body). Absent: `body`.
    #[serde(default)]
    pub transport: RefreshTransport,
}
secret_debug!(LoginRequest);

/// How the refresh token travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefreshTransport {
    /// In the answer's body.
    #[default]
    Body,
    /// In an httpOnly cookie, with a proof in the body that goes into a header.
    Cookie,
}

/// Answer to setup, login and refresh.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenAnswer {
    /// JWT, 15 minutes.
    pub access_token: String,
    /// `bearer`.
    pub token_type: String,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// With transport `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// With transport `cookie`: send it as `X-Troupe-Proof` with refresh and logout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Who logged in.
    pub user: UserView,
}
secret_debug!(TokenAnswer);

/// `POST /api/v1/auth/refresh` and `/auth/logout`: with transport `body`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// Absent: the cookie is used, and the proof header is needed.
    #[serde(default)]
    pub refresh_token: Option<String>,
}
secret_debug!(RefreshRequest);

/// What a user may do at large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// Everything.
    Admin,
    /// Own resources.
    User,
}

/// A user as others may see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserView {
    /// Who.
    pub id: UserId,
    /// Unique, any case.
    pub user_name: String,
    /// E-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// May log in.
    pub is_active: bool,
    /// What they may do at large.
    pub role: UserRole,
    /// `password`.
    pub auth_source: String,
    /// When they were made.
    pub created_at: Timestamp,
    /// When they last changed.
    pub updated_at: Timestamp,
    /// Free settings of clients, at most 16 KiB.
    #[serde(default)]
    pub preferences: serde_json::Map<String, serde_json::Value>,
}

/// `POST /api/v1/users` (administrators).
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// 2 to 50 characters of letters, digits, `.`, `_`, `-`.
    pub user_name: String,
    /// At least 8 characters.
    pub password: String,
    /// E-mail.
    #[serde(default)]
    pub email: Option<String>,
    /// Absent: `user`.
    #[serde(default)]
    pub role: Option<UserRole>,
}
secret_debug!(CreateUser);

/// `PATCH /api/v1/users/me`, `/api/v1/users/{id}` (administrators): what is absent stays.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// E-mail.
    #[serde(default)]
    pub email: Option<String>,
    /// New password; ends all other sessions.
    #[serde(default)]
    pub password: Option<String>,
    /// Needed with `password` for oneself.
    #[serde(default)]
    pub current_password: Option<String>,
    /// May log in (administrators).
    #[serde(default)]
    pub is_active: Option<bool>,
    /// What they may do at large (administrators).
    #[serde(default)]
    pub role: Option<UserRole>,
    /// Free settings of clients.
    #[serde(default)]
    pub preferences: Option<serde_json::Map<String, serde_json::Value>>,
}
secret_debug!(UserPatch);

/// `POST /api/v1/api-keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// 1 to 100 characters.
    pub name: String,
    /// Absent: never ends.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// An API key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyView {
    /// Its id.
    pub id: ApiKeyId,
    /// Name.
    pub name: String,
    /// First characters of the secret, to recognise it.
    pub key_prefix: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Answer to `POST /api/v1/api-keys`: the secret is shown once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedApiKey {
    /// The key.
    #[serde(flatten)]
    pub view: ApiKeyView,
    /// `trp_` and 40 characters.
    pub key: String,
}
secret_debug!(CreatedApiKey);
