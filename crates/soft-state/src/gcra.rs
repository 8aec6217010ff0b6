//! The generic cell rate algorithm, in its virtual scheduling form (ITU-T I.371, annex A): one
//! number per counter, the theoretical arrival time of the next cell.
//!
//! The script for Redis says the same in Lua; the conformance suite runs against both.

use std::time::Duration;

use crate::limits::{Rule, Verdict};

/// From one event to the next in the long run, in microseconds.
pub(crate) fn interval(rule: Rule) -> u64 {
    (period(rule) / u64::from(rule.burst.max(1))).max(1)
}

/// The whole period, in microseconds: a multiple of the interval.
fn period(rule: Rule) -> u64 {
    u64::try_from(rule.per.as_micros()).unwrap_or(u64::MAX)
}

/// How far ahead of now the theoretical arrival time may come to lie, in microseconds.
pub(crate) fn reach(rule: Rule) -> u64 {
    interval(rule).saturating_mul(u64::from(rule.burst.max(1)))
}

/// One event at `now`, with the theoretical arrival time `tat`, all in microseconds: the
/// verdict, and the new time if it is allowed.
pub(crate) fn take(tat: u64, now: u64, rule: Rule) -> (Verdict, Option<u64>) {
    // Never further ahead than a rule allows, even if the clock went back.
    let tat = tat.min(now.saturating_add(reach(rule))).max(now);
    let next = tat.saturating_add(interval(rule));
    let open_at = next.saturating_sub(reach(rule));
    if now < open_at {
        let retry_after = Duration::from_micros(open_at - now);
        return (Verdict::Refused { retry_after }, None);
    }
    (Verdict::Allowed, Some(next))
}

/// One event less; `None` if nothing is left to be remembered.
pub(crate) fn give_back(tat: u64, now: u64, rule: Rule) -> Option<u64> {
    Some(tat.saturating_sub(interval(rule))).filter(|tat| *tat > now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule { burst: 10, per: Duration::from_secs(60) };

    #[test]
    fn a_burst_then_one_every_interval() {
        let (mut tat, mut now) = (0, 1_000_000_000);
        for _ in 0..10 {
            tat = take(tat, now, RULE).1.expect("within the burst");
        }
        let (refused, _) = take(tat, now, RULE);
        assert_eq!(refused, Verdict::Refused { retry_after: Duration::from_secs(6) });
        now += 6_000_000;
        tat = take(tat, now, RULE).1.expect("one came free");
        assert!(take(tat, now, RULE).1.is_none());
        assert!(take(tat, now + 60_000_000, RULE).1.is_some());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let now = 5_000_000;
        let mut tat = 0;
        for _ in 0..10 {
            tat = take(tat, now, RULE).1.expect("within the burst");
        }
        let tat = give_back(tat, now, RULE).expect("nine are left");
        assert!(take(tat, now, RULE).1.is_some());
        assert_eq!(give_back(now + 6_000_000, now, RULE), None);
    }

    proptest! {
        /// In no period more than twice the burst, whatever the arrivals; and a refusal's
        /// advice is right to the microsecond.
        #[test]
        fn it_bounds_every_window(
            burst in 1_u32..20,
            per_ms in 20_u64..5_000,
            gaps in prop::collection::vec(0_u64..400_000, 1..300),
        ) {
            let rule = Rule { burst, per: Duration::from_millis(per_ms) };
            let (mut tat, mut now) = (0, 1_000_000_000_u64);
            let mut allowed = Vec::new();
            for gap in gaps {
                now += gap;
                match take(tat, now, rule) {
                    (Verdict::Allowed, Some(next)) => {
                        tat = next;
                        allowed.push(now);
                    }
                    (Verdict::Refused { retry_after }, None) => {
                        let at = now + u64::try_from(retry_after.as_micros()).unwrap();
                        prop_assert!(take(tat, at, rule).1.is_some());
                        prop_assert!(take(tat, at - 1, rule).1.is_none());
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            for (n, start) in allowed.iter().enumerate() {
                let end = start + reach(rule);
                let within = allowed[n..].iter().take_while(|at| **at < end).count();
                prop_assert!(within <= 2 * burst as usize, "{within} in one period");
            }
        }
    }
}
