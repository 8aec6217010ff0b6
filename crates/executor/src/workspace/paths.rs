//! What a job may name: directories below allowed roots, URLs without secrets, branches.

use std::path::{Path, PathBuf};

use super::{
    WorkspaceError,
    remote::{Remote, Scheme},
};

/// Directories below which a job may work.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    dirs: Vec<PathBuf>,
    local_urls: bool,
}

impl Roots {
    /// `dirs`: as the device's user wrote them; one that does not exist allows nothing.
    #[must_use]
    pub const fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs, local_urls: false }
    }

    /// Also lets jobs clone `file://` URLs.
    #[must_use]
    pub const fn with_local_urls(mut self) -> Self {
        self.local_urls = true;
        self
    }

    pub(super) const fn allows_local_urls(&self) -> bool {
        self.local_urls
    }

    /// The directory with every symbolic link resolved, if it lies below a root.
    ///
    /// # Errors
    /// If it does not, or does not exist. The two are told apart only below a root.
    pub fn check(&self, path: &Path) -> Result<PathBuf, WorkspaceError> {
        let refused = |message: String| WorkspaceError::refused("source.path", message);
        let shown = path.display();
        let outside = || {
            let roots: Vec<String> =
                self.dirs.iter().map(|dir| dir.display().to_string()).collect();
            let roots = if roots.is_empty() { "none".to_owned() } else { roots.join(", ") };
            refused(format!(
                "{shown} is not below a directory that this device allows ({roots}): its user can add one"
            ))
        };
        if !path.is_absolute() {
            return Err(refused(format!("{shown} is not an absolute path")));
        }
        let Ok(real) = path.canonicalize() else {
            let named = self.dirs.iter().any(|root| path.starts_with(root));
            return Err(if named { refused(format!("{shown} does not exist")) } else { outside() });
        };
        let roots = self.dirs.iter().filter_map(|root| root.canonicalize().ok());
        let mut roots = roots.filter(|root| real.starts_with(root));
        if roots.next().is_none() {
            return Err(outside());
        }
        if !real.is_dir() {
            return Err(refused(format!("{shown} is not a directory")));
        }
        Ok(real)
    }
}

/// Checks a URL; answers `https://host[:port]` if it is one that takes a token.
pub(super) fn check_url(url: &str, local: bool) -> Result<Option<String>, WorkspaceError> {
    let refused = |message: &str| WorkspaceError::refused("source.url", message.to_owned());
    let Remote { scheme, host, host_port, .. } = Remote::read(url).map_err(refused)?;
    match scheme {
        Scheme::Https => Ok(Some(format!("https://{host_port}"))),
        // In the clear: for a server on this very machine only.
        Scheme::Http if matches!(host, "127.0.0.1" | "localhost" | "::1") => {
            Ok(Some(format!("http://{host_port}")))
        }
        Scheme::Http => Err(refused("http:// would send the code in the clear: use https://")),
        Scheme::Ssh => Ok(None),
        Scheme::File if local => Ok(None),
        Scheme::File => {
            Err(refused("this device does not allow file:// URLs: name the directory instead"))
        }
    }
}

/// The last part of a URL, as a directory's name.
pub(super) fn name_of(url: &str) -> String {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = last.chars().map(plain).take(80).collect();
    let reserved = ["", ".", "..", "turns", "clone", "tree", "work"];
    if reserved.contains(&name.as_str()) || name.starts_with('.') {
        return "repository".to_owned();
    }
    name
}

/// A name that git takes for a branch and that is no option.
pub(super) fn check_branch(branch: &str) -> Result<(), WorkspaceError> {
    let bad = branch.is_empty()
        || branch.len() > 200
        || branch.starts_with(['-', '/'])
        || branch.ends_with(['/', '.'])
        || branch.ends_with(".lock")
        || branch.contains("..")
        || branch.contains("@{")
        || branch.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c));
    if bad {
        let message = format!("{branch:?} is no name of a branch");
        return Err(WorkspaceError::refused("branch", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        let origin = |url: &str| check_url(url, false);
        assert_eq!(
            origin("https://git.example.org:8443/a/b.git").unwrap().as_deref(),
            Some("https://git.example.org:8443")
        );
        for fine in ["ssh://git@host/a", "git@host:a/b.git"] {
            assert_eq!(origin(fine).unwrap(), None, "{fine}");
        }
        for bad in [
            "https://user:token@host/a",
            "https://token@host/a",
            "http://host/a",
            "ext::sh -c id",
            "ext::sh",
            "--upload-pack=id",
            "file:///etc",
            "/etc",
            "ftp://host/a",
            "",
            "https://host/a b",
            "https://evil.com?.host/a",
            "ssh://git:word@host/a",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        assert!(check_url("file:///srv/a", true).is_ok());
    }

    #[test]
    fn names_and_branches() {
        assert_eq!(name_of("https://host/a/my repo.git"), "my-repo");
        assert_eq!(name_of("git@host:tree.git"), "repository");
        assert_eq!(name_of("https://host/.."), "repository");
        assert!(check_branch("feature/x-1").is_ok());
        for bad in ["", "-x", "a..b", "a b", "a~1", "x.lock", "a@{1}"] {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
    }
}
