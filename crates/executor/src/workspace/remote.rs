//! Where a clone comes from, read once for the policy, for the token and for git alike.
//!
//! Strict: git, curl and ssh read odd URLs each in a way of its own (`?`, `#`, `\` and `%` end or
//! change a host, a second `@` moves it). What could be read in two ways is no URL here.

/// How a repository is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    Ssh,
    /// A path of this machine.
    File,
}

/// What the URL of a repository says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote<'a> {
    pub(super) scheme: Scheme,
    /// As it stands there, without brackets; empty for files.
    pub(super) host: &'a str,
    /// Host and port as they stand there.
    pub(super) host_port: &'a str,
}

/// The forms that are taken.
const FORMS: &str = "use https://, ssh:// or git@host:path";
/// What is said of a host, user or port that is none.
const NO_HOST: &str = "it names no host that can be read in one way only: a host is letters, digits, - and . (or an \
     IPv6 address in brackets), a port is digits";

impl<'a> Remote<'a> {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong, without the URL itself: it may hold a token.
    pub(super) fn read(url: &'a str) -> Result<Self, &'static str> {
        let odd = |c: char| c.is_control() || c == ' ';
        if url.is_empty() || url.starts_with('-') || url.chars().any(odd) {
            return Err("it is no URL of a repository");
        }
        let Some((scheme, rest)) = url.split_once("://") else { return Self::scp(url) };
        let authority = rest.split('/').next().unwrap_or_default();
        let scheme = match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "ssh" => Scheme::Ssh,
            "file" if authority.is_empty() => {
                return Ok(Self { scheme: Scheme::File, host: "", host_port: "" });
            }
            _ => return Err(FORMS),
        };
        let (user, host_port) = match authority.rsplit_once('@') {
            Some(_) if scheme != Scheme::Ssh => {
                return Err("it holds a user or a token: give the token as a secret beside it");
            }
            Some((user, _)) if user.contains(':') => {
                return Err("it holds a password: ssh uses the device's keys");
            }
            Some((user, host_port)) => (Some(user), host_port),
            None => (None, authority),
        };
        let host = host_of(host_port).filter(|_| user.is_none_or(is_user)).ok_or(NO_HOST)?;
        Ok(Self { scheme, host, host_port })
    }

    /// `git@host:owner/name`
    fn scp(url: &'a str) -> Result<Self, &'static str> {
        let (user, rest) = url.split_once('@').ok_or(FORMS)?;
        let (host, path) = rest.split_once(':').ok_or(FORMS)?;
        if path.is_empty() || path.starts_with(':') || rest.starts_with('[') || host.contains('/') {
            return Err(FORMS);
        }
        if !is_user(user) || !is_name(host) {
            return Err(NO_HOST);
        }
        Ok(Self { scheme: Scheme::Ssh, host, host_port: host })
    }
}

fn is_user(user: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !user.is_empty() && !user.starts_with('-') && user.chars().all(plain)
}

fn is_name(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !host.is_empty() && !host.starts_with(['-', '.']) && host.chars().all(plain)
}

/// The host of `host[:port]` or `[v6][:port]`.
fn host_of(host_port: &str) -> Option<&str> {
    let (host, port) = match host_port.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, (!port.is_empty()).then_some(port))
        }
        None => {
            let end = host_port.find(':').unwrap_or(host_port.len());
            let (host, port) = host_port.split_at(end);
            if !is_name(host) {
                return None;
            }
            (host, (!port.is_empty()).then_some(port))
        }
    };
    match port.map(|port| port.strip_prefix(':')) {
        None => Some(host),
        Some(Some(port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Some(host),
        Some(_) => None,
    }
}

/// The host that a clone of this URL connects to, in lower case and without the dot behind it;
/// `None`: it is no URL of a host, or one that could be read in two ways.
#[must_use]
pub fn clone_host(url: &str) -> Option<String> {
    let host = Remote::read(url).ok()?.host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_git_connects_to() {
        for (url, host) in [
            ("https://git.example:8443/x/y", "git.example"),
            ("https://GIT.Example./x", "git.example"),
            ("https://git.example/x?a=b#c@d", "git.example"),
            ("http://127.0.0.1:80/x", "127.0.0.1"),
            ("git@git.example:x/y", "git.example"),
            ("git@GIT.example:x/y@z:1", "git.example"),
            ("ssh://git@git.example:22/x", "git.example"),
            ("ssh://git.example/x", "git.example"),
            ("ssh://git@[fd00::1]:22/x", "fd00::1"),
            ("https://[FD00::1]/x", "fd00::1"),
        ] {
            assert_eq!(clone_host(url).as_deref(), Some(host), "{url}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for url in [
            "https://evil.com?.good.example/x",
            "https://evil.com#.good.example/x",
            "https://evil.com\\.good.example/x",
            "https://evil.com\\@good.example/x",
            "https://good.example@evil.com/x",
            "https://good.example%2f@evil.com/x",
            "https://evil.com%2f.good.example/x",
            "https://evil.com;.good.example/x",
            "https://evil.com\u{3002}good.example/x",
            "https://evil.com\t.good.example/x",
            "https://good.example:80:90/x",
            "https://good.example:/x",
            "https://good.example:0/x",
            "https://good.example:port/x",
            "https:///good.example/x",
            "https://.good.example/x",
            "https://-good.example/x",
            "https://[::1/x",
            "https://[evil.com]/x",
            "https://[::1]evil.com/x",
            "https://[fe80::1%25eth0]/x",
            "HTTPS://good.example/x",
            "ssh://git@evil.com@good.example/x",
            "ssh://git%40evil.com@good.example/x",
            "ssh://git:word@good.example/x",
            "ssh://-oProxyCommand=id/x",
            "ssh://-oProxyCommand@good.example/x",
            "ssh://[git@good.example:22]/x",
            "git@evil.com@good.example:x",
            "git@evil.com?.good.example:x",
            "git@good.example::x",
            "git@good.example:",
            "git@[fd00::1]:x",
            "[git@good.example:22]:x",
            "-x@good.example:x",
            "a/b@good.example:x",
            "git@good.example/y:x",
            "good.example:x",
            "ext::sh -c id",
            "file://good.example/x",
            "file:///tmp/x",
            "/tmp/x",
            "",
        ] {
            assert_eq!(clone_host(url), None, "{url}");
        }
    }
}
