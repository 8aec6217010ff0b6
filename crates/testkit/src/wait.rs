//! Waiting for a condition instead of sleeping.

use std::{panic::Location, time::Duration};

use tokio::time::Instant;

/// Waits until `condition` holds; looks often at first, then every 20 ms.
///
/// # Panics
/// If it does not hold within `deadline`; the message names the caller.
#[track_caller]
pub fn wait_until<C>(deadline: Duration, condition: C) -> impl Future<Output = ()>
where
    C: AsyncFnMut() -> bool,
{
    let caller = Location::caller();
    async move {
        let held = try_until(deadline, condition).await;
        assert!(held, "condition at {caller} did not hold within {deadline:?}");
    }
}

/// The same without a panic: whether it held in time.
pub async fn try_until<C>(deadline: Duration, mut condition: C) -> bool
where
    C: AsyncFnMut() -> bool,
{
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_micros(500);
    loop {
        if tokio::time::timeout_at(end, condition()).await.unwrap_or(false) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep_until((Instant::now() + pause).min(end)).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_and_gives_up() {
        let mut left = 5;
        wait_until(Duration::from_secs(1), || {
            left -= 1;
            std::future::ready(left == 0)
        })
        .await;
        assert!(!try_until(Duration::from_secs(1), std::future::pending).await);
        assert!(!try_until(Duration::ZERO, || std::future::ready(false)).await);
        assert!(try_until(Duration::ZERO, || std::future::ready(true)).await);
    }
}
