//! How long to wait before something that failed is tried again.

use std::time::Duration;

use troupe_types::MonoTime;

/// Grows from 0.1 to 30 s, doubling with each failure in a row, with up to a quarter of jitter
/// either way; starts over after a calm time without a failure.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    calm: Duration,
    failures: u32,
    /// When the newest wait is over.
    over: MonoTime,
    dice: u64,
}

impl Backoff {
    /// The shortest wait.
    pub const MIN: Duration = Duration::from_millis(100);
    /// The longest wait, and the calm time after which it starts over.
    pub const MAX: Duration = Duration::from_secs(30);

    /// The house bounds. The same seed gives the same jitter.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self::bounded(Self::MIN, Self::MAX, Self::MAX, seed)
    }

    /// Other bounds; `calm` is measured from the end of the newest wait.
    #[must_use]
    pub const fn bounded(min: Duration, max: Duration, calm: Duration, seed: u64) -> Self {
        Self { min, max, calm, failures: 0, over: MonoTime::ZERO, dice: seed }
    }

    /// Takes note of a failure at `now`; answers how long to wait.
    pub fn failed(&mut self, now: MonoTime) -> Duration {
        if self.failures > 0 && now.since(self.over) >= self.calm {
            self.failures = 0;
        }
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let base = doubled.min(self.max);
        // 0.75 to 1.25 of the base.
        let quarter = base / 4;
        let jitter = quarter.mul_f64(self.roll() * 2.0);
        let wait = (base - quarter + jitter).clamp(self.min, self.max);
        self.over = now.plus(wait);
        wait
    }

    /// Failures since the last calm time.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts over.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the calm time has passed, so that nothing need be remembered.
    #[must_use]
    pub fn is_calm(&self, now: MonoTime) -> bool {
        self.failures == 0 || now.since(self.over) >= self.calm
    }

    /// From 0 to 1 (SplitMix64: jitter needs no better dice).
    fn roll(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_stay_in_bounds_and_grow(seed in any::<u64>()) {
            let mut backoff = Backoff::new(seed);
            let mut now = MonoTime::ZERO;
            let mut bases = Duration::from_millis(100);
            for _ in 0..40 {
                let wait = backoff.failed(now);
                prop_assert!((Backoff::MIN..=Backoff::MAX).contains(&wait), "{wait:?}");
                prop_assert!(wait >= bases.mul_f64(0.74) && wait <= bases.mul_f64(1.26));
                bases = (bases * 2).min(Backoff::MAX);
                now = now.plus(wait);
            }
        }
    }

    #[test]
    fn calm_starts_over() {
        let mut backoff = Backoff::new(7);
        let mut now = MonoTime::ZERO;
        for _ in 0..10 {
            now = now.plus(backoff.failed(now));
        }
        assert!(!backoff.is_calm(now));
        now = now.plus(Backoff::MAX);
        assert!(backoff.is_calm(now));
        assert!(backoff.failed(now) < Duration::from_millis(200));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn two_seeds_do_not_march_in_step() {
        let (mut a, mut b) = (Backoff::new(1), Backoff::new(2));
        let waits = |backoff: &mut Backoff| -> Vec<Duration> {
            (0..5).map(|_| backoff.failed(MonoTime::ZERO)).collect()
        };
        assert_ne!(waits(&mut a), waits(&mut b));
    }
}
