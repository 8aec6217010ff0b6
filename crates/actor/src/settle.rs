//! Waiting for things to come to rest, with a deadline.

use std::time::Duration;

use ractor::ActorCell;
use tokio::time::Instant;

/// Calls `step` until it says that all is at rest, or the deadline has passed: at once, then
/// after 1 ms, growing to every 50 ms. Answers whether it came to rest.
pub async fn settle(deadline: Duration, mut step: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if step() {
            return true;
        }
        let now = Instant::now();
        if now >= end {
            return false;
        }
        tokio::time::sleep(pause.min(end - now)).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// How an actor went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// By itself, `post_stop` included.
    Stopped,
    /// It had to be killed.
    Killed,
}

/// Stops an actor after the message at hand; kills it when it is not gone by the deadline.
///
/// Its children are killed with it, without their `post_stop`: stop them first.
pub async fn stop_within(actor: &ActorCell, deadline: Duration) -> StopOutcome {
    actor.stop(None);
    if actor.wait(Some(deadline)).await.is_ok() {
        return StopOutcome::Stopped;
    }
    actor.kill();
    // A kill takes effect at the next await; a handler that never awaits again cannot be ended.
    let _ = actor.wait(Some(Duration::from_secs(1))).await;
    StopOutcome::Killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_as_soon_as_the_step_says_so_and_never_after_the_deadline() {
        let start = Instant::now();
        let mut left = 5;
        let done = settle(Duration::from_secs(10), || {
            left -= 1;
            left == 0
        });
        assert!(done.await);
        assert!(start.elapsed() < Duration::from_millis(100));
        assert!(!settle(Duration::from_secs(2), || false).await);
        assert!(start.elapsed() < Duration::from_millis(2_200));
    }
}
