//! How many enrolments are begun: per address and in all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Addresses that are remembered; when there are more, the oldest ones are forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// Bounds of enrolment.
#[derive(Clone, Copy, Debug)]
pub struct RateOptions {
    /// Tries that one address has at once. Default 20.
    pub address_burst: u32,
    /// Tries per minute that one address gets back. Default 30.
    pub address_per_minute: u32,
    /// Tries of all addresses per second. Default 200.
    pub all_per_second: u32,
}

impl Default for RateOptions {
    fn default() -> Self {
        Self { address_burst: 20, address_per_minute: 30, all_per_second: 200 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Takes one; or says how long it takes until there is one.
    fn take(&mut self, now: Instant, burst: f64, per_second: f64) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * per_second).min(burst);
        self.at = now;
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / per_second.max(0.001)));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[derive(Debug)]
struct Buckets {
    all: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

/// The counters.
#[derive(Debug)]
pub(super) struct RateLimit {
    options: RateOptions,
    buckets: Mutex<Buckets>,
}

/// What counts as one address: an IPv6 network (/64) does.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let bits = u128::from(v6) & (u128::MAX << 64);
                IpAddr::V6(bits.into())
            }
        },
    }
}

impl RateLimit {
    pub(super) fn new(options: RateOptions) -> Self {
        let all = Bucket { tokens: f64::from(options.all_per_second), at: Instant::now() };
        let buckets = Mutex::new(Buckets { all, by_address: HashMap::new() });
        Self { options, buckets }
    }

    /// Counts one try.
    ///
    /// # Errors
    /// How long to wait before the next one.
    pub(super) fn take(&self, address: IpAddr) -> Result<(), Duration> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let RateOptions { address_burst, address_per_minute, all_per_second } = self.options;
        let (burst, per_second) = (f64::from(address_burst), f64::from(address_per_minute) / 60.0);
        let address = network_of(address);
        if buckets.by_address.len() >= ADDRESSES_MAX && !buckets.by_address.contains_key(&address) {
            let oldest = buckets.by_address.iter().min_by_key(|(_, b)| b.at).map(|(a, _)| *a);
            oldest.and_then(|oldest| buckets.by_address.remove(&oldest));
        }
        let fresh = Bucket { tokens: burst, at: now };
        buckets.by_address.entry(address).or_insert(fresh).take(now, burst, per_second)?;
        buckets.all.take(now, f64::from(all_per_second), f64::from(all_per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_its_share_and_all_of_them_theirs() {
        let options = RateOptions { address_burst: 3, address_per_minute: 60, all_per_second: 5 };
        let limit = RateLimit::new(options);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..3 {
            limit.take(one).unwrap();
        }
        let wait = limit.take(one).unwrap_err();
        assert!(wait > Duration::from_millis(900) && wait <= Duration::from_secs(1), "{wait:?}");
        tokio::time::advance(wait).await;
        limit.take(one).unwrap();
        let taken = (0..100_u8).filter(|n| limit.take([10, 0, 1, *n].into()).is_ok()).count();
        assert!((4..=5).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let limit = RateLimit::new(RateOptions { all_per_second: 1_000_000, ..Default::default() });
        for n in 0..10_000_u32 {
            limit.take(IpAddr::V4((0x0a00_0000 + n).into())).unwrap();
        }
        assert!(limit.buckets.lock().unwrap().by_address.len() <= ADDRESSES_MAX);
    }
}
