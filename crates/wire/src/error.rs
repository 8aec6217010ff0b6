//! What can be wrong with bytes of a link.

use thiserror::Error;

/// Bytes that are not what they should be. The link that brought them is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    #[error("{what} ends too early")]
    Short {
        /// Where.
        what: &'static str,
    },
    /// A length or a number is above its limit.
    #[error("{what} is {found}, at most {max} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it says it is.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// Text that is no UTF-8.
    #[error("{what} is not UTF-8")]
    NotText {
        /// Where.
        what: &'static str,
    },
    /// A value that this version does not allow.
    #[error("{what} has the unknown value {found}")]
    Unknown {
        /// What.
        what: &'static str,
        /// The value.
        found: u64,
    },
    /// A version that this program does not read.
    #[error("{what} has version {found}, this program reads {oldest} to {newest}")]
    Version {
        /// What.
        what: &'static str,
        /// The version that it says it has.
        found: u8,
        /// The oldest one that is read.
        oldest: u8,
        /// The newest one that is read.
        newest: u8,
    },
}

/// A value that does not fit its form. It is the caller's fault; nothing was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    /// A part is above its limit.
    #[error("{what} is {found}, at most {max} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// The limit.
        max: usize,
    },
}
