//! Sorts what runtimes and providers say went wrong.

use troupe_types::ErrorType;

use crate::event::RuntimeEvent;

/// By HTTP status where there is one, else by words.
pub(crate) fn sort_http(status: Option<u64>, text: &str) -> ErrorType {
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["prompt is too long", "context_length", "context window", "maximum context"]) {
        return ErrorType::ContextLengthExceeded;
    }
    if says(&["insufficient_quota", "quota", "credit balance", "billing", "usage limit"]) {
        return ErrorType::QuotaExceeded;
    }
    match status {
        Some(400 | 422) => ErrorType::InvalidParameter,
        Some(401 | 403) => ErrorType::PermissionDenied,
        Some(404 | 503 | 529) => ErrorType::ModelUnavailable,
        Some(408 | 504) => ErrorType::TimeoutError,
        Some(413) => ErrorType::PayloadTooLarge,
        Some(429) => ErrorType::RateLimit,
        Some(500..) => ErrorType::ProviderError,
        _ => sort_words(&says),
    }
}

fn sort_words(says: &dyn Fn(&[&str]) -> bool) -> ErrorType {
    match () {
        () if says(&[
            "not logged in",
            "invalid api key",
            "unauthorized",
            "authenticat",
            "401",
            "403",
        ]) =>
        {
            ErrorType::PermissionDenied
        }
        () if says(&["429", "rate limit", "rate_limit", "too many requests"]) => {
            ErrorType::RateLimit
        }
        () if says(&[
            "overloaded",
            "at capacity",
            "high demand",
            "model_not_found",
            "503",
            "529",
        ]) =>
        {
            ErrorType::ModelUnavailable
        }
        () if says(&["timed out", "timeout"]) => ErrorType::TimeoutError,
        () if says(&[
            "connection",
            "connect",
            "stream disconnected",
            "network",
            "dns",
            "socket",
        ]) =>
        {
            ErrorType::NetworkError
        }
        () if says(&["refus", "content_filter", "content filter"]) => ErrorType::ContentFilter,
        () if says(&["500", "internal server error", "server_error"]) => ErrorType::ProviderError,
        () => ErrorType::GenericError,
    }
}

/// A session that a job named is gone; the run goes on in a new one.
pub(crate) fn session_lost(runtime: &str) -> RuntimeEvent {
    let text = format!(
        "the earlier {runtime} session is not on this device any more: a new one was begun and told what was said before"
    );
    RuntimeEvent::Notice { code: "session_lost".to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted() {
        for (status, text, sort) in [
            (Some(429), "Request rejected (429)", ErrorType::RateLimit),
            (Some(429), "insufficient_quota", ErrorType::QuotaExceeded),
            (Some(529), "Overloaded", ErrorType::ModelUnavailable),
            (Some(400), "prompt is too long: 2 > 1", ErrorType::ContextLengthExceeded),
            (None, "Not logged in · Please run /login", ErrorType::PermissionDenied),
            (None, "API Error: Connection refused", ErrorType::NetworkError),
            (None, "exceeded retry limit, last status: 429", ErrorType::RateLimit),
            (None, "boom", ErrorType::GenericError),
        ] {
            assert_eq!(sort_http(status, text), sort, "{text}");
        }
    }
}
