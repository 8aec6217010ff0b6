//! Bounds failed logins per name and per peer address, over all nodes.

use std::{net::IpAddr, sync::Arc};

use troupe_soft_state::{Rule, SoftState, Verdict};

use super::{AuthError, AuthOptions};

/// Characters of a name that count.
const NAME_CHARS_MAX: usize = 64;

/// Counts attempts; a success gives its attempt back.
#[derive(Debug)]
pub(super) struct LoginLimiter {
    soft: Arc<dyn SoftState>,
    per_name: Rule,
    per_peer: Rule,
}

impl LoginLimiter {
    pub(super) fn new(soft: Arc<dyn SoftState>, options: &AuthOptions) -> Self {
        let rule = |burst| Rule { burst, per: options.attempts_window };
        Self {
            soft,
            per_name: rule(options.attempts_per_name),
            per_peer: rule(options.attempts_per_peer),
        }
    }

    /// Counts an attempt before it is made, so that many at once do not slip through.
    pub(super) async fn attempt(&self, name: &str, peer: Option<IpAddr>) -> Result<(), AuthError> {
        let name = name_key(name);
        allowed(self.soft.take(&name, self.per_name).await)?;
        if let Some(peer) = peer {
            let verdict = self.soft.take(&peer_key(peer), self.per_peer).await;
            if verdict != Verdict::Allowed {
                // It is not made, so it does not count.
                self.soft.give_back(&name, self.per_name).await;
            }
            allowed(verdict)?;
        }
        Ok(())
    }

    /// The attempt was a good one.
    pub(super) async fn forgive(&self, name: &str, peer: Option<IpAddr>) {
        self.soft.forget(&name_key(name)).await;
        if let Some(peer) = peer {
            self.soft.give_back(&peer_key(peer), self.per_peer).await;
        }
    }
}

fn name_key(name: &str) -> String {
    let name = name.chars().take(NAME_CHARS_MAX).collect::<String>().to_lowercase();
    format!("login:name:{name}")
}

fn peer_key(peer: IpAddr) -> String {
    format!("login:peer:{peer}")
}

fn allowed(verdict: Verdict) -> Result<(), AuthError> {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Refused { retry_after } => {
            let whole = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            Err(AuthError::TooMany { retry_after: whole.max(1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use troupe_soft_state::InProcess;
    use troupe_types::{Clock, ManualClock, Timestamp};

    use super::*;

    const PEER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

    fn limiter() -> (LoginLimiter, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1)));
        let soft = InProcess::shared(Arc::<ManualClock>::clone(&clock) as Arc<dyn Clock>);
        let options =
            AuthOptions { attempts_per_name: 3, attempts_per_peer: 5, ..AuthOptions::default() };
        (LoginLimiter::new(soft, &options), clock)
    }

    #[tokio::test]
    async fn failures_are_bounded_per_name_and_peer_and_are_forgotten_with_time() {
        let (limiter, clock) = limiter();
        for _ in 0..3 {
            limiter.attempt("Ann", PEER).await.unwrap();
        }
        let refused = limiter.attempt("ann", None).await;
        assert!(matches!(refused, Err(AuthError::TooMany { retry_after: 20 })), "any case");
        limiter.attempt("bob", PEER).await.unwrap();
        limiter.attempt("bob", PEER).await.unwrap();
        for _ in 0..5 {
            let refused = limiter.attempt("eve", PEER).await;
            assert!(refused.is_err(), "the peer has used up its five");
        }
        limiter.attempt("eve", None).await.expect("what was refused did not count");
        clock.advance(Duration::from_secs(60));
        limiter.attempt("ann", PEER).await.unwrap();
    }

    #[tokio::test]
    async fn a_success_gives_its_attempt_back() {
        let (limiter, _clock) = limiter();
        for _ in 0..100 {
            limiter.attempt("ann", PEER).await.unwrap();
            limiter.forgive("ann", PEER).await;
        }
    }
}
