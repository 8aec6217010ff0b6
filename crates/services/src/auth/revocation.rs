//! What this process believes about users, sessions and keys, and how it learns otherwise.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::broadcast;
use troupe_api::auth::UserRole;
use troupe_store::{ChangeCursor, DirectoryTable};
use troupe_types::{ApiKeyId, MonoTime, SessionId, Timestamp, UserId, Uuid};

use super::{Auth, AuthChange, AuthError, StoreFault, hash, rows, tokens};
use crate::caller::{Caller, Credential};

/// Entries of each kind that are remembered; when there are more, all are forgotten.
const ENTRIES_MAX: usize = 50_000;
/// Changes read at once.
const CHANGES_MAX: usize = 1_000;
/// Without a successful poll for so long nothing remembered is believed any more.
const TRUST: Duration = Duration::from_secs(15);
const CHANGES_QUEUE: usize = 1_024;

#[derive(Clone, Debug)]
pub(super) struct UserState {
    pub(super) name: String,
    pub(super) role: UserRole,
    pub(super) is_active: bool,
    pub(super) generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct SessionState {
    user: UserId,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct KeyState {
    id: ApiKeyId,
    user: UserId,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Rises with each eviction: what was read before is not remembered after.
    round: u64,
    users: HashMap<UserId, UserState>,
    sessions: HashMap<SessionId, SessionState>,
    keys: HashMap<[u8; 32], KeyState>,
    /// When keys were used, to the minute, not yet written.
    used: HashMap<[u8; 32], Timestamp>,
}

#[derive(Debug)]
pub(super) struct View {
    entries: Mutex<Entries>,
    polled: Mutex<(ChangeCursor, MonoTime)>,
    changes: broadcast::Sender<AuthChange>,
}

impl View {
    pub(super) fn new(cursor: ChangeCursor, now: MonoTime) -> Self {
        Self {
            entries: Mutex::default(),
            polled: Mutex::new((cursor, now)),
            changes: broadcast::Sender::new(CHANGES_QUEUE),
        }
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<AuthChange> {
        self.changes.subscribe()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn polled(&self) -> MutexGuard<'_, (ChangeCursor, MonoTime)> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_trusted(&self, now: MonoTime) -> bool {
        now.since(self.polled().1) < TRUST
    }

    /// Forgets what is remembered of a row that changed.
    pub(super) fn evict(&self, table: DirectoryTable, key: &[u8]) {
        let mut entries = self.entries();
        entries.round += 1;
        let id = <[u8; 16]>::try_from(key).map(Uuid::from_bytes);
        match (table, id) {
            (DirectoryTable::User, Ok(id)) => {
                entries.users.remove(&UserId::from_uuid(id));
            }
            (DirectoryTable::Session, Ok(id)) => {
                entries.sessions.remove(&SessionId::from_uuid(id));
            }
            (DirectoryTable::ApiKey, _) => {
                if let Ok(key) = <[u8; 32]>::try_from(key) {
                    entries.keys.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Tells who listens.
    pub(super) fn tell(&self, change: AuthChange) {
        // Nobody listens in a process without a gateway.
        let _ = self.changes.send(change);
    }

    fn keep<K: std::hash::Hash + Eq, V>(
        &self,
        round: u64,
        part: impl FnOnce(&mut Entries) -> &mut HashMap<K, V>,
        key: K,
        value: V,
    ) {
        let mut entries = self.entries();
        if entries.round == round {
            let map = part(&mut entries);
            if map.len() >= ENTRIES_MAX {
                map.clear();
            }
            map.insert(key, value);
        }
    }
}

impl Auth {
    /// Who shows this token: an access token or an API key. Revoked ones are refused at once
    /// in this process and within [`AuthOptions::poll_every`](super::AuthOptions) in others.
    ///
    /// # Errors
    /// [`AuthError::BadToken`], `Expired`, `Revoked`, `Store`.
    pub async fn verify(&self, token: &str) -> Result<Caller, AuthError> {
        if token.starts_with(tokens::API_KEY_PREFIX) {
            return self.verify_api_key(token).await;
        }
        let now = self.clock.now();
        let check = || tokens::open(&self.keys, self.cluster, token, now);
        let claims = self.seen.claims(token, now, check)?;
        let user = self.live_session(claims.sid, claims.sub).await?;
        Ok(Caller {
            user: claims.sub,
            name: user.name,
            role: user.role,
            credential: Credential::Session(claims.sid),
            expires_at: Some(claims.expires_at()),
        })
    }

    /// The caller as they are by now, if what they proved is still so; not whether their token
    /// is expired.
    ///
    /// # Errors
    /// [`AuthError::Revoked`], `Store`.
    pub async fn recheck(&self, caller: &Caller) -> Result<Caller, AuthError> {
        let user = match caller.credential {
            Credential::Session(sid) => self.live_session(sid, caller.user).await?,
            Credential::ApiKey(id) => {
                let user = self.user_state(caller.user).await?;
                let keys = self.key_rows(caller.user).await?;
                let now = self.clock.now();
                let live = keys.iter().any(|held| {
                    held.value.id == id && held.value.expires_at.is_none_or(|at| at > now)
                });
                if !live || !user.is_active {
                    return Err(AuthError::Revoked);
                }
                user
            }
        };
        Ok(Caller { name: user.name, role: user.role, ..caller.clone() })
    }

    async fn live_session(&self, sid: SessionId, user: UserId) -> Result<UserState, AuthError> {
        let session = self.session_state(sid).await?.ok_or(AuthError::Revoked)?;
        let state = self.user_state(session.user).await?;
        let live = state.is_active && session.generation >= state.generation;
        if live && session.user == user { Ok(state) } else { Err(AuthError::Revoked) }
    }

    async fn session_state(&self, sid: SessionId) -> Result<Option<SessionState>, StoreFault> {
        let (known, round) = {
            let entries = self.view.entries();
            (entries.sessions.get(&sid).copied(), entries.round)
        };
        if known.is_some() && self.view.is_trusted(self.clock.mono()) {
            return Ok(known);
        }
        let key = rows::id_key(sid.uuid());
        let held = self.rows.get::<rows::SessionRow>(DirectoryTable::Session, &key).await?;
        let state =
            held.map(|h| SessionState { user: h.value.user, generation: h.value.generation });
        if let Some(state) = state {
            self.view.keep(round, |e| &mut e.sessions, sid, state);
        }
        Ok(state)
    }

    /// A user who does not exist counts as one who may not log in.
    pub(super) async fn user_state(&self, user: UserId) -> Result<UserState, AuthError> {
        let (known, round) = {
            let entries = self.view.entries();
            (entries.users.get(&user).cloned(), entries.round)
        };
        if let Some(known) = known.filter(|_| self.view.is_trusted(self.clock.mono())) {
            return Ok(known);
        }
        let row = self.user_row(user).await?.ok_or(AuthError::Revoked)?;
        let state = UserState {
            name: row.name,
            role: row.role,
            is_active: row.is_active,
            generation: row.generation,
        };
        self.view.keep(round, |e| &mut e.users, user, state.clone());
        Ok(state)
    }

    async fn verify_api_key(&self, token: &str) -> Result<Caller, AuthError> {
        let hash = tokens::api_key_hash(token).ok_or(AuthError::BadToken)?;
        let (known, round) = {
            let entries = self.view.entries();
            (entries.keys.get(&hash).copied(), entries.round)
        };
        let known = known.filter(|_| self.view.is_trusted(self.clock.mono()));
        let key = match known {
            Some(key) => key,
            None => {
                let held = self.rows.get::<rows::ApiKeyRow>(DirectoryTable::ApiKey, &hash).await?;
                let row = held.ok_or(AuthError::BadToken)?.value;
                let key = KeyState { id: row.id, user: row.user, expires_at: row.expires_at };
                self.view.keep(round, |e| &mut e.keys, hash, key);
                key
            }
        };
        let now = self.clock.now();
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthError::Expired);
        }
        let user = self.user_state(key.user).await?;
        if !user.is_active {
            return Err(AuthError::Revoked);
        }
        self.note_use(hash, now);
        Ok(Caller {
            user: key.user,
            name: user.name,
            role: user.role,
            credential: Credential::ApiKey(key.id),
            expires_at: key.expires_at,
        })
    }

    fn note_use(&self, hash: [u8; 32], now: Timestamp) {
        let minute = Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(60_000));
        let mut entries = self.view.entries();
        if entries.used.len() < ENTRIES_MAX {
            entries.used.insert(hash, minute);
        }
    }

    /// Writes when API keys were used, once a minute per key at most.
    pub(super) async fn write_last_used(&self) -> Result<(), AuthError> {
        let used = std::mem::take(&mut self.view.entries().used);
        for (key, minute) in used {
            let written = self.rows.change(
                DirectoryTable::ApiKey,
                &key,
                false,
                |row: &mut rows::ApiKeyRow| {
                    if row.last_used_at.is_some_and(|at| at >= minute) {
                        return Err(AuthError::Conflict("nothing to write"));
                    }
                    row.last_used_at = Some(minute);
                    Ok(())
                },
            );
            match written.await {
                Ok(_) | Err(AuthError::Conflict(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads what was announced since the last call, forgets it, tells who listens.
    pub(super) async fn read_revocations(&self) -> Result<(), AuthError> {
        loop {
            let cursor = self.view.polled().0;
            let changes = self.rows.revocations_since(cursor, CHANGES_MAX).await?;
            let count = changes.changes.len();
            for change in changes.changes {
                self.view.evict(change.table, &change.key);
                let whom = change.owner.map(|owner| AuthChange::User(UserId::from_uuid(owner)));
                self.view.tell(whom.unwrap_or(AuthChange::All));
            }
            *self.view.polled() = (changes.next, self.clock.mono());
            if count < CHANGES_MAX {
                return Ok(());
            }
        }
    }

    /// What a row says has changed by our own hand: we know at once, other processes are told
    /// to read it.
    pub(super) fn revoked(&self, table: DirectoryTable, key: &[u8], user: UserId) {
        self.view.evict(table, key);
        self.soft.tell_revoked();
        self.view.tell(AuthChange::User(user));
    }

    /// Whether two secrets are the same, compared through their hashes.
    #[must_use]
    pub fn same_secret(a: &str, b: &str) -> bool {
        hash(a.as_bytes()) == hash(b.as_bytes())
    }
}
