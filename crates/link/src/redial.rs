//! How long to wait before a peer is dialled again.

use std::time::Duration;

use troupe_types::Uuid;

use crate::options::LinkOptions;

/// Waits that double from the shortest to the longest, with a quarter of jitter either way;
/// they start over after a link that held.
#[derive(Clone, Debug)]
pub struct Redial {
    min: Duration,
    max: Duration,
    failures: u32,
    dice: u64,
}

impl Redial {
    /// Back-off with the bounds of the options.
    #[must_use]
    pub fn new(options: &LinkOptions) -> Self {
        let dice = Uuid::new_v4().as_u64_pair().1;
        Self { min: options.redial_min, max: options.redial_max, failures: 0, dice }
    }

    /// After a failure: how long to wait.
    pub fn failed(&mut self) -> Duration {
        let base = self.min.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let roll = f64::from(u32::try_from(self.dice >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        base.mul_f64(0.75 + roll / 2.0).clamp(self.min, self.max)
    }

    /// A link held for a while: start over.
    pub const fn held(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_their_bounds_and_start_over() {
        let options = LinkOptions::default();
        let mut redial = Redial::new(&options);
        let waits: Vec<_> = (0..12).map(|_| redial.failed()).collect();
        assert!(waits[0] <= Duration::from_millis(250), "{waits:?}");
        assert!(waits.iter().all(|wait| (options.redial_min..=options.redial_max).contains(wait)));
        assert!(waits[11] >= Duration::from_millis(3_750), "{waits:?}");
        redial.held();
        assert!(redial.failed() <= Duration::from_millis(250));
    }
}
