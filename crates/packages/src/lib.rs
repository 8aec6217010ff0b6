//! Packages of Skills: a ZIP with one folder, `SKILL.md` in it, and what it brings along.
//!
//! The cluster reads one before it keeps it, a device before it unpacks it (it trusts nobody with
//! its disk), and the command line makes one of a folder. All three have the bounds of [`read()`].

mod error;
mod pack;
mod read;
mod unpack;

pub use error::PackageError;
pub use pack::{PackError, pack};
pub use read::{PACKAGE_BYTES_MAX, Package, read};
pub use unpack::{UnpackError, unpack};

#[cfg(test)]
mod made;
