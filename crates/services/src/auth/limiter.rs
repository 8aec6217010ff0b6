//! Bounds failed logins per name and per peer address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use troupe_types::MonoTime;

use super::{AuthError, AuthOptions};

/// Names and addresses that are remembered; further ones share one budget.
const KEYS_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Name(String),
    Peer(IpAddr),
    Rest,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: MonoTime,
    attempts: u32,
}

/// Counts attempts in fixed windows; a success gives its attempt back.
#[derive(Debug)]
pub(super) struct LoginLimiter {
    windows: Mutex<HashMap<Key, Window>>,
    per_name: u32,
    per_peer: u32,
    window: Duration,
}

impl LoginLimiter {
    pub(super) fn new(options: &AuthOptions) -> Self {
        Self {
            windows: Mutex::new(HashMap::new()),
            per_name: options.attempts_per_name,
            per_peer: options.attempts_per_peer,
            window: options.attempts_window,
        }
    }

    /// Counts an attempt before it is made, so that many at once do not slip through.
    pub(super) fn attempt(
        &self,
        name: &str,
        peer: Option<IpAddr>,
        now: MonoTime,
    ) -> Result<(), AuthError> {
        let mut windows = self.lock();
        if windows.len() >= KEYS_MAX {
            windows.retain(|_, w| now.since(w.since) < self.window);
        }
        for (key, max) in self.keys(name, peer) {
            let full = windows.len() >= KEYS_MAX && !windows.contains_key(&key);
            let key = if full { Key::Rest } else { key };
            let window = windows.entry(key).or_insert(Window { since: now, attempts: 0 });
            if now.since(window.since) >= self.window {
                *window = Window { since: now, attempts: 0 };
            }
            if window.attempts >= max {
                let left = self.window.saturating_sub(now.since(window.since));
                return Err(AuthError::TooMany { retry_after: left.as_secs().max(1) });
            }
            window.attempts += 1;
        }
        Ok(())
    }

    /// The attempt was a good one.
    pub(super) fn forgive(&self, name: &str, peer: Option<IpAddr>) {
        let mut windows = self.lock();
        windows.remove(&Key::Name(name.to_lowercase()));
        if let Some(window) = peer.and_then(|peer| windows.get_mut(&Key::Peer(peer))) {
            window.attempts = window.attempts.saturating_sub(1);
        }
    }

    /// Forgets windows that are over.
    pub(super) fn sweep(&self, now: MonoTime) {
        self.lock().retain(|_, w| now.since(w.since) < self.window);
    }

    fn keys(&self, name: &str, peer: Option<IpAddr>) -> impl Iterator<Item = (Key, u32)> {
        let name = name.chars().take(64).collect::<String>().to_lowercase();
        let peer = peer.map(|peer| (Key::Peer(peer), self.per_peer));
        [Some((Key::Name(name), self.per_name)), peer].into_iter().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> LoginLimiter {
        LoginLimiter::new(&AuthOptions {
            attempts_per_name: 3,
            attempts_per_peer: 5,
            ..AuthOptions::default()
        })
    }

    #[test]
    fn failures_are_bounded_per_name_and_peer_and_end_with_the_window() {
        let (limiter, start) = (limiter(), MonoTime::default());
        let peer = Some(IpAddr::from([10, 0, 0, 1]));
        for _ in 0..3 {
            limiter.attempt("Ann", peer, start).unwrap();
        }
        let refused = limiter.attempt("ann", None, start);
        assert!(matches!(refused, Err(AuthError::TooMany { retry_after: 60 })), "any case");
        limiter.attempt("bob", peer, start).unwrap();
        limiter.attempt("bob", peer, start).unwrap();
        assert!(limiter.attempt("eve", peer, start).is_err(), "the peer has used up its five");
        limiter.attempt("ann", peer, start.plus(Duration::from_secs(60))).unwrap();
    }

    #[test]
    fn a_success_gives_its_attempt_back() {
        let (limiter, start) = (limiter(), MonoTime::default());
        for _ in 0..100 {
            limiter.attempt("ann", Some(IpAddr::from([10, 0, 0, 1])), start).unwrap();
            limiter.forgive("ann", Some(IpAddr::from([10, 0, 0, 1])));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (limiter, start) = (limiter(), MonoTime::default());
        for i in 0..KEYS_MAX + 100 {
            let _ = limiter.attempt(&format!("user-{i}"), None, start);
        }
        assert!(limiter.lock().len() <= KEYS_MAX + 1);
        assert!(limiter.attempt("one-more", None, start).is_err(), "the rest shares one budget");
    }
}
