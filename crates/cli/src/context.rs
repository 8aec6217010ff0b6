//! Contexts: which node, who, with which tokens. One TOML file, readable by its owner alone.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// Where a node listens unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The contexts file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contexts {
    /// Name of the context in use.
    #[serde(default)]
    pub current: String,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One node and who one is there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// PEM of the authority that signed the node's certificate; `None`: one of the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who logged in.
    #[serde(default)]
    pub user_name: String,
    /// Access token; short-lived.
    #[serde(default)]
    pub access_token: String,
    /// Refresh token; replaced at each use.
    #[serde(default)]
    pub refresh_token: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("url", &self.url)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

impl Contexts {
    /// Reads the file; an absent one is empty.
    ///
    /// # Errors
    /// If it is there and cannot be read, or is readable by others.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(CliError::local(format!("cannot read {}", path.display()), e)),
        };
        let mode = fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or(0);
        if mode & 0o077 != 0 {
            let shown = path.display();
            return Err(CliError::Usage(format!(
                "{shown} holds tokens and is readable by others; run: chmod 600 {shown}"
            )));
        }
        toml::from_str(&text)
            .map_err(|e| CliError::local(format!("{} is damaged", path.display()), e))
    }

    /// Writes the file (0600, replaced in one step).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CliError> {
        let fail = |e| CliError::local(format!("cannot write {}", path.display()), e);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(fail)?;
        }
        let text =
            toml::to_string(self).map_err(|e| CliError::local("contexts cannot be encoded", e))?;
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(fail)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        fs::rename(&fresh, path).map_err(fail)
    }
}

/// `$XDG_CONFIG_HOME/troupe/contexts.toml`, else `~/.config/troupe/contexts.toml`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the client is configured")]
pub fn default_path() -> PathBuf {
    let home = || std::env::var("HOME").map(|h| PathBuf::from(h).join(".config"));
    let base = std::env::var("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|_| home());
    base.unwrap_or_else(|_| PathBuf::from(".")).join("troupe").join("contexts.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/contexts.toml");
        let mut contexts = Contexts { current: "x".into(), ..Contexts::default() };
        let context = Context {
            url: DEFAULT_URL.into(),
            ca_file: Some("/etc/ca.pem".into()),
            user_name: "ada".into(),
            access_token: "secret-a".into(),
            refresh_token: "secret-r".into(),
        };
        assert!(!format!("{context:?}").contains("secret"));
        contexts.contexts.insert("x".into(), context);
        contexts.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Contexts::load(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
