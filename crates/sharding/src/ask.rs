//! The four fates of an ask.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An entity's own refusal: a stable code and the encoded reason, for the typed wrapper that
/// sent the ask.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{message}")]
pub struct FailedAsk {
    /// Stable word.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The typed refusal, as JSON text, if there is one.
    pub detail: Option<String>,
}

/// What became of an ask that was not answered well.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AskError {
    /// The entity's queue is full; nothing happened. Back off.
    #[error("the queue is full")]
    Overloaded,
    /// It reached nobody; nothing happened. Try again.
    #[error("not delivered")]
    NotDelivered,
    /// It may or may not have happened. Repeat with the same key, or look.
    #[error("outcome unknown")]
    OutcomeUnknown,
    /// The entity refused it; nothing happened.
    #[error("refused")]
    Failed(#[source] FailedAsk),
}

impl AskError {
    /// Whether a repeat may succeed without anything else changing.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// One word for it, for spans and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::NotDelivered => "not_delivered",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether it is certain that nothing happened.
    #[must_use]
    pub const fn nothing_happened(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown)
    }
}
