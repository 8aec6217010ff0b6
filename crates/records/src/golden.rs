//! Golden files: the bytes of released records, so that a change of their form is seen.
//!
//! A golden file is the record itself. It is made when it is missing (the test fails once, so
//! that somebody looks at it) and never changed afterwards: a new form is a new version, and
//! the file of the version before stays as the proof that it is still read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// What a golden file says against a record.
#[derive(Debug, Error)]
pub enum GoldenError {
    /// There was no file; it is there now. Look at it, keep it, run the test again.
    #[error("made {}; look at it and keep it", .0.display())]
    Made(PathBuf),
    /// The bytes differ: the form changed without a new version.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Differs {
        /// Which file.
        path: PathBuf,
        /// What it holds, as far as it is text.
        expected: String,
        /// What the program writes now.
        found: String,
    },
    /// The file could not be read or written.
    #[error("{}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Compares a record with `{dir}/{name}.v{version}.golden`; the version is its first byte.
///
/// # Errors
/// See [`GoldenError`].
pub fn check(dir: impl AsRef<Path>, name: &str, record: &[u8]) -> Result<(), GoldenError> {
    let version = record.first().copied().unwrap_or(0);
    let path = path(dir.as_ref(), name, version);
    let failed = |source| GoldenError::Io { path: path.clone(), source };
    match fs::read(&path) {
        Ok(expected) if expected == record => Ok(()),
        Ok(expected) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Err(GoldenError::Differs { expected: text(&expected), found: text(record), path })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(failed)?;
            fs::write(&path, record).map_err(failed)?;
            Err(GoldenError::Made(path))
        }
        Err(source) => Err(failed(source)),
    }
}

/// The kept bytes of one version, to be decoded by a test.
///
/// # Errors
/// [`GoldenError::Io`].
pub fn read(dir: impl AsRef<Path>, name: &str, version: u8) -> Result<Vec<u8>, GoldenError> {
    let path = path(dir.as_ref(), name, version);
    fs::read(&path).map_err(|source| GoldenError::Io { path, source })
}

fn path(dir: &Path, name: &str, version: u8) -> PathBuf {
    dir.join(format!("{name}.v{version}.golden"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_then_compared() {
        let dir = tempfile::tempdir().unwrap();
        let record = crate::encode(3, "hello").unwrap();
        let made = check(dir.path(), "greeting", &record);
        assert!(
            matches!(made, Err(GoldenError::Made(path)) if path.ends_with("greeting.v3.golden"))
        );
        check(dir.path(), "greeting", &record).unwrap();
        assert_eq!(read(dir.path(), "greeting", 3).unwrap(), record);
        let changed = crate::encode(3, "hullo").unwrap();
        let differs = check(dir.path(), "greeting", &changed);
        assert!(matches!(differs, Err(GoldenError::Differs { .. })));
    }
}
