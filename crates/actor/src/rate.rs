//! A rate limit that makes its callers wait.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// So many per second, and so many at once after a quiet time (GCRA).
#[derive(Debug)]
pub struct RateLimit {
    each: Duration,
    burst: Duration,
    /// When the next one would be due at the exact rate.
    due: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit of `per_second`, with `burst` (at least 1) free of waiting.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let each = Duration::from_secs(1) / per_second.get();
        Self { each, burst: each * (burst.get() - 1), due: Mutex::new(None) }
    }

    /// Takes the next place and answers how long to wait for it.
    pub fn reserve(&self) -> Duration {
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = due.map_or(now, |due| due.max(now));
        *due = Some(mine + self.each);
        drop(due);
        mine.saturating_duration_since(now + self.burst)
    }

    /// Takes the next place and waits for it. A caller that stops waiting has used it up.
    pub async fn ready(&self) {
        let wait = self.reserve();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32, burst: u32) -> RateLimit {
        RateLimit::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_is_paced() {
        let limit = limit(100, 10);
        let start = Instant::now();
        for _ in 0..10 {
            limit.ready().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            limit.ready().await;
        }
        let took = start.elapsed();
        assert!((990..1_020).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_time_fills_the_burst_but_no_more() {
        let limit = limit(100, 5);
        limit.ready().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let free = (0..20).take_while(|_| limit.reserve().is_zero()).count();
        assert_eq!(free, 5);
    }
}
