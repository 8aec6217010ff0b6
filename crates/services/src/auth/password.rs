//! Passwords: argon2id, on blocking threads, a bounded number at once.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{AuthError, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};

/// How long a login waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// Logins that may wait for their turn.
const WAITING_MAX: usize = 64;

/// What an unknown name is checked against, so that it takes as long as a known one.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let secret: [u8; 32] = super::random();
    hash_now(&secret).unwrap_or_default()
});

/// Hashes and checks passwords.
#[derive(Debug)]
pub(super) struct Hasher {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Hasher {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(at_once.max(1))),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// The PHC string of a password that was checked by [`check`].
    pub(super) async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let password = Zeroizing::new(password.to_owned());
        let hashed = self.blocking(move || hash_now(password.as_bytes())).await?;
        hashed.ok_or_else(|| AuthError::invalid("password", "The password cannot be hashed."))
    }

    /// Whether the password is the one. Without a stored hash it takes as long and says no.
    pub(super) async fn verify(
        &self,
        password: &str,
        stored: Option<String>,
    ) -> Result<bool, AuthError> {
        let password = Zeroizing::new(password.to_owned());
        self.blocking(move || {
            let known = stored.is_some();
            let stored = stored.unwrap_or_else(|| NOBODY.clone());
            let right = PasswordHash::new(&stored).is_ok_and(|parsed| {
                Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
            });
            known && right
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| AuthError::Busy)?;
        let turn = tokio::time::timeout(TURN_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| AuthError::Busy)?.map_err(|_| AuthError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, also if nobody waits for it any more.
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| AuthError::Busy)
    }
}

fn hash_now(password: &[u8]) -> Option<String> {
    Argon2::default().hash_password(password).ok().map(|hash| hash.to_string())
}

/// Whether a new password is long enough, and not absurdly long.
pub(super) fn check(password: &str) -> Result<(), AuthError> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        let message = format!("A password has at least {PASSWORD_CHARS_MIN} characters.");
        return Err(AuthError::invalid("password", message));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        let message = format!("A password has at most {PASSWORD_BYTES_MAX} bytes.");
        return Err(AuthError::invalid("password", message));
    }
    Ok(())
}
