//! Git tokens of users, as rows of the directory: what a clone of a private repository needs.

use serde::{Deserialize, Serialize};
use troupe_store::{Directory, DirectoryTable, ReadError};
use troupe_types::{Timestamp, UserId};

use crate::models::sealed_at;

/// Hosts that one person may have tokens for.
pub const GIT_TOKENS_MAX: usize = 50;
/// Characters of a host with its port.
const HOST_CHARS_MAX: usize = 255;

/// Body of a row of `DirectoryTable::GitToken`; its owner is the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitTokenRow {
    /// Version of this form.
    pub v: u8,
    /// Whose it is.
    pub owner: UserId,
    /// `HOST` or `HOST:PORT`, in lower case.
    pub host: String,
    /// The name that goes with it; `None`: the one that most hosts take for tokens.
    #[serde(default)]
    pub user: Option<String>,
    /// The token, sealed for [`seal_path`].
    pub sealed: String,
    /// Its last characters, to know it again.
    #[serde(default)]
    pub shown: String,
    /// When it was set.
    pub at: Timestamp,
}

impl GitTokenRow {
    /// The version that is written.
    pub const VERSION: u8 = 1;

    /// As a job's secrets hold it.
    #[must_use]
    pub fn sealed_text(&self) -> String {
        sealed_at(&self.sealed, &seal_path(self.owner, &self.host))
    }
}

/// What a token is sealed for: it opens for no other person and no other host.
#[must_use]
pub fn seal_path(owner: UserId, host: &str) -> String {
    format!("users/{owner}/git/{host}")
}

/// The key of a person's token for a host.
#[must_use]
pub fn git_token_key(owner: UserId, host: &str) -> Vec<u8> {
    [owner.uuid().as_bytes().as_slice(), b"/", host.as_bytes()].concat()
}

/// `HOST` or `HOST:PORT` of an `https` URL (`http` too: devices take that on loopback only), in
/// lower case; `None` for what takes no token.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    check_host(authority)
}

/// A host as it is kept; `None`: it is none.
#[must_use]
pub fn check_host(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let host = text.trim().to_ascii_lowercase();
    let begins = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    (begins && host.len() <= HOST_CHARS_MAX && host.chars().all(fits)).then_some(host)
}

/// A person's token for the host of a URL.
///
/// # Errors
/// The store's.
pub async fn git_token(
    directory: &dyn Directory,
    owner: UserId,
    url: &str,
) -> Result<Option<GitTokenRow>, ReadError> {
    let Some(host) = host_of(url) else { return Ok(None) };
    let row = directory.get(DirectoryTable::GitToken, &git_token_key(owner, &host)).await?;
    let row = row.and_then(|row| serde_json::from_slice::<GitTokenRow>(&row.body).ok());
    Ok(row.filter(|row| row.owner == owner && row.host == host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_from_urls() {
        for (url, host) in [
            ("https://git.Example.org/a/b.git", Some("git.example.org")),
            ("https://git.example.org:8443/a", Some("git.example.org:8443")),
            ("http://127.0.0.1:9/a", Some("127.0.0.1:9")),
            ("https://[::1]:9/a", Some("[::1]:9")),
            ("https://me@git.example.org/a", None),
            ("ssh://git@git.example.org/a", None),
            ("git@git.example.org:a/b", None),
            ("https:///a", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }
}
