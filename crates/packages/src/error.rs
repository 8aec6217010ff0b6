//! Why a package is refused.

use thiserror::Error;
use zip::result::ZipError;

use crate::read::{ENTRIES_MAX, PACKAGE_BYTES_MAX, PATH_BYTES_MAX, RATIO_MAX, UNPACKED_BYTES_MAX};

/// Why a package is refused; names the file.
#[derive(Debug, Error)]
pub enum PackageError {
    /// Of more than [`PACKAGE_BYTES_MAX`].
    #[error("the package is larger than {} MiB", PACKAGE_BYTES_MAX >> 20)]
    TooLarge,
    /// It has no directory that can be read.
    #[error("this is no ZIP archive")]
    NoZip(#[source] ZipError),
    /// Files and folders.
    #[error("the package has {0} files and folders, {ENTRIES_MAX} are allowed")]
    TooMany(usize),
    /// A path that leads elsewhere.
    #[error("`{0}`: a path must be relative, without `..`, `\\` and empty parts")]
    Path(String),
    /// A path.
    #[error("a path is longer than {PATH_BYTES_MAX} bytes: `{0}`")]
    LongPath(String),
    /// A path, or one that a file system may take for it.
    #[error("`{0}` is there twice, if case does not count")]
    Twice(String),
    /// The same path, letter by letter.
    #[error("a path is there twice")]
    Doubles,
    /// Neither file nor folder.
    #[error("`{0}` is neither a file nor a folder: links and devices are not allowed")]
    Special(String),
    /// A path.
    #[error("`{0}` is encrypted")]
    Encrypted(String),
    /// A file whose bytes are damaged.
    #[error("`{file}` cannot be unpacked: {why}")]
    Broken {
        /// Its path.
        file: String,
        /// Why.
        why: String,
    },
    /// A file that is a bomb.
    #[error("`{0}` grows to more than {RATIO_MAX} times its size")]
    Ratio(String),
    /// The file with which it is too much.
    #[error("with `{file}` the files are larger than {} MiB", UNPACKED_BYTES_MAX >> 20)]
    Unpacked {
        /// Its path.
        file: String,
    },
    /// Its top folders.
    #[error("the package needs one top folder, it has {0}")]
    Folders(String),
    /// The path of `SKILL.md`.
    #[error("there is no `{0}`")]
    NoMain(String),
    /// What is wrong with `SKILL.md`.
    #[error("`{file}`: {why}")]
    Main {
        /// Its path.
        file: String,
        /// Why.
        why: &'static str,
    },
}

impl PackageError {
    /// It is refused for its size alone.
    #[must_use]
    pub const fn is_size(&self) -> bool {
        matches!(self, Self::TooLarge)
    }
}
