//! Limits and times of a shard host.

use std::{num::NonZeroU32, time::Duration};

use thiserror::Error;

/// How a shard host works. The defaults are the design's values.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Activations started per second. Default 1,000.
    pub activations_per_second: NonZeroU32,
    /// Activations that may start at once after a quiet time. Default 256.
    pub activations_burst: NonZeroU32,
    /// Activations under way at once. Default 32.
    pub activations_at_once: usize,
    /// Activations kept; above it the least recently used idle ones go. With twice as many
    /// entities in memory, messages to others get `Overloaded`. Default 50,000.
    pub activations_max: usize,
    /// Time for one activation; then it has failed. Default 30 s.
    pub activation_deadline: Duration,
    /// Time for one handler; a longer one is logged and counted, not ended. Default 2 s.
    pub handler_deadline: Duration,
    /// Time for one `close()`; then the activation is dropped as it is. Default 5 s.
    pub close_deadline: Duration,
    /// Shortest wait before an entity is activated again after a crash. Default 0.1 s.
    pub backoff_min: Duration,
    /// Longest wait; as long without a crash and it starts over. Default 30 s.
    pub backoff_max: Duration,
    /// How often idle activations are looked for. Default 5 s.
    pub sweep_every: Duration,
    /// Wake-ups per second. Default 100.
    pub wakes_per_second: NonZeroU32,
    /// How often the wake index is read. Default 5 min.
    pub wake_read_every: Duration,
    /// How far ahead it is read. Default 10 min.
    pub wake_horizon: Duration,
}

impl Default for HostOptions {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            activations_per_second: number(1_000),
            activations_burst: number(256),
            activations_at_once: 32,
            activations_max: 50_000,
            activation_deadline: Duration::from_secs(30),
            handler_deadline: Duration::from_secs(2),
            close_deadline: Duration::from_secs(5),
            backoff_min: troupe_actor::Backoff::MIN,
            backoff_max: troupe_actor::Backoff::MAX,
            sweep_every: Duration::from_secs(5),
            wakes_per_second: number(100),
            wake_read_every: Duration::from_secs(300),
            wake_horizon: Duration::from_secs(600),
        }
    }
}

/// An option that makes no sense.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("`{option}` {problem}")]
pub struct InvalidOption {
    /// Its name.
    pub option: &'static str,
    /// What is wrong.
    pub problem: &'static str,
}

impl HostOptions {
    /// Everything that is wrong, in one go.
    #[must_use]
    pub fn validate(&self) -> Vec<InvalidOption> {
        let zero = "must be above zero";
        let checks = [
            (self.activations_at_once == 0, "activations_at_once", zero),
            (self.activations_max == 0, "activations_max", zero),
            (self.activation_deadline.is_zero(), "activation_deadline", zero),
            (self.handler_deadline.is_zero(), "handler_deadline", zero),
            (self.close_deadline.is_zero(), "close_deadline", zero),
            (self.backoff_min.is_zero(), "backoff_min", zero),
            (self.sweep_every.is_zero(), "sweep_every", zero),
            (self.wake_read_every.is_zero(), "wake_read_every", zero),
            (self.backoff_min > self.backoff_max, "backoff_min", "is above `backoff_max`"),
            (
                self.wake_horizon < self.wake_read_every,
                "wake_horizon",
                "is below `wake_read_every`: wake-ups would be seen too late",
            ),
        ];
        let fault = |(wrong, option, problem): (bool, _, _)| {
            wrong.then_some(InvalidOption { option, problem })
        };
        checks.into_iter().filter_map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_fault_is_named() {
        assert_eq!(HostOptions::default().validate(), []);
        let bad = HostOptions {
            activations_max: 0,
            wake_horizon: Duration::from_secs(1),
            ..HostOptions::default()
        };
        let named: Vec<_> = bad.validate().into_iter().map(|fault| fault.option).collect();
        assert_eq!(named, ["activations_max", "wake_horizon"]);
    }
}
