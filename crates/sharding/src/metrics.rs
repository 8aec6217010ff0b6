//! Metrics of this crate: names, descriptions, and handles that are looked up once.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use troupe_types::EntityKind;

use crate::ask::AskError;

const ASKS: &str = "troupe_sharding_asks_total";
const ACTIVATIONS: &str = "troupe_sharding_activations_total";
const ACTIVATION_FAILURES: &str = "troupe_sharding_activation_failures_total";
const ACTIVATION_SECONDS: &str = "troupe_sharding_activation_seconds";
const PASSIVATIONS: &str = "troupe_sharding_passivations_total";
const CRASHES: &str = "troupe_sharding_crashes_total";
const DEAD_LETTERS: &str = "troupe_sharding_dead_letters_total";
const OVERDUE: &str = "troupe_sharding_handlers_overdue_total";
const WAKES: &str = "troupe_sharding_wakes_total";
const ENTITIES: &str = "troupe_sharding_entities";
const QUEUED: &str = "troupe_sharding_queued_messages";
const WAKE_WAITING: &str = "troupe_sharding_wakes_waiting";
const WAKE_READ_FAILURES: &str = "troupe_sharding_wake_read_failures_total";

/// Registers the descriptions; once, after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(ASKS, "asks by kind and fate");
    describe_counter!(ACTIVATIONS, "entities activated");
    describe_counter!(ACTIVATION_FAILURES, "activations that failed");
    describe_histogram!(ACTIVATION_SECONDS, Unit::Seconds, "time of an activation");
    describe_counter!(PASSIVATIONS, "idle entities unloaded");
    describe_counter!(CRASHES, "activations that crashed, by whether a message was to blame");
    describe_counter!(DEAD_LETTERS, "messages given up after three strikes");
    describe_counter!(OVERDUE, "handlers that took longer than their deadline");
    describe_counter!(WAKES, "entities woken from the wake index");
    describe_counter!(WAKE_READ_FAILURES, "reads of the wake index that failed");
    describe_gauge!(ENTITIES, "live activations, as of the last sweep");
    describe_gauge!(QUEUED, "messages in entity queues, as of the last sweep");
    describe_gauge!(WAKE_WAITING, "wake-ups kept in memory");
}

/// Handles of one kind.
#[derive(Debug)]
pub(crate) struct KindMetrics {
    asks: [Counter; 5],
    /// The second of them again, as a number that can be read.
    overloaded: AtomicU64,
    pub(crate) activations: Counter,
    pub(crate) activation_failures: Counter,
    pub(crate) activation_seconds: Histogram,
    pub(crate) passivations: Counter,
    pub(crate) crashes: Counter,
    pub(crate) crashes_blameless: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) overdue: Counter,
    pub(crate) wakes: Counter,
    pub(crate) entities: Gauge,
    pub(crate) queued: Gauge,
}

impl KindMetrics {
    pub(crate) fn new(kind: EntityKind) -> Self {
        let kind = kind.name();
        let fate = |fate: &'static str| counter!(ASKS, "kind" => kind, "fate" => fate);
        Self {
            asks: ["ok", "overloaded", "not_delivered", "outcome_unknown", "failed"].map(fate),
            overloaded: AtomicU64::new(0),
            activations: counter!(ACTIVATIONS, "kind" => kind),
            activation_failures: counter!(ACTIVATION_FAILURES, "kind" => kind),
            activation_seconds: histogram!(ACTIVATION_SECONDS, "kind" => kind),
            passivations: counter!(PASSIVATIONS, "kind" => kind),
            crashes: counter!(CRASHES, "kind" => kind, "blameless" => "false"),
            crashes_blameless: counter!(CRASHES, "kind" => kind, "blameless" => "true"),
            dead_letters: counter!(DEAD_LETTERS, "kind" => kind),
            overdue: counter!(OVERDUE, "kind" => kind),
            wakes: counter!(WAKES, "kind" => kind),
            entities: gauge!(ENTITIES, "kind" => kind),
            queued: gauge!(QUEUED, "kind" => kind),
        }
    }

    /// Counts an ask by what became of it.
    pub(crate) fn asked<T>(&self, answer: &Result<T, AskError>) {
        let fate = match answer {
            Ok(_) => 0,
            Err(AskError::Overloaded) => 1,
            Err(AskError::NotDelivered) => 2,
            Err(AskError::OutcomeUnknown) => 3,
            Err(AskError::Failed(_)) => 4,
        };
        self.asks[fate].increment(1);
        if fate == 1 {
            self.overloaded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks that were refused because a queue or the memory was full.
    pub(crate) fn overloaded(&self) -> u64 {
        self.overloaded.load(Ordering::Relaxed)
    }
}

/// Handles of the wake loop.
#[derive(Debug)]
pub(crate) struct WakeMetrics {
    pub(crate) waiting: Gauge,
    pub(crate) read_failures: Counter,
}

impl WakeMetrics {
    pub(crate) fn new() -> Self {
        Self { waiting: gauge!(WAKE_WAITING), read_failures: counter!(WAKE_READ_FAILURES) }
    }
}
