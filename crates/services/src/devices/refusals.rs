//! Who did not come in, for the audit log.
//!
//! Anybody can be refused as often as they like, so what is recorded is bounded. Of an address
//! (an IPv6 network is one) and a fault the first is recorded at once, and what followed in its
//! minute as one record with their number, when anybody is refused after it. Above
//! [`PAIRS_MAX`] of those in a minute, or [`RECORDS_MAX`] records in an hour, the rest count as one
//! address; and then for an hour, so that no flood fills a log that is kept for a year.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use troupe_link::device::network_of;
use troupe_types::{DeviceId, MonoTime};

/// How long refusals of one kind from one address count as one.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses and faults that are told apart in that time.
const PAIRS_MAX: usize = 64;
const HOUR: Duration = Duration::from_secs(3_600);
/// Records of an hour that tell them apart.
const RECORDS_MAX: usize = 240;

/// For the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) fault: &'static str,
    /// The first one's.
    pub(super) device: Option<DeviceId>,
    /// `None`: from within, or from many.
    pub(super) from: Option<IpAddr>,
    /// How many.
    pub(super) count: u64,
}

#[derive(Debug)]
struct Pair {
    since: MonoTime,
    window: Duration,
    /// What came after the first, which has its record.
    more: Record,
}

#[derive(Debug)]
struct Counts {
    pairs: BTreeMap<(&'static str, Option<IpAddr>), Pair>,
    hour: MonoTime,
    recorded: usize,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Refusals(Mutex<Counts>);

impl Default for Refusals {
    fn default() -> Self {
        let counts = Counts { pairs: BTreeMap::new(), hour: MonoTime::ZERO, recorded: 0 };
        Self(Mutex::new(counts))
    }
}

impl Refusals {
    /// Somebody was refused; what is to be recorded now.
    pub(super) fn note(
        &self,
        now: MonoTime,
        fault: &'static str,
        device: Option<DeviceId>,
        from: Option<IpAddr>,
    ) -> Vec<Record> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { pairs, hour, recorded } = &mut *counts;
        if now.since(*hour) >= HOUR {
            (*hour, *recorded) = (now, 0);
        }
        let is_spent = *recorded >= RECORDS_MAX;
        let mut records = Vec::new();
        pairs.retain(|_, pair| {
            let stays = now.since(pair.since) < pair.window;
            if !stays && pair.more.count > 0 {
                records.push(pair.more.clone());
            }
            stays
        });
        let mut key = (fault, from.map(network_of));
        if (is_spent || pairs.len() >= PAIRS_MAX) && !pairs.contains_key(&key) {
            key.1 = None;
        }
        if let Some(pair) = pairs.get_mut(&key) {
            pair.more.count += 1;
        } else {
            let from = from.filter(|_| key.1.is_some());
            let first = Record { fault, device, from, count: 1 };
            let more = Record { count: 0, ..first.clone() };
            let window = if is_spent { HOUR } else { WINDOW };
            pairs.insert(key, Pair { since: now, window, more });
            records.push(first);
        }
        *recorded += records.len();
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn one_address_and_fault_is_one_record_a_minute_with_a_count() {
        let refusals = Refusals::default();
        let from: IpAddr = "10.0.0.1".parse().unwrap();
        let count = |records: Vec<Record>| -> Vec<u64> {
            assert!(records.iter().all(|record| record.from == Some(from)), "{records:?}");
            records.iter().map(|record| record.count).collect()
        };
        assert_eq!(count(refusals.note(at(0), "foreign", None, Some(from))), [1]);
        for second in 1..50 {
            assert!(refusals.note(at(second), "foreign", None, Some(from)).is_empty());
        }
        assert_eq!(count(refusals.note(at(50), "expired", None, Some(from))), [1]);
        assert_eq!(count(refusals.note(at(61), "foreign", None, Some(from))), [49, 1]);
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let refusals = Refusals::default();
        let note = |n: u32, at| {
            let from = IpAddr::V4((0x0a00_0000 + n).into());
            refusals.note(at, "malformed", None, Some(from))
        };
        let recorded: usize = (0..10_000).map(|n| note(n, at(1)).len()).sum();
        assert_eq!(recorded, PAIRS_MAX + 1);
        let later = note(1, at(100));
        let all: u64 = later.iter().map(|record| record.count).sum();
        assert_eq!(all, 10_000 - (PAIRS_MAX as u64 + 1) + 1, "{later:?}");

        // Others every second for a day.
        let day = 24 * 3_600;
        let recorded: usize = (0..day).map(|n| note(n, at(200 + u64::from(n))).len()).sum();
        assert!(recorded <= 24 * (RECORDS_MAX + 2 * PAIRS_MAX), "{recorded}");
    }
}
