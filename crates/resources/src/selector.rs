//! Which device a member may run on: a device's name, or terms that all have to fit.
//!
//! `os=linux, tool=claude>=2, label:gpu`. Only the form is known here; what fits is decided
//! where devices are known.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Most terms of one selector.
const TERMS_MAX: usize = 16;

/// A text is no selector.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SelectorError {
    /// Nothing between two commas, or nothing at all.
    #[error("a term is empty; write `os=linux, tool=claude>=2, label:gpu` or a device's name")]
    Empty,
    /// A term that is none of the three forms.
    #[error("`{0}` is no term; write `key=value`, `tool=name>=version`, `label:word`")]
    Term(String),
    /// More terms than allowed.
    #[error("more than 16 terms")]
    TooMany,
}

/// One condition on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// The device with this name.
    Device(String),
    /// A property of the device, like `os=linux`.
    Property {
        /// Which property.
        key: String,
        /// What it has to be.
        value: String,
    },
    /// A tool that the device has.
    Tool {
        /// Its name.
        name: String,
        /// What its version has to be.
        version: Option<(Comparison, String)>,
    },
    /// A label that its owner gave the device.
    Label(String),
}

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `<=`
    AtMost,
    /// `<`
    Below,
    /// `==`
    Exactly,
}

impl Comparison {
    const ALL: [(&'static str, Self); 5] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("==", Self::Exactly),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).map_or("", |(sign, _)| sign)
    }
}

/// Terms that all have to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// If a term is empty or of no known form, or there are more than 16.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let terms: Vec<&str> = text.split(',').map(str::trim).collect();
        if terms.len() > TERMS_MAX {
            return Err(SelectorError::TooMany);
        }
        terms.into_iter().map(parse_term).collect::<Result<_, _>>().map(Self)
    }

    /// The terms, at least one.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.0
    }
}

fn is_word(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    text.starts_with(char::is_alphanumeric) && text.chars().all(fits)
}

fn parse_term(term: &str) -> Result<Term, SelectorError> {
    if term.is_empty() {
        return Err(SelectorError::Empty);
    }
    let word = |text: &str| {
        let text = text.trim();
        if is_word(text) {
            Ok(text.to_owned())
        } else {
            Err(SelectorError::Term(crate::problem::shorten(term)))
        }
    };
    if let Some(label) = term.strip_prefix("label:") {
        return word(label).map(Term::Label);
    }
    let Some((key, value)) = term.split_once('=').filter(|(key, _)| !key.ends_with(['<', '>']))
    else {
        return word(term).map(Term::Device);
    };
    if key.trim() != "tool" {
        return Ok(Term::Property { key: word(key)?, value: word(value)? });
    }
    let compared = Comparison::ALL.iter().find_map(|(sign, comparison)| {
        value.split_once(sign).map(|(name, version)| (name, *comparison, version))
    });
    match compared {
        Some((name, comparison, version)) => {
            Ok(Term::Tool { name: word(name)?, version: Some((comparison, word(version)?)) })
        }
        None => Ok(Term::Tool { name: word(value)?, version: None }),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match term {
                Term::Device(name) => f.write_str(name)?,
                Term::Property { key, value } => write!(f, "{key}={value}")?,
                Term::Tool { name, version: None } => write!(f, "tool={name}")?,
                Term::Tool { name, version: Some((comparison, version)) } => {
                    write!(f, "tool={name}{}{version}", comparison.sign())?;
                }
                Term::Label(label) => write!(f, "label:{label}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_their_text() {
        for (text, canonical) in [
            ("office-laptop", "office-laptop"),
            ("os=linux,tool = claude>=2 , label:gpu", "os=linux, tool=claude>=2, label:gpu"),
            ("tool=node<22", "tool=node<22"),
            ("tool=git", "tool=git"),
            ("tool=codex==0.9.1", "tool=codex==0.9.1"),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.to_string(), canonical);
            assert_eq!(Selector::parse(canonical), Ok(selector));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "", "a,,b", ",", "os=", "=linux", "tool=>=2", "tool=x>=", "label:", "a b", "a>=2",
            "os=a=b",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Selector::parse(&["a"; 17].join(",")), Err(SelectorError::TooMany));
    }
}
