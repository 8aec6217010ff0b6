//! Access tokens whose signature was found good. A client shows the same one for minutes, and a
//! signature costs more than most of what is asked with it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use troupe_types::Timestamp;

use super::tokens::Claims;

/// Tokens that are remembered; some 2 MiB.
const SEEN_MAX: usize = 8_192;

/// By the hash of the whole token, so that no token is kept and none is taken for another.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<[u8; 32], Arc<Claims>>>);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

impl Seen {
    /// What the token says: as it was found to, or as `check` finds now. An expired one is checked
    /// again, and so is one that was refused.
    pub(super) fn claims<E>(
        &self,
        token: &str,
        now: Timestamp,
        check: impl FnOnce() -> Result<Claims, E>,
    ) -> Result<Arc<Claims>, E> {
        let hash = Sha256::digest(token.as_bytes()).into();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = lock().get(&hash).filter(|claims| claims.expires_at() > now) {
            return Ok(Arc::clone(claims));
        }
        let claims = Arc::new(check()?);
        let mut seen = lock();
        if seen.len() >= SEEN_MAX {
            seen.retain(|_, claims| claims.expires_at() > now);
            if seen.len() >= SEEN_MAX {
                seen.clear();
            }
        }
        seen.insert(hash, Arc::clone(&claims));
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::auth::UserRole;
    use troupe_types::{SessionId, UserId, Uuid};

    use super::*;

    fn claims(exp: i64) -> Claims {
        Claims {
            iss: Uuid::nil(),
            aud: String::new(),
            sub: UserId::from_uuid(Uuid::nil()),
            name: String::new(),
            role: UserRole::User,
            sid: SessionId::from_uuid(Uuid::nil()),
            iat: 0,
            exp,
        }
    }

    #[test]
    fn a_token_is_checked_until_it_was_good_and_again_once_it_expired() {
        let seen = Seen::default();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let asked = |token: &str, now, answer: Result<Claims, ()>| {
            let mut checked = false;
            let told = seen.claims(token, at(now), || {
                checked = true;
                answer
            });
            (checked, told.map(|claims| claims.exp))
        };
        assert_eq!(asked("a", 1, Err(())), (true, Err(())));
        assert_eq!(asked("a", 1, Ok(claims(10))), (true, Ok(10)));
        assert_eq!(asked("a", 9, Err(())), (false, Ok(10)));
        assert_eq!(asked("b", 9, Err(())), (true, Err(())), "another token");
        assert_eq!(asked("a", 10, Err(())), (true, Err(())), "it has expired");
        for n in 0..=SEEN_MAX {
            assert!(asked(&format!("t{n}"), 1, Ok(claims(20))).0);
        }
        assert!(seen.0.lock().unwrap().len() <= SEEN_MAX);
    }
}
