//! How long a provider asks to wait, from the headers of its error answer.

use std::time::Duration;

use jiff::{SignedDuration, fmt::rfc2822::DateTimeParser};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use troupe_types::Timestamp;

/// Headers of one limit: what is left of it, and when it is whole again.
const LIMITS: [(&str, &str); 6] = [
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
];

/// `retry-after-ms`, or `retry-after` in seconds or as a date; without them, when the last of the
/// limits of which nothing is left is whole again. `None`: the provider does not say.
pub(crate) fn read(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(ms) = text(headers, "retry-after-ms").and_then(number) {
        return Some(seconds(ms / 1_000.0));
    }
    // A date is meant by the provider's clock, so it is that one which it is held against.
    let now = text(headers, DATE.as_str()).and_then(date).unwrap_or(now);
    if let Some(asked) = text(headers, RETRY_AFTER.as_str()) {
        if let Some(asked) = number(asked) {
            return Some(seconds(asked));
        }
        if let Some(at) = date(asked) {
            return Some(at.since(now));
        }
    }
    LIMITS
        .iter()
        .filter(|(left, _)| text(headers, left).and_then(number) == Some(0.0))
        .filter_map(|(_, reset)| whole_again(text(headers, reset)?, now))
        .max()
}

/// `6m0s` (OpenAI) or an RFC 3339 time (Anthropic).
fn whole_again(reset: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(after) = reset.parse::<SignedDuration>() {
        return Duration::try_from(after).ok();
    }
    let at = reset.parse::<jiff::Timestamp>().ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()).since(now))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
}

fn date(text: &str) -> Option<Timestamp> {
    let at = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

/// More than a duration holds is for ever, not nothing.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn read_all(pairs: &[(&'static str, &'static str)]) -> Option<u128> {
        let now = Timestamp::from_millis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT
        let pairs = pairs.iter();
        let headers = pairs
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
        read(&headers.collect(), now).map(|wait| wait.as_millis())
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let read = |name, value| read_all(&[(name, value)]);
        assert_eq!(read("retry-after", "3"), Some(3_000));
        assert_eq!(read("retry-after", "0.5"), Some(500));
        assert_eq!(read("retry-after-ms", "120"), Some(120));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), Some(30_000));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT"), Some(0));
        assert_eq!(read("retry-after", "1e300"), Some(Duration::MAX.as_millis()));
        for bad in ["", "soon", "-1", "inf", "NaN"] {
            assert_eq!(read("retry-after", bad), None, "{bad}");
        }
    }

    #[test]
    fn a_date_is_meant_by_the_clock_of_the_provider() {
        let asked = ("retry-after", "Sun, 06 Nov 1994 09:54:37 GMT");
        assert_eq!(read_all(&[asked, ("date", "Sun, 06 Nov 1994 09:49:37 GMT")]), Some(300_000));
    }

    #[test]
    fn without_a_word_the_limits_that_are_used_up_count() {
        let openai = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "20ms"),
        ];
        assert_eq!(read_all(&openai), Some(360_000));
        assert_eq!(read_all(&[&openai[..], &[("retry-after", "2")]].concat()), Some(2_000));
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T09:49:37Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "1994-11-06T08:51:37Z"),
        ];
        assert_eq!(read_all(&anthropic), Some(120_000));
        assert_eq!(read_all(&anthropic[..2]), None);
    }
}
