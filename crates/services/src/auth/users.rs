//! Users: made and changed by administrators, and by themselves.

use troupe_api::{
    auth::{CreateUser, UserPatch, UserRole, UserView},
    task::Page,
};
use troupe_store::DirectoryTable;
use troupe_types::{SessionId, Timestamp, UserId};

use super::{
    Auth, AuthError, PREFERENCES_BYTES_MAX, StoreFault, password,
    rows::{self, AdminsRow, NameRow, Rows, SessionRow, UserRow},
};
use crate::caller::{Caller, Credential};

const ADMINS_KEY: &[u8] = b"admins";
const PAGE_MAX: u32 = 100;
const PAGE_DEFAULT: u32 = 20;
/// Users that are counted for `total`; beyond it the count stays there.
const COUNT_MAX: usize = 10_000;
const COUNT_STEP: usize = 500;

/// A patch whose fields are right.
struct Checked<'a> {
    patch: &'a UserPatch,
    /// Of the new password, if there is one.
    hash: Option<String>,
}

impl Auth {
    /// The caller as a user.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn me(&self, caller: &Caller) -> Result<UserView, AuthError> {
        let row = self.user_row(caller.user).await?.ok_or(AuthError::Revoked)?;
        Ok(view(&row))
    }

    /// Changes the caller's own e-mail, password or preferences. A new password ends all
    /// their other sessions.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], `Invalid`, `Forbidden` (role, activity), `Store`.
    pub async fn patch_me(&self, caller: &Caller, patch: UserPatch) -> Result<UserView, AuthError> {
        if patch.role.is_some() || patch.is_active.is_some() {
            return Err(denied(caller, "patch_me", "An administrator sets role and activity."));
        }
        if patch.password.is_some() {
            let row = self.user_row(caller.user).await?.ok_or(AuthError::Revoked)?;
            self.limiter.attempt(&row.name, None).await?;
            let current = patch.current_password.as_deref().ok_or_else(|| {
                AuthError::invalid("current_password", "It is needed for a new password.")
            })?;
            if !self.hasher.verify(current, row.password_hash).await? {
                return Err(denied_password(caller));
            }
            self.limiter.forgive(&row.name, None).await;
        }
        let keep = match caller.credential {
            Credential::Session(sid) => Some(sid),
            Credential::ApiKey(_) => None,
        };
        let change = self.checked(&patch).await?;
        self.apply(caller.user, change, keep).await
    }

    /// All users, a page at a time, oldest first.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`], `Invalid` (cursor), `Store`.
    pub async fn list_users(
        &self,
        caller: &Caller,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<UserView>, AuthError> {
        admin(caller, "list_users")?;
        let after = cursor.map(str::parse::<UserId>).transpose();
        let after = after.map_err(|_| AuthError::invalid("cursor", "Not a cursor of ours."))?;
        let after = after.map(|id| rows::id_key(id.uuid()));
        let limit = if limit == 0 { PAGE_DEFAULT } else { limit.min(PAGE_MAX) } as usize;
        let table = DirectoryTable::User;
        let after = after.as_ref().map(<[u8; 16]>::as_slice);
        let mut held = self.rows.list::<UserRow>(table, None, after, limit + 1).await?;
        let more = held.len() > limit;
        held.truncate(limit);
        let items: Vec<UserView> = held.iter().map(|h| view(&h.value)).collect();
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Page { total: self.count_users().await?, items, next })
    }

    /// The administrator who was there first; `None` before the setup.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn first_admin(&self) -> Result<Option<UserId>, AuthError> {
        let users = self.rows.list::<UserRow>(DirectoryTable::User, None, None, COUNT_STEP).await?;
        // Ids sort by the time when they were made.
        let admin = |user: &&rows::Held<UserRow>| {
            user.value.role == UserRole::Admin && user.value.is_active
        };
        Ok(users.iter().find(admin).map(|user| user.value.id))
    }

    async fn count_users(&self) -> Result<u64, AuthError> {
        let (mut count, mut after) = (0, None::<Vec<u8>>);
        while count < COUNT_MAX {
            let table = DirectoryTable::User;
            let held = self.rows.list::<UserRow>(table, None, after.as_deref(), COUNT_STEP).await?;
            count += held.len();
            match held.last() {
                Some(last) if held.len() == COUNT_STEP => after = Some(last.row.key.to_vec()),
                _ => break,
            }
        }
        Ok(count as u64)
    }

    /// One user.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`], `NotFound`, `Store`.
    pub async fn user(&self, caller: &Caller, id: UserId) -> Result<UserView, AuthError> {
        admin(caller, "user")?;
        Ok(view(&self.user_row(id).await?.ok_or(AuthError::NotFound("User"))?))
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`], `NameTaken`, `Invalid`, `Busy`, `Store`.
    pub async fn create_user(
        &self,
        caller: &Caller,
        request: CreateUser,
    ) -> Result<UserView, AuthError> {
        admin(caller, "create_user")?;
        let name = request.user_name.trim();
        check_name(name)?;
        password::check(&request.password)?;
        if let Some(email) = &request.email {
            check_email(email)?;
        }
        if self.user_by_name(name).await?.is_some() {
            return Err(AuthError::NameTaken);
        }
        let hash = self.hasher.hash(&request.password).await?;
        let now = self.clock.now();
        let row = fresh_row(UserId::new(now), name, request.email, Some(hash), now);
        let row = UserRow { role: request.role.unwrap_or(UserRole::User), ..row };
        self.insert_user(&row).await?;
        if row.role == UserRole::Admin {
            self.join_admins(row.id).await?;
        }
        done(caller, "create_user", row.id);
        Ok(view(&row))
    }

    /// Changes a user; by deactivation or a new password all their sessions end.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`], `NotFound`, `Conflict` (oneself, the last administrator),
    /// `Invalid`, `Busy`, `Store`. Of a patch that is refused nothing is done.
    pub async fn patch_user(
        &self,
        caller: &Caller,
        id: UserId,
        patch: UserPatch,
    ) -> Result<UserView, AuthError> {
        admin(caller, "patch_user")?;
        let row = self.user_row(id).await?.ok_or(AuthError::NotFound("User"))?;
        let demoted = row.role == UserRole::Admin && patch.role == Some(UserRole::User);
        let deactivated = row.is_active && patch.is_active == Some(false);
        if id == caller.user && (demoted || deactivated) {
            return Err(AuthError::Conflict(
                "Another administrator has to deactivate or demote you.",
            ));
        }
        if id == caller.user && patch.password.is_some() {
            return Err(AuthError::Conflict("Change your own password under users/me."));
        }
        let change = self.checked(&patch).await?;
        let leaves = row.role == UserRole::Admin && (demoted || deactivated);
        if leaves {
            self.leave_admins(id).await?;
        }
        let applied = self.apply(id, change, None).await;
        if applied.is_err() && leaves {
            // Best effort: until the next patch the count may be one too low, never too high.
            let _ = self.join_admins(id).await;
        }
        let after = applied?;
        if after.role == UserRole::Admin && after.is_active {
            self.join_admins(id).await?;
        }
        done(caller, "patch_user", id);
        Ok(after)
    }

    /// Deactivates a user: their sessions end, their keys stop working, their things stay.
    ///
    /// # Errors
    /// As [`patch_user`](Self::patch_user).
    pub async fn deactivate(&self, caller: &Caller, id: UserId) -> Result<(), AuthError> {
        let patch = UserPatch { is_active: Some(false), ..UserPatch::default() };
        self.patch_user(caller, id, patch).await.map(|_| ())
    }

    /// Everything by which a patch may be refused, its password hashed.
    async fn checked<'a>(&self, patch: &'a UserPatch) -> Result<Checked<'a>, AuthError> {
        check_patch(patch)?;
        let hash = match &patch.password {
            Some(new) => Some(self.hasher.hash(new).await?),
            None => None,
        };
        Ok(Checked { patch, hash })
    }

    /// Writes what a patch changes; `keep` is the session that a new password does not end.
    async fn apply(
        &self,
        id: UserId,
        Checked { patch, hash }: Checked<'_>,
        keep: Option<SessionId>,
    ) -> Result<UserView, AuthError> {
        let ends_sessions = hash.is_some() || patch.is_active == Some(false);
        if let Some(sid) = keep.filter(|_| ends_sessions) {
            self.lift_session(sid, id).await?;
        }
        let now = self.clock.now();
        let changed = |row: &mut UserRow| -> Result<(), AuthError> {
            patch_row(row, patch, hash.as_ref(), now);
            row.generation += u64::from(ends_sessions);
            Ok(())
        };
        let key = rows::id_key(id.uuid());
        let written = self.rows.change(DirectoryTable::User, &key, true, changed).await;
        self.view.evict(DirectoryTable::User, &key);
        let (row, ()) = written?.ok_or(AuthError::NotFound("User"))?;
        self.revoked(DirectoryTable::User, &key, id);
        if ends_sessions {
            self.end_sessions(id, keep).await?;
        }
        Ok(view(&row))
    }

    /// Raises a session above the generation that is about to end.
    async fn lift_session(&self, sid: SessionId, user: UserId) -> Result<(), AuthError> {
        let generation = self.user_row(user).await?.ok_or(AuthError::Revoked)?.generation + 1;
        let key = rows::id_key(sid.uuid());
        let lift = |row: &mut SessionRow| -> Result<(), AuthError> {
            row.generation = row.generation.max(generation);
            Ok(())
        };
        self.rows.change(DirectoryTable::Session, &key, true, lift).await?;
        self.view.evict(DirectoryTable::Session, &key);
        Ok(())
    }

    pub(super) async fn user_row(&self, id: UserId) -> Result<Option<UserRow>, StoreFault> {
        self.rows.user(id).await
    }

    pub(super) async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>, StoreFault> {
        self.rows.user_by_name(name).await
    }

    /// First the name, then the user: a crash in between leaves a name that the next one who
    /// wants it may take.
    pub(super) async fn insert_user(&self, row: &UserRow) -> Result<(), AuthError> {
        let name = row.name.to_lowercase();
        let claim = NameRow { v: rows::VERSION, user: row.id };
        let owner = Some(row.id.uuid());
        let table = DirectoryTable::UserName;
        if !self.rows.insert(table, name.as_bytes(), owner, &claim).await? {
            let held = self.rows.get::<NameRow>(table, name.as_bytes()).await?;
            let held = held.ok_or(AuthError::Store(StoreFault::Contended))?;
            let taken = self.user_row(held.value.user).await?.is_some();
            if taken || !self.rows.update(&held.row, &claim, false).await? {
                return Err(AuthError::NameTaken);
            }
        }
        let key = rows::id_key(row.id.uuid());
        if !self.rows.insert(DirectoryTable::User, &key, owner, row).await? {
            return Err(AuthError::Store(StoreFault::Contended));
        }
        Ok(())
    }

    pub(super) async fn join_admins(&self, id: UserId) -> Result<(), AuthError> {
        let add = |row: &mut AdminsRow| -> Result<(), AuthError> {
            row.ids.insert(id);
            Ok(())
        };
        let table = DirectoryTable::Setting;
        if self.rows.change(table, ADMINS_KEY, false, add).await?.is_some() {
            return Ok(());
        }
        let first = AdminsRow { v: rows::VERSION, ids: [id].into() };
        if !self.rows.insert(table, ADMINS_KEY, None, &first).await? {
            self.rows.change(table, ADMINS_KEY, false, add).await?;
        }
        Ok(())
    }

    /// Written before the user's row, so that of two who go at once one is refused.
    async fn leave_admins(&self, id: UserId) -> Result<(), AuthError> {
        let remove = |row: &mut AdminsRow| -> Result<(), AuthError> {
            row.ids.remove(&id);
            if row.ids.is_empty() {
                return Err(AuthError::Conflict("This is the last administrator."));
            }
            Ok(())
        };
        self.rows.change(DirectoryTable::Setting, ADMINS_KEY, false, remove).await?;
        Ok(())
    }
}

impl Rows {
    async fn user(&self, id: UserId) -> Result<Option<UserRow>, StoreFault> {
        let key = rows::id_key(id.uuid());
        Ok(self.get(DirectoryTable::User, &key).await?.map(|held| held.value))
    }

    pub(super) async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>, StoreFault> {
        // What is no name is not looked up, but takes the same way to its refusal.
        if check_name(name).is_err() {
            return Ok(None);
        }
        let key = name.to_lowercase();
        let held = self.get::<NameRow>(DirectoryTable::UserName, key.as_bytes()).await?;
        match held {
            Some(held) => self.user(held.value.user).await,
            None => Ok(None),
        }
    }
}

pub(super) fn fresh_row(
    id: UserId,
    name: &str,
    email: Option<String>,
    password_hash: Option<String>,
    now: Timestamp,
) -> UserRow {
    UserRow {
        v: rows::VERSION,
        id,
        name: name.to_owned(),
        email,
        password_hash,
        role: UserRole::User,
        is_active: true,
        generation: 0,
        created_at: now,
        updated_at: now,
        preferences: serde_json::Map::new(),
    }
}

/// A user as others may see them.
pub(super) fn view(row: &UserRow) -> UserView {
    UserView {
        id: row.id,
        user_name: row.name.clone(),
        email: row.email.clone(),
        is_active: row.is_active,
        role: row.role,
        auth_source: "password".to_owned(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        preferences: row.preferences.clone(),
    }
}

fn patch_row(row: &mut UserRow, patch: &UserPatch, hash: Option<&String>, now: Timestamp) {
    if let Some(email) = &patch.email {
        row.email = Some(email.clone()).filter(|e| !e.is_empty());
    }
    if let Some(hash) = hash {
        row.password_hash = Some(hash.clone());
    }
    if let Some(is_active) = patch.is_active {
        row.is_active = is_active;
    }
    if let Some(role) = patch.role {
        row.role = role;
    }
    if let Some(preferences) = &patch.preferences {
        row.preferences.clone_from(preferences);
    }
    row.updated_at = now;
}

fn check_patch(patch: &UserPatch) -> Result<(), AuthError> {
    if let Some(new) = &patch.password {
        password::check(new)?;
    }
    if let Some(email) = patch.email.as_deref().filter(|e| !e.is_empty()) {
        check_email(email)?;
    }
    let bytes = patch.preferences.as_ref().map(|p| serde_json::to_vec(p).map_or(0, |b| b.len()));
    if bytes.is_some_and(|bytes| bytes > PREFERENCES_BYTES_MAX) {
        return Err(AuthError::invalid("preferences", "Preferences have at most 16 KiB."));
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), AuthError> {
    let fits = (2..=50).contains(&name.len());
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits && plain {
        return Ok(());
    }
    Err(AuthError::invalid("user_name", "2 to 50 of the characters a-z, A-Z, 0-9, `.`, `_`, `-`."))
}

fn check_email(email: &str) -> Result<(), AuthError> {
    let parts = email.rsplit_once('@');
    let plain = !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if email.len() <= 254 && plain && parts.is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()) {
        return Ok(());
    }
    Err(AuthError::invalid("email", "Not an e-mail address."))
}

fn admin(caller: &Caller, action: &'static str) -> Result<(), AuthError> {
    if caller.is_admin() {
        return Ok(());
    }
    Err(denied(caller, action, "Only an administrator may do this."))
}

fn denied(caller: &Caller, action: &'static str, why: &'static str) -> AuthError {
    tracing::info!(target: "audit", action, by = %caller.user, outcome = "denied");
    AuthError::Forbidden(why)
}

fn denied_password(caller: &Caller) -> AuthError {
    tracing::info!(target: "audit", action = "change_password", by = %caller.user, outcome = "denied");
    AuthError::invalid("current_password", "The current password is wrong.")
}

fn done(caller: &Caller, action: &'static str, of: UserId) {
    tracing::info!(target: "audit", action, by = %caller.user, %of, outcome = "done");
}
