//! Git tokens of people: set, listed masked, taken away.

use std::{fmt, sync::Arc};

use troupe_api::{
    Problem,
    git::{GitTokenView, PutGitToken},
};
use troupe_entities::git::{GIT_TOKENS_MAX, GitTokenRow, check_host, git_token_key, seal_path};
use troupe_llm::Sealer;
use troupe_store::{CasError, Directory, DirectoryTable, ReadError, RowWrite};
use troupe_types::Clock;

use crate::caller::Caller;

/// Characters of a token and of its name.
const TOKEN_CHARS_MAX: usize = 8_000;
const USER_CHARS_MAX: usize = 100;
/// Of a token shorter than this nothing is shown.
const SHOWN_FROM: usize = 12;
/// Tries of a change that others overtook.
const TRIES_MAX: usize = 5;

/// The use cases of git tokens.
pub struct GitTokens {
    directory: Arc<dyn Directory>,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for GitTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitTokens").finish_non_exhaustive()
    }
}

fn store(error: &dyn fmt::Display) -> Problem {
    tracing::warn!(%error, "a row of a git token");
    let mut problem = Problem::new(503, "store", "the store is not available; repeat later");
    problem.retry_after = Some(5);
    problem
}

fn host(text: &str) -> Result<String, Problem> {
    let wrong = "Write HOST or HOST:PORT, as in https://HOST/..: no scheme, no path.";
    check_host(text).ok_or_else(|| Problem::invalid("host", wrong))
}

fn view(row: &GitTokenRow) -> GitTokenView {
    GitTokenView {
        host: row.host.clone(),
        user: row.user.clone(),
        token: format!("****{}", row.shown),
        updated_at: row.at,
    }
}

fn is_word(text: &str, max: usize) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    (1..=max).contains(&text.chars().count()) && !text.contains(odd)
}

impl GitTokens {
    /// Over the directory of a node.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, sealer: Arc<Sealer>, clock: Arc<dyn Clock>) -> Self {
        Self { directory, sealer, clock }
    }

    /// The caller's, by host.
    ///
    /// # Errors
    /// 503.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<GitTokenView>, Problem> {
        let rows = self.rows(caller).await.map_err(|error| store(&error))?;
        let mut views: Vec<GitTokenView> = rows.iter().map(view).collect();
        views.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(views)
    }

    async fn rows(&self, caller: &Caller) -> Result<Vec<GitTokenRow>, ReadError> {
        let owner = Some(caller.user.uuid());
        let limit = GIT_TOKENS_MAX + 1;
        let rows = self.directory.list(DirectoryTable::GitToken, owner, None, limit).await?;
        Ok(rows.iter().filter_map(|row| serde_json::from_slice(&row.body).ok()).collect())
    }

    /// Sets the caller's token for a host.
    ///
    /// # Errors
    /// 422 names the field; 409: there are 50 already; 503.
    pub async fn put(
        &self,
        caller: &Caller,
        at: &str,
        put: PutGitToken,
    ) -> Result<GitTokenView, Problem> {
        let host = host(at)?;
        let PutGitToken { token, user } = put;
        if !is_word(&token, TOKEN_CHARS_MAX) {
            let message = "A token has 1 to 8,000 characters and no blanks.";
            return Err(Problem::invalid("token", message));
        }
        if user.as_ref().is_some_and(|user| !is_word(user, USER_CHARS_MAX)) {
            return Err(Problem::invalid("user", "A name has 1 to 100 characters and no blanks."));
        }
        let rows = self.rows(caller).await.map_err(|error| store(&error))?;
        if rows.len() >= GIT_TOKENS_MAX && rows.iter().all(|row| row.host != host) {
            let detail = format!("you have tokens for {GIT_TOKENS_MAX} hosts: delete one first");
            return Err(Problem::new(409, "too_many", detail));
        }
        let sealed = self.sealer.seal(&seal_path(caller.user, &host), &token).map_err(|error| {
            tracing::error!(%error, "a git token was not sealed");
            Problem::new(500, "internal", "the token could not be sealed")
        })?;
        let count = token.chars().count();
        let shown: String = match count >= SHOWN_FROM {
            true => token.chars().skip(count - 4).collect(),
            false => String::new(),
        };
        let (v, owner, at) = (GitTokenRow::VERSION, caller.user, self.clock.now());
        let row = GitTokenRow { v, owner, host, user, sealed, shown, at };
        self.write(&row).await?;
        let (by, of) = (caller.user, &row.host);
        tracing::info!(target: "audit", action = "set_git_token", %by, %of, outcome = "done");
        Ok(view(&row))
    }

    async fn write(&self, row: &GitTokenRow) -> Result<(), Problem> {
        let key = git_token_key(row.owner, &row.host);
        let body = serde_json::to_vec(row).unwrap_or_default();
        for _ in 0..TRIES_MAX {
            let old = self.directory.get(DirectoryTable::GitToken, &key).await;
            let write = match old.map_err(|error| store(&error))? {
                Some(old) => RowWrite::update(&old, body.clone()),
                None => RowWrite::insert(DirectoryTable::GitToken, key.clone(), body.clone())
                    .owned_by(row.owner.uuid()),
            };
            match self.directory.compare_and_set(write).await {
                Ok(_) => return Ok(()),
                Err(CasError::Conflict { .. } | CasError::OutcomeUnknown { .. }) => {}
                Err(error) => return Err(store(&error)),
            }
        }
        Err(store(&"others changed it all the time"))
    }

    /// Takes the caller's token for a host away.
    ///
    /// # Errors
    /// 404; 503.
    pub async fn remove(&self, caller: &Caller, at: &str) -> Result<(), Problem> {
        let none = || Problem::not_found("git token");
        let host = check_host(at).ok_or_else(none)?;
        let key = git_token_key(caller.user, &host);
        let found = self.directory.get(DirectoryTable::GitToken, &key).await;
        let found = found.map_err(|error| store(&error))?.ok_or_else(none)?;
        let removed =
            self.directory.remove(DirectoryTable::GitToken, &key, found.version, false).await;
        match removed {
            Ok(()) => {}
            Err(CasError::Conflict { current: 0 }) => return Err(none()),
            Err(error) => return Err(store(&error)),
        }
        let (by, of) = (caller.user, &host);
        tracing::info!(target: "audit", action = "delete_git_token", %by, %of, outcome = "done");
        Ok(())
    }
}
