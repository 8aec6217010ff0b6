//! API keys: long-lived secrets of programs, owned by a user.

use troupe_api::auth::{ApiKeyView, CreateApiKey, CreatedApiKey};
use troupe_store::DirectoryTable;
use troupe_types::{ApiKeyId, UserId};

use super::{
    API_KEYS_MAX, Auth, AuthError, StoreFault,
    rows::{self, ApiKeyRow, Held},
    tokens,
};
use crate::caller::Caller;

/// Characters of a key that are shown to recognise it, the prefix included.
const SHOWN_CHARS: usize = 10;

impl Auth {
    /// The caller's keys, oldest first.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn api_keys(&self, caller: &Caller) -> Result<Vec<ApiKeyView>, AuthError> {
        let mut keys: Vec<_> =
            self.key_rows(caller.user).await?.iter().map(|held| view(&held.value)).collect();
        keys.sort_by_key(|key| (key.created_at, key.id));
        Ok(keys)
    }

    /// Makes a key; its secret is in this answer only.
    ///
    /// # Errors
    /// [`AuthError::Invalid`], `Conflict` (too many keys), `Store`.
    pub async fn create_api_key(
        &self,
        caller: &Caller,
        request: CreateApiKey,
    ) -> Result<CreatedApiKey, AuthError> {
        let now = self.clock.now();
        let name = request.name.trim();
        if !(1..=100).contains(&name.chars().count()) {
            return Err(AuthError::invalid("name", "A name has 1 to 100 characters."));
        }
        if request.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthError::invalid("expires_at", "It lies in the past."));
        }
        if self.key_rows(caller.user).await?.len() >= API_KEYS_MAX {
            return Err(AuthError::Conflict("You have 100 keys: delete one first."));
        }
        let key = tokens::api_key();
        let row = ApiKeyRow {
            v: rows::VERSION,
            id: ApiKeyId::new(now),
            user: caller.user,
            name: name.to_owned(),
            prefix: key.chars().take(SHOWN_CHARS).collect(),
            expires_at: request.expires_at,
            last_used_at: None,
            created_at: now,
        };
        let hash = tokens::api_key_hash(&key).ok_or(AuthError::Store(StoreFault::Damaged))?;
        let owner = Some(caller.user.uuid());
        if !self.rows.insert(DirectoryTable::ApiKey, &hash, owner, &row).await? {
            return Err(AuthError::Store(StoreFault::Contended));
        }
        let (by, of) = (caller.user, row.id);
        tracing::info!(target: "audit", action = "create_api_key", %by, %of, outcome = "done");
        Ok(CreatedApiKey { view: view(&row), key })
    }

    /// Deletes one of the caller's keys; it stops working at once.
    ///
    /// # Errors
    /// [`AuthError::NotFound`], also for a key of somebody else; `Store`.
    pub async fn delete_api_key(&self, caller: &Caller, id: ApiKeyId) -> Result<(), AuthError> {
        let keys = self.key_rows(caller.user).await?;
        let held = keys.iter().find(|held| held.value.id == id);
        let held = held.ok_or(AuthError::NotFound("API key"))?;
        let removed = self.rows.remove(DirectoryTable::ApiKey, &held.row.key, true).await;
        self.revoked(DirectoryTable::ApiKey, &held.row.key, caller.user);
        if !removed? {
            return Err(AuthError::NotFound("API key"));
        }
        let by = caller.user;
        tracing::info!(target: "audit", action = "delete_api_key", %by, of = %id, outcome = "done");
        Ok(())
    }

    pub(super) async fn key_rows(&self, user: UserId) -> Result<Vec<Held<ApiKeyRow>>, StoreFault> {
        let owner = Some(user.uuid());
        self.rows.list(DirectoryTable::ApiKey, owner, None, API_KEYS_MAX + 10).await
    }
}

fn view(row: &ApiKeyRow) -> ApiKeyView {
    ApiKeyView {
        id: row.id,
        name: row.name.clone(),
        key_prefix: row.prefix.clone(),
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        created_at: row.created_at,
    }
}
