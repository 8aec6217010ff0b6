//! Errors: `application/problem+json` (RFC 9457) with a stable `code`.

use serde::{Deserialize, Serialize};

/// What went wrong, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable word: `not_found`, `key_reused`, `conflict`, `invalid`..
    pub code: String,
    /// One sentence: what, and the way out.
    pub detail: String,
    /// Single faults, if there are several or if a place can be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// To be quoted to whoever operates the node; in its log too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds after which a repeat makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// One fault at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Name of the file, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// `spec.members[1].botRef.name`, or the JSON field.
    pub path: String,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What may be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// One sentence.
    pub message: String,
    /// "did you mean".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem without single faults.
    #[must_use]
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            request_id: None,
            retry_after: None,
        }
    }

    /// Nothing that the caller may see has this name. Foreign things answer the same.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", format!("{what} not found"))
    }

    /// A field of the request is wrong.
    #[must_use]
    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Self::new(422, "invalid", message.clone());
        problem.errors.push(FieldError { path: path.to_owned(), message, ..FieldError::default() });
        problem
    }

    /// The caller did not prove who they are.
    #[must_use]
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(401, "unauthorized", detail)
    }

    /// The caller may see this, but not do that.
    #[must_use]
    pub fn forbidden(detail: &str) -> Self {
        Self::new(403, "forbidden", detail)
    }
}
