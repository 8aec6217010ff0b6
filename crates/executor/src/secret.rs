//! Secrets of one execution: in memory only, wiped when dropped, never printed.

use std::{collections::BTreeMap, fmt};

use zeroize::Zeroizing;

/// A text that must not be seen: `Debug` hides it, it has no serde, its memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Put it into the environment of a process, nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Secrets by the names that a [`Job`](crate::Job) calls them.
///
/// They travel beside the job, over the link only, and are asked for again after a restart of
/// the device: they have no serde on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds one, or replaces it.
    pub fn insert(&mut self, name: impl Into<String>, secret: Secret) {
        self.0.insert(name.into(), secret);
    }

    /// The same, for building.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, secret: impl Into<String>) -> Self {
        self.insert(name, Secret::new(secret));
        self
    }

    /// One by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// Replaces each `${secret:NAME}` in `text`.
    ///
    /// # Errors
    /// The name of the first secret that is not here.
    pub fn fill(&self, text: &str) -> Result<Secret, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(OPEN) {
            let after = &rest[at + OPEN.len()..];
            let Some(end) = after.find('}') else { break };
            let name = &after[..end];
            let secret = self.get(name).ok_or_else(|| name.to_owned())?;
            filled.push_str(&rest[..at]);
            filled.push_str(secret.expose());
            rest = &after[end + 1..];
        }
        filled.push_str(rest);
        Ok(Secret::new(filled))
    }

    /// Hides every secret of at least eight bytes that occurs in `text`.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.values().map(Secret::expose) {
            if secret.len() >= REDACT_BYTES_MIN && text.contains(secret) {
                text = text.replace(secret, "[secret]");
            }
        }
        text
    }
}

const OPEN: &str = "${secret:";
/// Shorter ones would hide ordinary words.
const REDACT_BYTES_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secrets = Secrets::new().with("key", "sk-very-secret");
        assert_eq!(format!("{secrets:?}"), r#"Secrets({"key": [secret]})"#);
        assert_eq!(secrets.redact("401: sk-very-secret is wrong"), "401: [secret] is wrong");
    }

    #[test]
    fn references_are_filled() {
        let secrets = Secrets::new().with("a", "1").with("b", "2");
        assert_eq!(secrets.fill("x ${secret:a}${secret:b} y").unwrap().expose(), "x 12 y");
        assert_eq!(secrets.fill("plain ${secret:").unwrap().expose(), "plain ${secret:");
        assert_eq!(secrets.fill("${secret:c}"), Err("c".to_owned()));
    }
}
