//! Metrics of entities: names, descriptions, and handles that are looked up once.

use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

const APPENDS: &str = "troupe_entities_appends_total";
const APPEND_SECONDS: &str = "troupe_entities_append_seconds";
pub(crate) const ATTEMPTS: &str = "troupe_entities_attempts_total";
pub(crate) const ATTEMPT_SECONDS: &str = "troupe_entities_attempt_seconds";
pub(crate) const TURNS: &str = "troupe_entities_turns_total";
pub(crate) const TURN_SECONDS: &str = "troupe_entities_turn_seconds";
pub(crate) const FIRST_TEXT_SECONDS: &str = "troupe_entities_first_text_seconds";

/// Registers the descriptions; once, after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(APPENDS, "appends to journals, by outcome");
    describe_histogram!(APPEND_SECONDS, Unit::Seconds, "from an append to its commit");
    describe_counter!(ATTEMPTS, "attempts that ended, by outcome and sort of error");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "from the start of an attempt to its end");
    describe_counter!(TURNS, "turns of Tasks that ended, by outcome");
    describe_histogram!(TURN_SECONDS, Unit::Seconds, "from a request to the end of its turn");
    describe_histogram!(
        FIRST_TEXT_SECONDS,
        Unit::Seconds,
        "from a request to the first committed text of its turn"
    );
}

/// Of one journal's appends.
#[derive(Clone)]
pub(crate) struct AppendMetrics {
    committed: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl AppendMetrics {
    pub(crate) fn new() -> Self {
        Self {
            committed: counter!(APPENDS, "outcome" => "committed"),
            failed: counter!(APPENDS, "outcome" => "failed"),
            seconds: histogram!(APPEND_SECONDS),
        }
    }

    pub(crate) fn appended(&self, time: Duration, is_committed: bool) {
        let counter = if is_committed { &self.committed } else { &self.failed };
        counter.increment(1);
        self.seconds.record(time.as_secs_f64());
    }
}
