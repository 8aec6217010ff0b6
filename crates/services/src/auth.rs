//! Who is who: setup, login, sessions, API keys, users, revocation.
//!
//! Invariants:
//! - No default secret: keys are made at first start, the first administrator by a one-time
//!   token of which only the hash is stored.
//! - What is revoked stays revoked: the rows are durable, and every process that shares the
//!   store drops what it cached about them within [`AuthOptions::poll_every`]; news from other
//!   nodes only make that faster.
//! - Passwords, tokens and keys appear in no log, error or `Debug`.
//!
//! Absences: nothing here knows HTTP; cookies are named here and written by the gateway.

mod api_keys;
mod error;
pub mod keys;
mod limiter;
mod password;
mod reset;
mod revocation;
mod rows;
mod seen;
mod sessions;
mod setup;
mod tokens;
mod users;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{sync::broadcast, time::MissedTickBehavior};
use troupe_api::auth::TokenAnswer;
use troupe_soft_state::SoftState;
use troupe_store::{Directory, DirectoryTable};
use troupe_types::{Clock, UserId, Uuid};

pub use error::{AuthError, StoreFault};
pub use keys::{Keys, KeysError};
pub use reset::{find_user, reset_password};
pub use setup::SetupToken;

use limiter::LoginLimiter;
use password::Hasher;
use revocation::View;
use rows::Rows;
use seen::Seen;

/// Shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Largest preferences of a user as JSON text, in bytes.
pub const PREFERENCES_BYTES_MAX: usize = 16 * 1024;
/// Most API keys of one user.
pub const API_KEYS_MAX: usize = 100;
/// Most live sessions of one user; the oldest one goes when there is one more.
pub const SESSIONS_MAX: usize = 100;
/// Between two reads of revocations that other nodes told of.
const NEWS_PAUSE: Duration = Duration::from_millis(50);

/// Durations and limits of [`Auth`].
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// Life of an access token; 15 minutes.
    pub access_for: Duration,
    /// Life of a refresh token that is not used; 30 days.
    pub refresh_for: Duration,
    /// How long a rotated refresh token still gets a sibling; 30 s.
    pub previous_for: Duration,
    /// How often announced revocations are read; 3 s, so that a socket is gone within 5 s.
    pub poll_every: Duration,
    /// How long one call to the store may take; 5 s.
    pub store_timeout: Duration,
    /// Passwords hashed at once; 2. Each takes about 19 MiB.
    pub hashes_at_once: usize,
    /// Failed logins per name at once, and within [`Self::attempts_window`] from then on; 10.
    pub attempts_per_name: u32,
    /// The same per peer address; 100.
    pub attempts_per_peer: u32,
    /// 1 minute.
    pub attempts_window: Duration,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            access_for: Duration::from_secs(15 * 60),
            refresh_for: Duration::from_secs(30 * 24 * 3600),
            previous_for: Duration::from_secs(30),
            poll_every: Duration::from_secs(3),
            store_timeout: Duration::from_secs(5),
            hashes_at_once: 2,
            attempts_per_name: 10,
            attempts_per_peer: 100,
            attempts_window: Duration::from_secs(60),
        }
    }
}

/// A fresh login or refresh. The gateway puts `cookie` into a `Set-Cookie` header.
pub struct Login {
    /// The body.
    pub answer: TokenAnswer,
    /// With transport `cookie`: the cookie's value.
    pub cookie: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// What a client shows to refresh or to log out.
pub enum RefreshProof {
    /// The token from the answer's body.
    Body(String),
    /// The cookie, and the proof from the answer's body; a cookie alone proves nothing.
    Cookie {
        /// The cookie's value.
        token: String,
        /// The header's value.
        proof: Option<String>,
    },
}

impl fmt::Debug for RefreshProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshProof")
    }
}

/// Something about a user's rights changed: check what they hold open again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// Of this user.
    User(UserId),
    /// Of somebody: check all.
    All,
}

/// Login, users, keys. One per process; cheap to share.
#[derive(Debug)]
pub struct Auth {
    rows: Rows,
    clock: Arc<dyn Clock>,
    keys: Keys,
    hasher: Hasher,
    limiter: LoginLimiter,
    soft: Arc<dyn SoftState>,
    view: View,
    seen: Seen,
    cluster: Uuid,
    options: AuthOptions,
    setup_done: AtomicBool,
}

impl Auth {
    /// Reads or makes what must be there: the cluster's id, the place from which revocations
    /// are read.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn open(
        directory: Arc<dyn Directory>,
        soft: Arc<dyn SoftState>,
        clock: Arc<dyn Clock>,
        keys: Keys,
        options: AuthOptions,
    ) -> Result<Arc<Self>, AuthError> {
        let rows = Rows::new(directory, options.store_timeout);
        let cursor = rows.revocations_now().await?;
        let cluster = cluster_id(&rows).await?;
        Ok(Arc::new(Self {
            view: View::new(cursor, clock.mono()),
            seen: Seen::default(),
            hasher: Hasher::new(options.hashes_at_once),
            limiter: LoginLimiter::new(Arc::clone(&soft), &options),
            soft,
            setup_done: AtomicBool::new(false),
            rows,
            clock,
            keys,
            cluster,
            options,
        }))
    }

    /// The id of the cluster that shares this store.
    #[must_use]
    pub const fn cluster_id(&self) -> Uuid {
        self.cluster
    }

    /// Name of the refresh cookie. Cookies ignore ports, so the name tells clusters apart.
    #[must_use]
    pub fn cookie_name(&self) -> String {
        let id = self.cluster.simple().to_string();
        format!("troupe_refresh_{}", &id[..12])
    }

    /// How long a refresh cookie lasts.
    #[must_use]
    pub const fn cookie_for(&self) -> Duration {
        self.options.refresh_for
    }

    /// Tells whose rights changed, in this process or in another one on the same store. A
    /// receiver that lags checks everything.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<AuthChange> {
        self.view.changes()
    }

    /// Reads revocations, at once when another node tells of some, and writes what was put
    /// off, for ever. To be spawned once.
    pub async fn run(self: Arc<Self>) {
        let mut news = self.soft.revocations();
        let mut polls = tokio::time::interval(self.options.poll_every);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = polls.tick() => self.tick().await,
                Ok(()) = news.changed() => {
                    self.poll().await;
                    // Many at once are read together.
                    tokio::time::sleep(NEWS_PAUSE).await;
                }
            }
        }
    }

    /// One round of [`run`](Self::run).
    pub async fn tick(&self) {
        self.poll().await;
        if let Err(error) = self.write_last_used().await {
            tracing::debug!(error = %error, "times of use of api keys could not be written");
        }
    }

    async fn poll(&self) {
        if let Err(error) = self.read_revocations().await {
            tracing::warn!(error = %error, "revocations could not be read");
        }
    }
}

/// The id of the cluster that shares this store; made if there is none yet.
///
/// # Errors
/// [`AuthError::Store`].
pub async fn cluster_of(
    directory: Arc<dyn Directory>,
    store_timeout: Duration,
) -> Result<Uuid, AuthError> {
    cluster_id(&Rows::new(directory, store_timeout)).await
}

/// Holds the ids of this node's keys against those that the cluster uses, and adds newer ones.
/// The ids tell nothing of the keys.
///
/// # Errors
/// The ids that this node lacks: it could not read what the others write.
pub async fn agree_on_keys(
    directory: Arc<dyn Directory>,
    store_timeout: Duration,
    mine: &BTreeSet<String>,
) -> Result<Result<(), Vec<String>>, AuthError> {
    const KEY: &[u8] = b"keys";
    const TRIES_MAX: u32 = 8;
    let rows = Rows::new(directory, store_timeout);
    for _ in 0..TRIES_MAX {
        let held = rows.get::<rows::KeysRow>(DirectoryTable::Setting, KEY).await?;
        let known = held.as_ref().map(|held| held.value.ids.clone()).unwrap_or_default();
        let missing: Vec<String> = known.difference(mine).cloned().collect();
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        if known == *mine {
            return Ok(Ok(()));
        }
        let row = rows::KeysRow { v: rows::VERSION, ids: mine.clone() };
        let written = match &held {
            Some(held) => rows.update(&held.row, &row, false).await?,
            None => rows.insert(DirectoryTable::Setting, KEY, None, &row).await?,
        };
        if written {
            return Ok(Ok(()));
        }
    }
    Err(AuthError::Store(StoreFault::Contended))
}

async fn cluster_id(rows: &Rows) -> Result<Uuid, AuthError> {
    const KEY: &[u8] = b"cluster";
    if let Some(held) = rows.get::<rows::ClusterRow>(DirectoryTable::Setting, KEY).await? {
        return Ok(held.value.id);
    }
    let fresh = rows::ClusterRow { v: rows::VERSION, id: Uuid::new_v4() };
    rows.insert(DirectoryTable::Setting, KEY, None, &fresh).await?;
    let held = rows.get::<rows::ClusterRow>(DirectoryTable::Setting, KEY).await?;
    held.map(|h| h.value.id).ok_or(AuthError::Store(StoreFault::Damaged))
}

/// SHA-256, the form in which secrets of 200 bits and more are stored.
fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// `N` random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}
