//! Git tokens of a person.

use serde::{Deserialize, Serialize};
use troupe_types::Timestamp;

/// A token for one host, masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitTokenView {
    /// `HOST` or `HOST:PORT`.
    pub host: String,
    /// The name that goes with it, if it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `****` and its last characters.
    pub token: String,
    /// When it was set.
    pub updated_at: Timestamp,
}

/// Sets a token. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutGitToken {
    /// The token: 1 to 8,000 characters without blanks. Sealed at rest, masked on read.
    pub token: String,
    /// The name that goes with it; absent: `x-access-token`, which most hosts take.
    #[serde(default)]
    pub user: Option<String>,
}

impl std::fmt::Debug for PutGitToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutGitToken").field("user", &self.user).finish_non_exhaustive()
    }
}
