//! Why something about identity was refused.

use thiserror::Error;
use troupe_api::Problem;
use troupe_store::{CasError, ReadError};

/// What the store said.
#[derive(Debug, Error)]
pub enum StoreFault {
    /// A read failed.
    #[error("a directory row could not be read")]
    Read(#[source] ReadError),
    /// A write failed or may have failed.
    #[error("a directory row could not be written")]
    Write(#[source] CasError),
    /// No answer in time.
    #[error("the directory did not answer in time")]
    Timeout,
    /// A row is not what was written.
    #[error("a directory row is damaged")]
    Damaged,
    /// Others changed the row again and again.
    #[error("a directory row is changed too often")]
    Contended,
}

/// Why a login, a token or a change of users was refused.
#[derive(Debug, Error)]
pub enum AuthError {
    /// Unknown name, wrong password or deactivated account: they look the same.
    #[error("name or password is wrong")]
    WrongPassword,
    /// Missing, malformed or not ours.
    #[error("the token is not valid")]
    BadToken,
    /// It was good once.
    #[error("the token is expired")]
    Expired,
    /// Logged out, password changed, account deactivated, key deleted.
    #[error("the session was ended")]
    Revoked,
    /// A refresh token that had been replaced came back: its whole family is ended.
    #[error("the refresh token was used before")]
    Reused,
    /// Too many failed logins.
    #[error("too many failed attempts")]
    TooMany {
        /// Seconds.
        retry_after: u64,
    },
    /// Too many passwords are being checked.
    #[error("too many logins at once")]
    Busy,
    /// The setup token was used or replaced.
    #[error("the setup link was used or replaced")]
    SetupGone,
    /// Another user has this name.
    #[error("the user name is taken")]
    NameTaken,
    /// A field is wrong.
    #[error("{path} is not valid")]
    Invalid {
        /// Which field.
        path: &'static str,
        /// One sentence.
        message: String,
    },
    /// The caller may not do that.
    #[error("not allowed")]
    Forbidden(&'static str),
    /// Not there, or not the caller's.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// It would break a rule that the answer names.
    #[error("not possible")]
    Conflict(&'static str),
    /// The store.
    #[error("the store failed")]
    Store(#[from] StoreFault),
}

impl AuthError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::TooMany { .. } | Self::Store(_))
    }

    pub(super) fn invalid(path: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { path, message: message.into() }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let unauthorized = |code: &str, detail: &str| Self::new(401, code, detail);
        match error {
            AuthError::WrongPassword => {
                unauthorized("wrong_credentials", "The name or the password is wrong.")
            }
            AuthError::BadToken => unauthorized("unauthorized", "Log in, or give an API key."),
            AuthError::Expired => {
                unauthorized("token_expired", "The token is expired: refresh it or log in.")
            }
            AuthError::Revoked => {
                unauthorized("session_ended", "This session or key was ended: log in again.")
            }
            AuthError::Reused => unauthorized(
                "refresh_reused",
                "This refresh token was replaced before, so the session was ended: log in again.",
            ),
            AuthError::TooMany { retry_after } => {
                let detail = format!("Too many failed attempts: try again in {retry_after} s.");
                Self { retry_after: Some(retry_after), ..Self::new(429, "too_many", detail) }
            }
            AuthError::Busy => Self {
                retry_after: Some(1),
                ..Self::new(503, "busy", "Too many logins at once: try again in a second.")
            },
            AuthError::SetupGone => Self::new(
                410,
                "setup_gone",
                "This setup link was used or replaced. While there is no administrator, each \
                 start of the node prints a new one.",
            ),
            AuthError::NameTaken => Self::new(409, "name_taken", "Another user has this name."),
            AuthError::Invalid { path, message } => Self::invalid(path, message),
            AuthError::Forbidden(detail) => Self::forbidden(detail),
            AuthError::NotFound(what) => Self::not_found(what),
            AuthError::Conflict(detail) => Self::new(409, "conflict", detail),
            AuthError::Store(fault) => {
                tracing::warn!(error = %fault, "a directory call failed");
                Self {
                    retry_after: Some(1),
                    ..Self::new(503, "unavailable", "The store is not available: try again.")
                }
            }
        }
    }
}
