//! What can go wrong in a call, sorted into the words that people and clients see.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::egress::EgressError;

mod classify;

pub(crate) use classify::{ErrorHints, classify};

/// Longest text of a provider that an error keeps, in bytes.
pub const PROVIDER_TEXT_BYTES_MAX: usize = 2 * 1024;

/// The `type` of `chat:error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The conversation does not fit the model.
    ContextLengthExceeded,
    /// No money or allowance left: waiting does not help.
    QuotaExceeded,
    /// Too many calls: waiting helps.
    RateLimit,
    /// The model is overloaded, or there is none of that name.
    ModelUnavailable,
    /// A container ran out of memory.
    ContainerOom,
    /// A container failed.
    ContainerError,
    /// The provider could not be reached, or the connection broke.
    NetworkError,
    /// Nothing came in time.
    TimeoutError,
    /// The model cannot do what was asked of it.
    LlmUnsupported,
    /// The provider, or the egress rule, does not allow it.
    Forbidden,
    /// The request is too large.
    PayloadTooLarge,
    /// The provider refused a field of the request.
    InvalidParameter,
    /// A content filter refused.
    ContentFilter,
    /// The provider failed.
    ProviderError,
    /// A picture is too large.
    ImageTooLarge,
    /// The provider sent what its protocol does not allow.
    ModelProtocolError,
    /// The provider refused the order of the messages.
    InvalidRole,
    /// The key is missing or wrong.
    PermissionDenied,
    /// None of these.
    GenericError,
}

impl ErrorType {
    /// The outside word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimit => "rate_limit",
            Self::ModelUnavailable => "model_unavailable",
            Self::ContainerOom => "container_oom",
            Self::ContainerError => "container_error",
            Self::NetworkError => "network_error",
            Self::TimeoutError => "timeout_error",
            Self::LlmUnsupported => "llm_unsupported",
            Self::Forbidden => "forbidden",
            Self::PayloadTooLarge => "payload_too_large",
            Self::InvalidParameter => "invalid_parameter",
            Self::ContentFilter => "content_filter",
            Self::ProviderError => "provider_error",
            Self::ImageTooLarge => "image_too_large",
            Self::ModelProtocolError => "model_protocol_error",
            Self::InvalidRole => "invalid_role",
            Self::PermissionDenied => "permission_denied",
            Self::GenericError => "generic_error",
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ErrorType {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_value(serde_json::Value::String(text.to_owned()))
    }
}

/// Which wait was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPhase {
    /// For the connection.
    Connect,
    /// For the first byte of the answer.
    FirstByte,
    /// For the next piece of the answer.
    Idle,
    /// For the whole answer.
    Total,
}

impl fmt::Display for TimeoutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "a connection",
            Self::FirstByte => "the first byte",
            Self::Idle => "the next piece",
            Self::Total => "the whole answer",
        })
    }
}

/// Why a call of a model ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The caller's token was cancelled.
    #[error("call was cancelled")]
    Cancelled,
    /// The provider answered with an error, instead of or within its stream.
    #[error("provider reported {kind}")]
    Provider {
        /// The sorted kind.
        kind: ErrorType,
        /// The provider's own text, without keys, at most [`PROVIDER_TEXT_BYTES_MAX`].
        text: String,
        /// HTTP status; none for an error within a stream.
        status: Option<u16>,
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
        /// The provider's id of the request, for its support.
        request_id: Option<String>,
        /// Whether the same call may go well later.
        transient: bool,
    },
    /// No connection, or it broke.
    #[error("connection to the provider failed")]
    Network {
        /// Without the URL, which may hold a key.
        #[source]
        source: reqwest::Error,
    },
    /// The rule for outgoing connections does not allow the address.
    #[error("provider's address is refused")]
    Egress(#[source] EgressError),
    /// Nothing came in time.
    #[error("waited {} s for {phase}", after.as_secs())]
    Timeout {
        /// For what.
        phase: TimeoutPhase,
        /// How long.
        after: Duration,
    },
    /// The stream ended in the middle of the answer.
    #[error("stream ended before the answer was complete")]
    Cut,
    /// The provider sent what its protocol does not allow.
    #[error("provider broke its protocol: {detail}")]
    Protocol {
        /// What was wrong; an excerpt at most.
        detail: String,
    },
    /// The answer passes a bound.
    #[error("answer passes {limit} bytes of {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The model's configuration cannot work.
    #[error("model configuration: {detail}")]
    Config {
        /// What is wrong.
        detail: String,
    },
}

impl ModelError {
    /// The sorted kind, as `chat:error` tells it.
    #[must_use]
    pub const fn kind(&self) -> ErrorType {
        match self {
            Self::Provider { kind, .. } => *kind,
            Self::Network { .. } | Self::Cut => ErrorType::NetworkError,
            Self::Egress(EgressError::Client { .. }) => ErrorType::GenericError,
            Self::Egress(EgressError::Unresolved { .. }) => ErrorType::NetworkError,
            Self::Egress(EgressError::Url { .. }) => ErrorType::InvalidParameter,
            Self::Egress(_) => ErrorType::Forbidden,
            Self::Timeout { .. } => ErrorType::TimeoutError,
            Self::Protocol { .. } | Self::TooLarge { .. } => ErrorType::ModelProtocolError,
            Self::Config { .. } => ErrorType::InvalidParameter,
            Self::Cancelled => ErrorType::GenericError,
        }
    }

    /// Whether the same call may go well later. A first byte that never came does not count: the
    /// model may have worked, and been paid, all that time.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Provider { transient, .. } => *transient,
            Self::Network { .. } | Self::Cut => true,
            Self::Timeout { phase, .. } => matches!(phase, TimeoutPhase::Connect),
            Self::Cancelled
            | Self::Egress(_)
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::Config { .. } => false,
        }
    }

    /// Whether the caller's own cancel ended the call.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// How long the provider asks to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Provider { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Says so in the provider's text if it asks for a longer wait than `most`.
    pub(crate) fn waits_at_most(mut self, most: Duration) -> Self {
        if let Self::Provider { text, retry_after: Some(asked), transient: true, .. } = &mut self
            && *asked > most
        {
            let (asked, most) = (in_words(*asked), in_words(most));
            let told = format!(" (asks to wait {asked}, and {most} is the most that a call waits)");
            let kept = capped(text, PROVIDER_TEXT_BYTES_MAX - told.len()).len();
            text.truncate(kept);
            text.push_str(&told);
        }
        self
    }

    /// What people are told: the provider's own text where there is one, else the error with
    /// its causes. Holds no key.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Provider { text, kind, .. } if text.is_empty() => format!("provider: {kind}"),
            Self::Provider { text, .. } => text.clone(),
            other => {
                let mut text = other.to_string();
                let mut cause = std::error::Error::source(other);
                while let Some(error) = cause {
                    text.push_str(": ");
                    text.push_str(&error.to_string());
                    cause = error.source();
                }
                capped(&text, PROVIDER_TEXT_BYTES_MAX).to_owned()
            }
        }
    }

    /// The error as it is journaled and shown.
    #[must_use]
    pub fn summary(&self) -> ErrorSummary {
        let status = match self {
            Self::Provider { status, .. } => *status,
            _ => None,
        };
        ErrorSummary { kind: self.kind(), text: self.text(), status }
    }
}

/// An error as it is journaled and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSummary {
    /// The sorted kind.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// For people; the provider's own text where there is one.
    pub text: String,
    /// HTTP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// In the largest unit that is exact.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        hours if hours > 0 && hours.is_multiple_of(3_600) => format!("{} h", hours / 3_600),
        minutes if minutes > 0 && minutes.is_multiple_of(60) => format!("{} min", minutes / 60),
        seconds => format!("{seconds} s"),
    }
}

/// The longest start of `text` of at most `bytes_max` bytes.
pub(crate) fn capped(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_contract() {
        for kind in [
            ErrorType::ContextLengthExceeded,
            ErrorType::LlmUnsupported,
            ErrorType::ContainerOom,
            ErrorType::GenericError,
        ] {
            let word = serde_json::to_value(kind).unwrap();
            assert_eq!(word, kind.as_str());
            assert_eq!(kind.as_str().parse::<ErrorType>().unwrap(), kind);
        }
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(capped("ab你", 3), "ab");
        assert_eq!(capped("ab你", 5), "ab你");
    }
}
