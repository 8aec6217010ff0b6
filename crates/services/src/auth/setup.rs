//! The first administrator, by a one-time token.

use std::fmt;

use troupe_api::auth::{RefreshTransport, SetupRequest, UserRole};
use troupe_store::DirectoryTable;
use troupe_types::UserId;

use super::{
    Auth, AuthError, Login, StoreFault, password,
    rows::{self, Held, SetupRow, SetupState, UserRow},
    tokens, users,
};

const KEY: &[u8] = b"setup";
const TRIES_MAX: u32 = 8;
const ADMIN_NAME: &str = "admin";

/// The token of a setup link, shown once by whoever starts the node.
pub struct SetupToken(String);

impl SetupToken {
    /// The text, for the link.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SetupToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetupToken")
    }
}

impl Auth {
    /// While there is no administrator: a new token, which replaces the one before. `None`
    /// once there is one. To be called at each start.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn prepare_setup(&self) -> Result<Option<SetupToken>, AuthError> {
        for _ in 0..TRIES_MAX {
            let held = self.setup_row().await?;
            if self.finished(held.as_ref()).await? {
                return Ok(None);
            }
            let token = tokens::secret_text();
            let state = SetupState::Open { token_hash: tokens::hash_text(&token) };
            let row = SetupRow { v: rows::VERSION, state };
            let written = match &held {
                Some(held) => self.rows.update(&held.row, &row, false).await?,
                None => self.rows.insert(DirectoryTable::Setting, KEY, None, &row).await?,
            };
            if written {
                return Ok(Some(SetupToken(token)));
            }
        }
        Err(AuthError::Store(StoreFault::Contended))
    }

    /// Whether there is no administrator yet.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn setup_needed(&self) -> Result<bool, AuthError> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.setup_done.load(Relaxed) {
            return Ok(false);
        }
        let done = self.finished(self.setup_row().await?.as_ref()).await?;
        self.setup_done.store(done, Relaxed);
        Ok(!done)
    }

    /// Makes the administrator and logs them in.
    ///
    /// # Errors
    /// [`AuthError::SetupGone`] if the token was used or replaced, `Invalid`, `Store`.
    pub async fn setup(
        &self,
        request: SetupRequest,
        transport: RefreshTransport,
    ) -> Result<Login, AuthError> {
        let name = request.user_name.as_deref().unwrap_or(ADMIN_NAME).trim().to_owned();
        users::check_name(&name)?;
        password::check(&request.password)?;
        let held = self.setup_row().await?.ok_or(AuthError::SetupGone)?;
        match &held.value.state {
            SetupState::Open { token_hash } if *token_hash == tokens::hash_text(&request.token) => {
            }
            _ => {
                tracing::info!(target: "audit", action = "setup", outcome = "denied");
                return Err(AuthError::SetupGone);
            }
        }
        let password_hash = self.hasher.hash(&request.password).await?;
        let id = UserId::new(self.clock.now());
        let claimed = SetupRow { v: rows::VERSION, state: SetupState::Claimed { user: id } };
        // Of several who use the link at once, one claims it.
        if !self.rows.update(&held.row, &claimed, false).await? {
            return Err(AuthError::SetupGone);
        }
        let user = users::fresh_row(id, &name, None, Some(password_hash), self.clock.now());
        let user = UserRow { role: UserRole::Admin, ..user };
        if let Err(error) = self.insert_user(&user).await {
            self.reopen(held.value, id).await?;
            return Err(error);
        }
        self.finished(self.setup_row().await?.as_ref()).await?;
        tracing::info!(target: "audit", action = "setup", by = %id, outcome = "done");
        self.begin(&user, transport).await
    }

    /// The administrator could not be made (a taken name): the link works again.
    async fn reopen(&self, open: SetupRow, claimed_by: UserId) -> Result<(), AuthError> {
        let Some(held) = self.setup_row().await? else { return Ok(()) };
        if matches!(held.value.state, SetupState::Claimed { user } if user == claimed_by) {
            self.rows.update(&held.row, &open, false).await?;
        }
        Ok(())
    }

    async fn setup_row(&self) -> Result<Option<Held<SetupRow>>, StoreFault> {
        self.rows.get(DirectoryTable::Setting, KEY).await
    }

    /// Whether setup is over; a claim whose administrator exists is written down as done.
    async fn finished(&self, held: Option<&Held<SetupRow>>) -> Result<bool, AuthError> {
        let Some(held) = held else { return Ok(false) };
        match held.value.state {
            SetupState::Done => Ok(true),
            SetupState::Open { .. } => Ok(false),
            SetupState::Claimed { user } => {
                if self.user_row(user).await?.is_none() {
                    return Ok(false);
                }
                self.join_admins(user).await?;
                let done = SetupRow { v: rows::VERSION, state: SetupState::Done };
                // Whoever else writes it writes the same.
                self.rows.update(&held.row, &done, false).await?;
                Ok(true)
            }
        }
    }
}
