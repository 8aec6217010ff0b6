//! Invitations: one line that a person carries to a machine.
//!
//! ```text
//! troupe://HOST[:PORT]/TOKEN
//! TOKEN = base64url(version 1, secret of 16 bytes, SHA-256 of the device CA's certificate)
//! ```

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use troupe_wire::device::limits::ENROL_SECRET_BYTES;

use super::error::InviteError;

/// How long an invitation is good for: 10 minutes.
pub const INVITE_VALID: Duration = Duration::from_secs(600);
/// The port that is meant when none is named.
pub const EDGE_PORT: u16 = 8443;

const SCHEME: &str = "troupe://";
const VERSION: u8 = 1;
const TOKEN_BYTES: usize = 1 + ENROL_SECRET_BYTES + 32;
const TOKEN_CHARS: usize = (TOKEN_BYTES * 4).div_ceil(3);

/// An invitation. Its text form is a secret until it was used.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What proves it; good once.
    pub secret: [u8; ENROL_SECRET_BYTES],
    /// SHA-256 of the device CA's certificate.
    pub fingerprint: [u8; 32],
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Invitation {
    /// What an authority keeps instead of the secret.
    #[must_use]
    pub fn secret_hash(secret: &[u8; ENROL_SECRET_BYTES]) -> [u8; 32] {
        Sha256::digest(secret).into()
    }

    /// `host:port`, for dialling and for people.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The whole line. Whoever has it can join once.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.push(VERSION);
        token.extend_from_slice(&self.secret);
        token.extend_from_slice(&self.fingerprint);
        format!("{SCHEME}{}/{}", self.address(), URL_SAFE_NO_PAD.encode(token))
    }
}

fn address(text: &str) -> Result<(String, u16), InviteError> {
    let bad = || InviteError::Address { found: text.to_owned() };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")).ok_or_else(bad)?)
    } else {
        text.split_once(':').unwrap_or((text, ""))
    };
    let port = if port.is_empty() { EDGE_PORT } else { port.parse().map_err(|_| bad())? };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
    if host.is_empty() || host.len() > 255 || port == 0 || host.contains(odd) {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

impl FromStr for Invitation {
    type Err = InviteError;

    fn from_str(line: &str) -> Result<Self, InviteError> {
        let rest = line.trim().strip_prefix(SCHEME).ok_or(InviteError::Scheme)?;
        let (at, token) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = address(at)?;
        let token = token.trim_end_matches('/');
        if token.chars().count() != TOKEN_CHARS {
            let found = token.chars().count();
            return Err(InviteError::TokenLength { found, expected: TOKEN_CHARS });
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InviteError::Token)?;
        let (version, rest) = bytes.split_first().ok_or(InviteError::Token)?;
        if *version != VERSION {
            return Err(InviteError::Version { found: *version });
        }
        let (secret, fingerprint) =
            rest.split_at_checked(ENROL_SECRET_BYTES).ok_or(InviteError::Token)?;
        Ok(Self {
            host,
            port,
            secret: secret.try_into().map_err(|_| InviteError::Token)?,
            fingerprint: fingerprint.try_into().map_err(|_| InviteError::Token)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation(host: &str, port: u16) -> Invitation {
        Invitation { host: host.to_owned(), port, secret: [7; 16], fingerprint: [9; 32] }
    }

    #[test]
    fn lines_are_read_again() {
        for host in ["edge.example", "10.0.0.1", "fd00::1", "laptop"] {
            let one = invitation(host, 9_000);
            assert_eq!(one.to_line().parse(), Ok(one.clone()), "{}", one.to_line());
            assert_eq!(format!("  {}\n", one.to_line()).parse(), Ok(one));
        }
        let line = invitation("edge", 8_443).to_line().replace(":8443", "");
        assert_eq!(line.parse(), Ok(invitation("edge", 8_443)), "the port may be left out");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let line = invitation("edge", 8_443).to_line();
        let cut = &line[..line.len() - 3];
        let expected = TOKEN_CHARS;
        assert_eq!(
            cut.parse::<Invitation>(),
            Err(InviteError::TokenLength { found: expected - 3, expected })
        );
        assert_eq!("https://x/y".parse::<Invitation>(), Err(InviteError::Scheme));
        for bad in ["troupe://", "troupe://:1/x", "troupe://a:b/x", "troupe://[::1/x"] {
            let refused = bad.parse::<Invitation>();
            assert!(matches!(refused, Err(InviteError::Address { .. })), "{bad}: {refused:?}");
        }
        let other = line.replace("/AQ", "/Ag");
        assert_eq!(other.parse::<Invitation>(), Err(InviteError::Version { found: 2 }));
        assert!(!format!("{:?}", invitation("edge", 1)).contains('7'));
    }
}
