//! Sorts what providers say of their errors.

use super::ErrorType;

/// What a provider said of an error, to be sorted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ErrorHints<'a> {
    /// HTTP status.
    pub status: Option<u16>,
    /// `error.type`.
    pub kind: &'a str,
    /// `error.code`.
    pub code: &'a str,
    /// `error.message`, or the whole body.
    pub message: &'a str,
}

/// Sorts a provider's error; the flag says whether the same call may go well later.
pub(crate) fn classify(hints: ErrorHints<'_>) -> (ErrorType, bool) {
    let message = hints.message.to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| message.contains(needle));
    let is = |words: &[&str]| words.contains(&hints.kind) || words.contains(&hints.code);
    let status = hints.status.unwrap_or(0);
    let refused = status == 0 || (400..500).contains(&status);

    if is(&["context_length_exceeded", "model_context_window_exceeded"])
        || (refused && status != 429 && says(CONTEXT_WORDS))
    {
        return (ErrorType::ContextLengthExceeded, false);
    }
    if is(&["insufficient_quota", "billing_hard_limit_reached", "billing_error"])
        || status == 402
        || (refused && says(QUOTA_WORDS))
    {
        return (ErrorType::QuotaExceeded, false);
    }
    if is(&["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"]) {
        return (ErrorType::ContentFilter, false);
    }
    if says(&["image exceeds", "image dimensions exceed", "image too large", "image is too large"])
    {
        return (ErrorType::ImageTooLarge, false);
    }
    if is(&["rate_limit_error", "rate_limit_exceeded", "tokens", "requests"]) || status == 429 {
        return (ErrorType::RateLimit, true);
    }
    if is(&["overloaded_error", "server_is_overloaded", "engine_overloaded"])
        || matches!(status, 503 | 529)
    {
        return (ErrorType::ModelUnavailable, true);
    }
    if is(&["not_found_error", "model_not_found"]) || status == 404 {
        return (ErrorType::ModelUnavailable, false);
    }
    if is(&["authentication_error", "invalid_api_key"]) || status == 401 {
        return (ErrorType::PermissionDenied, false);
    }
    if is(&["permission_error"]) || status == 403 {
        return (ErrorType::Forbidden, false);
    }
    if is(&["request_too_large"]) || status == 413 {
        return (ErrorType::PayloadTooLarge, false);
    }
    if is(&["timeout_error"]) || matches!(status, 408 | 504) {
        return (ErrorType::TimeoutError, true);
    }
    classify_rest(status, is(&["invalid_request_error"]), &says, is(&["api_error", "server_error"]))
}

fn classify_rest(
    status: u16,
    invalid: bool,
    says: &dyn Fn(&[&str]) -> bool,
    failed: bool,
) -> (ErrorType, bool) {
    if status >= 500 || (failed && status == 0) {
        return (ErrorType::ProviderError, true);
    }
    if invalid || (400..500).contains(&status) {
        if says(&["does not support", "not supported", "unsupported"]) {
            return (ErrorType::LlmUnsupported, false);
        }
        if says(&["roles must alternate", "invalid role", "role 'tool'", "messages with role"]) {
            return (ErrorType::InvalidRole, false);
        }
        return (ErrorType::InvalidParameter, false);
    }
    (ErrorType::GenericError, false)
}

const CONTEXT_WORDS: &[&str] = &[
    "prompt is too long",
    "maximum context length",
    "context length exceeded",
    "context_length_exceeded",
    "exceed context limit",
    "exceeds the context",
    "context window",
    "too many tokens",
    "input is too long",
];

const QUOTA_WORDS: &[&str] =
    &["credit balance is too low", "exceeded your current quota", "insufficient balance"];

#[cfg(test)]
mod tests {
    use super::*;

    use ErrorType as T;

    /// Status (0: none), type, code, message; what it is, whether it is transient.
    const CASES: &[(u16, &str, &str, &str, T, bool)] = &[
        (
            400,
            "invalid_request_error",
            "",
            "prompt is too long: 201000 tokens > 200000 maximum",
            T::ContextLengthExceeded,
            false,
        ),
        (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens",
            T::ContextLengthExceeded,
            false,
        ),
        (
            429,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota",
            T::QuotaExceeded,
            false,
        ),
        (
            400,
            "invalid_request_error",
            "",
            "Your credit balance is too low",
            T::QuotaExceeded,
            false,
        ),
        (402, "", "", "", T::QuotaExceeded, false),
        (429, "rate_limit_error", "", "context window of your limit", T::RateLimit, true),
        (429, "tokens", "rate_limit_exceeded", "Rate limit reached", T::RateLimit, true),
        (529, "overloaded_error", "", "Overloaded", T::ModelUnavailable, true),
        (503, "", "", "", T::ModelUnavailable, true),
        (404, "not_found_error", "", "model: x", T::ModelUnavailable, false),
        (401, "authentication_error", "", "invalid x-api-key", T::PermissionDenied, false),
        (403, "permission_error", "", "", T::Forbidden, false),
        (413, "request_too_large", "", "", T::PayloadTooLarge, false),
        (400, "invalid_request_error", "", "image exceeds 5 MB maximum", T::ImageTooLarge, false),
        (400, "invalid_request_error", "", "x does not support tools", T::LlmUnsupported, false),
        (400, "invalid_request_error", "", "messages: roles must alternate", T::InvalidRole, false),
        (400, "invalid_request_error", "", "temperature: range", T::InvalidParameter, false),
        (400, "", "content_filter", "", T::ContentFilter, false),
        (500, "api_error", "", "", T::ProviderError, true),
        (504, "", "", "", T::TimeoutError, true),
        (418, "", "", "", T::InvalidParameter, false),
        (0, "overloaded_error", "", "Overloaded", T::ModelUnavailable, true),
        (0, "api_error", "", "", T::ProviderError, true),
        (0, "weird", "", "", T::GenericError, false),
    ];

    #[test]
    fn providers_errors_are_sorted() {
        for &(status, kind, code, message, want, transient) in CASES {
            let status = (status > 0).then_some(status);
            let hints = ErrorHints { status, kind, code, message };
            assert_eq!(classify(hints), (want, transient), "{hints:?}");
        }
    }
}
