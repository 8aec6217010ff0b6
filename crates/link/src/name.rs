//! Names of nodes.

use thiserror::Error;
use troupe_wire::limits::NODE_NAME_BYTES_MAX;

/// A name that no node can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// It has no or too many characters.
    #[error("a node's name has 1 to {NODE_NAME_BYTES_MAX} characters")]
    Length,
    /// It would be no name in a certificate.
    #[error(
        "a node's name has lower-case letters, digits and hyphens, starts with a letter and does \
         not end with a hyphen"
    )]
    Characters,
}

/// Whether a node can have this name: it goes into certificates as a DNS label.
///
/// # Errors
/// See [`NameError`].
pub fn check_node_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
        return Err(NameError::Length);
    }
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts_well || name.ends_with('-') || !name.bytes().all(allowed) {
        return Err(NameError::Characters);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels_are_names_and_nothing_else_is() {
        for good in ["a", "node-1", "troupe-0", &"n".repeat(63)] {
            assert_eq!(check_node_name(good), Ok(()), "{good}");
        }
        for bad in ["1", "Node", "a.b", "*", "a-", "-a", "a b", "ä", "a_b"] {
            assert_eq!(check_node_name(bad), Err(NameError::Characters), "{bad}");
        }
        for bad in ["", &"n".repeat(64)] {
            assert_eq!(check_node_name(bad), Err(NameError::Length), "{bad}");
        }
    }
}
