//! Repeats a call while none of its output was seen.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    error::ModelError,
    provider::{ModelEvent, Source},
};

/// How calls are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included.
    pub tries_max: u32,
    /// Wait before the second try; doubles with every further one. Half of it is random.
    pub wait_first: Duration,
    /// Longest wait of our own choice.
    pub wait_max: Duration,
    /// Longest wait that a provider may ask for ([`RETRY_AFTER_MAX`]). One that asks for more is
    /// not asked again: the call fails at once.
    pub retry_after_max: Duration,
}

/// So long a call waits when its provider asks for it; the default of
/// [`RetryPolicy::retry_after_max`].
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// A wait that was asked for grows by a tenth at most, and by no more than this.
const SPREAD_MAX: Duration = Duration::from_secs(10);

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 4,
            wait_first: Duration::from_millis(500),
            wait_max: Duration::from_secs(20),
            retry_after_max: RETRY_AFTER_MAX,
        }
    }
}

impl RetryPolicy {
    /// The wait after the `failed`th try (from 1) ended with `error`; `random` is in 0..1.
    /// `None`: no further try.
    fn wait(&self, failed: u32, error: &ModelError, random: f64) -> Option<Duration> {
        if failed >= self.tries_max || !error.is_transient() {
            return None;
        }
        let doubled = self.wait_first.saturating_mul(1 << (failed - 1).min(16));
        let own = doubled.min(self.wait_max).mul_f64(0.5 + random / 2.0);
        match error.retry_after() {
            Some(asked) if asked > self.retry_after_max => None,
            // Never earlier than asked for, not all at the same moment, and not all tries at once
            // where a limit is said to be whole again already.
            Some(asked) => Some((asked + (asked / 10).min(SPREAD_MAX).mul_f64(random)).max(own)),
            None => Some(own),
        }
    }
}

/// Where the random part of a wait comes from; a seed makes it repeatable.
#[derive(Clone)]
pub(crate) struct Jitter(Arc<Mutex<StdRng>>);

impl Jitter {
    /// Seeded, or from the operating system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let rng = seed.map_or_else(rand::make_rng, StdRng::seed_from_u64);
        Self(Arc::new(Mutex::new(rng)))
    }

    fn random(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

/// A source that makes a new source per try.
pub(crate) struct Retrying<S, F> {
    start: F,
    running: Option<S>,
    policy: RetryPolicy,
    jitter: Jitter,
    failed: u32,
    seen: bool,
    wait: Option<Duration>,
}

impl<S: Source, F: FnMut() -> S + Send + 'static> Retrying<S, F> {
    pub(crate) const fn new(policy: RetryPolicy, jitter: Jitter, start: F) -> Self {
        Self { start, running: None, policy, jitter, failed: 0, seen: false, wait: None }
    }
}

impl<S: Source, F: FnMut() -> S + Send + 'static> Source for Retrying<S, F> {
    async fn next(&mut self) -> Result<ModelEvent, ModelError> {
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
        }
        let running = self.running.get_or_insert_with(&mut self.start);
        match running.next().await {
            Ok(event) => {
                // Tokens of the prompt come before any output, and may be told again.
                self.seen |= !matches!(event, ModelEvent::Usage(_));
                Ok(event)
            }
            Err(error) if self.seen => Err(error),
            Err(error) => {
                self.running = None; // Its connection is closed before the wait.
                self.failed += 1;
                let Some(after) = self.policy.wait(self.failed, &error, self.jitter.random())
                else {
                    return Err(error.waits_at_most(self.policy.retry_after_max));
                };
                tracing::info!(
                    kind = error.kind().as_str(),
                    attempt = self.failed,
                    wait_ms = after.as_millis(),
                    "model call failed, waiting for the next try"
                );
                self.wait = Some(after);
                let attempt = self.failed + 1;
                Ok(ModelEvent::Retrying { after, attempt, error: error.summary() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorType;

    fn failed(kind: ErrorType, retry_after: Option<u64>, transient: bool) -> ModelError {
        ModelError::Provider {
            kind,
            text: "x".into(),
            status: Some(429),
            retry_after: retry_after.map(Duration::from_secs),
            request_id: None,
            transient,
        }
    }

    #[test]
    fn waits_grow_and_obey() {
        let policy = RetryPolicy::default();
        let plain = failed(ErrorType::RateLimit, None, true);
        let ms = |n, random| policy.wait(n, &plain, random).map(|d| d.as_millis());
        assert_eq!(ms(1, 0.0), Some(250));
        assert_eq!(ms(1, 1.0), Some(500));
        assert_eq!(ms(2, 1.0), Some(1_000));
        assert_eq!(ms(3, 1.0), Some(2_000));
        assert_eq!(ms(4, 1.0), None);
        let asked = failed(ErrorType::RateLimit, Some(7), true);
        assert_eq!(policy.wait(1, &asked, 0.0), Some(Duration::from_secs(7)));
        assert_eq!(policy.wait(1, &asked, 1.0), Some(Duration::from_millis(7_700)));
        let long = failed(ErrorType::RateLimit, Some(3_600), true);
        assert_eq!(policy.wait(1, &long, 0.0), Some(Duration::from_secs(3_600)));
        assert_eq!(policy.wait(1, &long, 1.0), Some(Duration::from_secs(3_610)));
        let longer = failed(ErrorType::RateLimit, Some(3_601), true);
        assert_eq!(policy.wait(1, &longer, 0.0), None);
        assert_eq!(policy.wait(1, &failed(ErrorType::QuotaExceeded, None, false), 0.0), None);
        assert_eq!(policy.wait(1, &ModelError::Cancelled, 0.0), None);
    }

    struct Tries(std::collections::VecDeque<Result<ModelEvent, ModelError>>);

    impl Source for Tries {
        async fn next(&mut self) -> Result<ModelEvent, ModelError> {
            self.0.pop_front().unwrap_or(Err(ModelError::Cut))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_and_output_ends_the_repeating() {
        let mut tries = 0;
        let mut source = Retrying::new(RetryPolicy::default(), Jitter::new(Some(1)), move || {
            tries += 1;
            let events = match tries {
                1 => vec![Err(failed(ErrorType::RateLimit, Some(300), true))],
                2 => vec![Ok(ModelEvent::Usage(crate::Usage::default()))],
                _ => vec![Ok(ModelEvent::Text("a".into()))],
            };
            Tries(events.into())
        });
        let start = tokio::time::Instant::now();
        let event = source.next().await.unwrap();
        assert!(matches!(event, ModelEvent::Retrying { attempt: 2, .. }), "{event:?}");
        assert!(start.elapsed() < Duration::from_millis(5));
        assert!(matches!(source.next().await, Ok(ModelEvent::Usage(_))));
        let waited = start.elapsed();
        assert!((300..310).contains(&waited.as_secs()), "{waited:?}");
        // Cut before any output: a third try; cut after some: the end.
        assert!(matches!(source.next().await, Ok(ModelEvent::Retrying { attempt: 3, .. })));
        assert!(matches!(source.next().await, Ok(ModelEvent::Text(_))));
        assert!(matches!(source.next().await, Err(ModelError::Cut)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_bound_fails_at_once_and_is_told() {
        for (asked, told) in [(7_200, "2 h"), (4_500, "75 min"), (3_601, "3601 s")] {
            let mut tries = 0;
            let mut source =
                Retrying::new(RetryPolicy::default(), Jitter::new(Some(1)), move || {
                    tries += 1;
                    assert_eq!(tries, 1, "it is not asked again");
                    Tries([Err(failed(ErrorType::RateLimit, Some(asked), true))].into())
                });
            let error = source.next().await.unwrap_err();
            let want = format!("x (asks to wait {told}, and 1 h is the most that a call waits)");
            assert_eq!((error.kind(), error.text()), (ErrorType::RateLimit, want));
        }
    }
}
