//! What a verb fails with, and the exit code that says so.

use std::process::ExitCode;

use thiserror::Error;
use troupe_api::Problem;

/// The exit codes, for `troupe --help`.
pub const EXIT_CODES: &str = "\
Exit codes of all verbs but up, node and restore:
  0   done
  1   refused, or a fault on this machine
  2   wrong arguments
  3   not found
  4   not logged in, or not allowed
  5   conflict: it exists, is in use, or was changed meanwhile
  6   the node is not reached or overloaded: try again
  10  the task that was followed failed
  11  it was cancelled
  12  it waits for a person
  `troupe exec` ends with the code of the program that it ran.";

/// Why a verb failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The node refused.
    #[error("{}", describe(.0))]
    Problem(Box<Problem>),
    /// The node was not reached.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or the node fell silent.
    #[error("{what}")]
    Link {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Its certificate is not good.
    #[error("the certificate of {url} is refused: {why}")]
    Untrusted {
        /// Where.
        url: String,
        /// In words, with the way out if there is one.
        why: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Something on this machine.
    #[error("{what}")]
    Local {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// The Task that was followed ended like this.
    #[error("{message}")]
    TaskEnded {
        /// In words.
        message: String,
        /// The exit code.
        code: u8,
    },
}

impl CliError {
    /// Something on this machine, with its cause.
    pub fn local(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Local { what: what.into(), source: Some(source.into()) }
    }

    /// The connection, with what it broke of.
    pub fn link(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Link { what: what.into(), source: Some(source.into()) }
    }

    /// Whether the same call may go well later: the node is busy, starts again, or is not reached.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // A proxy answers for a node that is away in words of its own.
            Self::Problem(p) => matches!(p.status, 429 | 500..) || p.code == "http",
            Self::Unreachable { .. } | Self::Link { .. } => true,
            Self::Untrusted { .. }
            | Self::Local { .. }
            | Self::Usage(_)
            | Self::TaskEnded { .. } => false,
        }
    }

    /// As [`EXIT_CODES`] says.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Problem(problem) => match problem.status {
                404 | 410 => 3,
                401 | 403 => 4,
                409 => 5,
                429 | 502..=504 => 6,
                _ => 1,
            },
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Link { .. } => 6,
            Self::Local { .. } => 1,
            Self::Usage(_) => 2,
            Self::TaskEnded { code, .. } => *code,
        })
    }
}

fn describe(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    for error in &problem.errors {
        if problem.errors.len() == 1 && error.message == problem.detail && error.line.is_none() {
            // Said once, with the field that it is about.
            if !error.path.is_empty() {
                text.insert_str(0, &format!("{}: ", error.path));
            }
            continue;
        }
        text.push_str("\n  ");
        if let Some(file) = &error.file {
            text.push_str(file);
            text.push(':');
        }
        if let (Some(line), Some(column)) = (error.line, error.column) {
            text.push_str(&format!("{line}:{column}: "));
        }
        if !error.path.is_empty() {
            text.push_str(&format!("{}: ", error.path));
        }
        text.push_str(&error.message);
        if let Some(found) = &error.found {
            text.push_str(&format!(", found `{found}`"));
        }
        if !error.allowed.is_empty() {
            text.push_str(&format!(", allowed: {}", error.allowed.join(", ")));
        }
        if let Some(suggestion) = &error.suggestion {
            text.push_str(&format!("; did you mean `{suggestion}`?"));
        }
    }
    if problem.status == 401 {
        text.push_str("\nlog in with: troupe login");
    }
    if let Some(id) = &problem.request_id
        && problem.status >= 500
    {
        text.push_str(&format!("\nrequest {id}"));
    }
    text
}
