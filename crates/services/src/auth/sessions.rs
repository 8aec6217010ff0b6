//! Sessions: login, refresh with rotation, logout.

use std::net::IpAddr;

use troupe_api::auth::{LoginRequest, RefreshTransport, TokenAnswer};
use troupe_store::DirectoryTable;
use troupe_types::{SessionId, Timestamp, UserId};

use super::{
    Auth, AuthError, Login, RefreshProof, SESSIONS_MAX, StoreFault,
    rows::{self, Held, SessionRow, TokenLine, UserRow},
    tokens::{self, Refresh},
};

/// Lines of refresh tokens in one family.
const LINES_MAX: usize = 8;
/// Rotations that may collide before the client is told to try again.
const ROTATE_TRIES: u32 = 8;

/// Where a refresh token stands in its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Current(usize),
    /// Replaced a moment ago: two tabs, or an answer that got lost.
    Sibling,
    Reused,
    Forged,
}

impl Auth {
    /// Checks name and password, and begins a session.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`] (also for unknown and deactivated users), `TooMany`,
    /// `Busy`, `Store`.
    pub async fn login(
        &self,
        request: LoginRequest,
        peer: Option<IpAddr>,
    ) -> Result<Login, AuthError> {
        let name = request.user_name.trim();
        self.limiter.attempt(name, peer).await?;
        let user = self.user_by_name(name).await?;
        let stored = user.as_ref().and_then(|u| u.password_hash.clone());
        let right = self.hasher.verify(&request.password, stored).await?;
        let Some(user) = user.filter(|u| right && u.is_active) else {
            let peer = peer.map(tracing::field::display);
            tracing::info!(target: "audit", action = "login", peer, outcome = "denied");
            return Err(AuthError::WrongPassword);
        };
        self.limiter.forgive(name, peer).await;
        let login = self.begin(&user, request.transport).await?;
        tracing::info!(target: "audit", action = "login", by = %user.id, outcome = "done");
        Ok(login)
    }

    /// Begins a session of a user who proved who they are.
    pub(super) async fn begin(
        &self,
        user: &UserRow,
        transport: RefreshTransport,
    ) -> Result<Login, AuthError> {
        let now = self.clock.now();
        let (id, tag_key) = (SessionId::new(now), tokens::tag_key());
        let refresh = Refresh::new(id, &tag_key);
        let proof = (transport == RefreshTransport::Cookie).then(tokens::secret_text);
        let row = SessionRow {
            v: rows::VERSION,
            id,
            user: user.id,
            generation: user.generation,
            tag_key,
            proof_hash: proof.as_deref().map(tokens::hash_text),
            lines: vec![TokenLine {
                current: refresh.hash(),
                previous: None,
                previous_until: Timestamp::default(),
            }],
            created_at: now,
            expires_at: now.plus(self.options.refresh_for),
        };
        let key = rows::id_key(id.uuid());
        let owner = Some(user.id.uuid());
        if !self.rows.insert(DirectoryTable::Session, &key, owner, &row).await? {
            return Err(AuthError::Store(StoreFault::Contended));
        }
        self.prune(user.id, now).await?;
        self.answer(user, id, &refresh, proof, transport)
    }

    /// Changes a refresh token into a new pair of tokens.
    ///
    /// # Errors
    /// [`AuthError::BadToken`] changes nothing, also for a cookie without its proof;
    /// [`AuthError::Reused`] has ended the family; `Expired`, `Revoked`, `Store`.
    pub async fn refresh(&self, proof: RefreshProof) -> Result<Login, AuthError> {
        let (token, transport) = parse(&proof)?;
        let key = rows::id_key(token.session.uuid());
        for _ in 0..ROTATE_TRIES {
            let held = self.rows.get::<SessionRow>(DirectoryTable::Session, &key).await?;
            let mut held = held.ok_or(AuthError::Revoked)?;
            check_proof(&held.value, &proof)?;
            let now = self.clock.now();
            let standing = standing(&held.value, &token, now);
            match standing {
                Standing::Forged => return Err(AuthError::BadToken),
                Standing::Reused => return Err(self.end_reused(&held).await?),
                Standing::Current(_) | Standing::Sibling => {}
            }
            if held.value.expires_at <= now {
                return Err(AuthError::Expired);
            }
            let user = self.user_row(held.value.user).await?.ok_or(AuthError::Revoked)?;
            if !user.is_active || held.value.generation < user.generation {
                return Err(AuthError::Revoked);
            }
            let fresh = Refresh::new(token.session, &held.value.tag_key);
            rotate(&mut held.value, standing, &fresh, now.plus(self.options.previous_for));
            held.value.expires_at = now.plus(self.options.refresh_for);
            if self.rows.update(&held.row, &held.value, false).await? {
                return self.answer(&user, token.session, &fresh, None, transport);
            }
        }
        Err(AuthError::Store(StoreFault::Contended))
    }

    /// Ends the session of a refresh token. A session that is gone is no error.
    ///
    /// # Errors
    /// [`AuthError::BadToken`] ends nothing; `Store`.
    pub async fn logout(&self, proof: RefreshProof) -> Result<(), AuthError> {
        let (token, _) = parse(&proof)?;
        let key = rows::id_key(token.session.uuid());
        let held = self.rows.get::<SessionRow>(DirectoryTable::Session, &key).await?;
        let Some(held) = held else { return Ok(()) };
        check_proof(&held.value, &proof)?;
        if !token.is_genuine(&held.value.tag_key) {
            return Err(AuthError::BadToken);
        }
        self.end_session(held.value.id, held.value.user).await?;
        tracing::info!(target: "audit", action = "logout", by = %held.value.user, outcome = "done");
        Ok(())
    }

    async fn end_reused(&self, held: &Held<SessionRow>) -> Result<AuthError, AuthError> {
        self.end_session(held.value.id, held.value.user).await?;
        let (of, session) = (held.value.user, held.value.id);
        tracing::warn!(target: "audit", action = "refresh_reuse", %of, %session, outcome = "ended");
        Ok(AuthError::Reused)
    }

    pub(super) async fn end_session(&self, id: SessionId, user: UserId) -> Result<(), AuthError> {
        let key = rows::id_key(id.uuid());
        let removed = self.rows.remove(DirectoryTable::Session, &key, true).await;
        self.revoked(DirectoryTable::Session, &key, user);
        removed?;
        Ok(())
    }

    /// Ends all sessions of a user but one.
    pub(super) async fn end_sessions(
        &self,
        user: UserId,
        but: Option<SessionId>,
    ) -> Result<(), AuthError> {
        // More than the limit can be there only for a moment; the generation ends them anyway.
        for held in self.session_rows(user).await? {
            if Some(held.value.id) != but {
                self.end_session(held.value.id, user).await?;
            }
        }
        Ok(())
    }

    async fn session_rows(&self, user: UserId) -> Result<Vec<Held<SessionRow>>, AuthError> {
        let owner = Some(user.uuid());
        Ok(self.rows.list(DirectoryTable::Session, owner, None, 2 * SESSIONS_MAX).await?)
    }

    /// Keeps the number of a user's sessions below the limit: expired ones go, then old ones.
    async fn prune(&self, user: UserId, now: Timestamp) -> Result<(), AuthError> {
        let mut sessions = self.session_rows(user).await?;
        sessions.sort_by_key(|held| held.value.created_at);
        let surplus = sessions.len().saturating_sub(SESSIONS_MAX);
        for (index, held) in sessions.iter().enumerate() {
            if index < surplus || held.value.expires_at <= now {
                self.end_session(held.value.id, user).await?;
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        user: &UserRow,
        session: SessionId,
        refresh: &Refresh,
        proof: Option<String>,
        transport: RefreshTransport,
    ) -> Result<Login, AuthError> {
        let bearer = tokens::Bearer {
            cluster: self.cluster,
            user: user.id,
            name: &user.name,
            role: user.role,
            session,
        };
        let access = tokens::sign(&self.keys, &bearer, self.clock.now(), self.options.access_for)?;
        let in_cookie = transport == RefreshTransport::Cookie;
        Ok(Login {
            answer: TokenAnswer {
                access_token: access,
                token_type: "bearer".to_owned(),
                expires_in: self.options.access_for.as_secs(),
                refresh_token: (!in_cookie).then(|| refresh.text()),
                proof,
                user: super::users::view(user),
            },
            cookie: in_cookie.then(|| refresh.text()),
        })
    }
}

fn parse(proof: &RefreshProof) -> Result<(Refresh, RefreshTransport), AuthError> {
    match proof {
        RefreshProof::Body(token) => Ok((Refresh::parse(token)?, RefreshTransport::Body)),
        RefreshProof::Cookie { token, .. } => {
            Ok((Refresh::parse(token)?, RefreshTransport::Cookie))
        }
    }
}

/// A cookie travels by itself, so it proves nothing without what a script of ours added.
fn check_proof(row: &SessionRow, shown: &RefreshProof) -> Result<(), AuthError> {
    match (&row.proof_hash, shown) {
        (None, RefreshProof::Body(_)) => Ok(()),
        (Some(hash), RefreshProof::Cookie { proof: Some(proof), .. })
            if *hash == tokens::hash_text(proof) =>
        {
            Ok(())
        }
        _ => Err(AuthError::BadToken),
    }
}

fn standing(row: &SessionRow, token: &Refresh, now: Timestamp) -> Standing {
    let hash = token.hash();
    if let Some(line) = row.lines.iter().position(|line| line.current == hash) {
        return Standing::Current(line);
    }
    let fresh = |line: &TokenLine| {
        line.previous.as_deref() == Some(hash.as_str()) && now <= line.previous_until
    };
    if row.lines.iter().any(fresh) {
        Standing::Sibling
    } else if token.is_genuine(&row.tag_key) {
        Standing::Reused
    } else {
        Standing::Forged
    }
}

fn rotate(row: &mut SessionRow, standing: Standing, fresh: &Refresh, previous_until: Timestamp) {
    let current = fresh.hash();
    match standing {
        Standing::Current(line) => {
            let line = &mut row.lines[line];
            let previous = Some(std::mem::replace(&mut line.current, current));
            *line = TokenLine { current: line.current.clone(), previous, previous_until };
        }
        _ => {
            if row.lines.len() >= LINES_MAX {
                let oldest = (0..row.lines.len()).min_by_key(|&i| row.lines[i].previous_until);
                row.lines.remove(oldest.unwrap_or(0));
            }
            row.lines.push(TokenLine { current, previous: None, previous_until });
        }
    }
}
