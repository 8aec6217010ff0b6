//! How fast the store answers compare-and-sets, and chance for jitter.

use std::{collections::VecDeque, time::Duration};

use troupe_types::MonoTime;

use crate::hash::mix;

/// Samples that are looked at.
const SAMPLES_MAX: usize = 256;
/// Older samples say nothing any more.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(30);

/// The latest durations of compare-and-sets.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<(MonoTime, Duration)>);

impl Pace {
    pub(crate) fn took(&mut self, duration: Duration, now: MonoTime) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, duration));
    }

    /// The 99th percentile of the last 30 s; zero without samples.
    pub(crate) fn p99(&self, now: MonoTime) -> Duration {
        self.percentile(99, now)
    }

    /// The median of the last 30 s; zero without samples.
    pub(crate) fn p50(&self, now: MonoTime) -> Duration {
        self.percentile(50, now)
    }

    fn percentile(&self, percent: usize, now: MonoTime) -> Duration {
        let recent = self.0.iter().filter(|(at, _)| now.since(*at) <= SAMPLE_AGE_MAX);
        let mut recent: Vec<_> = recent.map(|(_, duration)| *duration).collect();
        recent.sort_unstable();
        let index = (recent.len() * percent).div_ceil(100);
        recent.get(index.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// SplitMix64: spreads claims, keeps no secret.
#[derive(Debug)]
pub(crate) struct Jitter(pub(crate) u64);

impl Jitter {
    /// Evenly spread below `max`.
    pub(crate) fn below(&mut self, max: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let nanos = (u128::from(mix(self.0)) * max.as_nanos()) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_the_last_half_minute() {
        let mut pace = Pace::default();
        assert_eq!(pace.p99(MonoTime::ZERO), Duration::ZERO);
        let at = |s| MonoTime::ZERO.plus(Duration::from_secs(s));
        pace.took(Duration::from_secs(2), at(0));
        for n in 0..150 {
            pace.took(Duration::from_millis(n), at(20));
        }
        assert_eq!(pace.p99(at(20)), Duration::from_millis(149));
        assert_eq!(pace.p99(at(31)), Duration::from_millis(148));
        assert_eq!(pace.p99(at(60)), Duration::ZERO);
    }

    #[test]
    fn jitter_is_spread_and_bounded() {
        let mut jitter = Jitter(7);
        let max = Duration::from_millis(200);
        let all: Vec<_> = (0..1000).map(|_| jitter.below(max)).collect();
        assert!(all.iter().all(|d| *d < max));
        assert!(all.iter().filter(|d| **d < max / 2).count().abs_diff(500) < 100);
    }
}
