//! What a node says about itself.

use serde::{Deserialize, Serialize};

/// Answer to `GET /api/v1/meta`: what a client needs to know before a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Meta {
    /// `troupe`.
    pub name: String,
    /// Version of the node.
    pub version: String,
    /// Tells clusters apart; part of the refresh cookie's name.
    pub cluster_id: String,
    /// There is no administrator yet.
    pub setup_needed: bool,
    /// The scripted demo model answers without a key.
    pub demo: bool,
}

/// Answer to `GET /api/v1/setup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupNeeded {
    /// There is no administrator yet.
    pub needed: bool,
}

/// Answer to `GET /health`, `/ready` and `/startup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `healthy`; `ready`, `not_ready`, `shutting_down`; `started`, `starting`.
    pub status: String,
    /// It drains: no new work.
    #[serde(default)]
    pub shutting_down: bool,
    /// Why it is not ready, or what works in part only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
