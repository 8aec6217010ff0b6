//! Makes a package of a folder.

use std::{
    fs, io,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;
use zip::{ZipWriter, result::ZipError, write::SimpleFileOptions};

use crate::{
    error::PackageError,
    read::{ENTRIES_MAX, UNPACKED_BYTES_MAX, read},
};

/// What lies in folders that people work in, and is nothing of the Skill.
const LEFT_OUT: [&str; 3] = [".git", "__pycache__", ".DS_Store"];

/// Why a folder is no package.
#[derive(Debug, Error)]
pub enum PackError {
    /// A file or folder that cannot be read.
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A link, a socket, a device, or a name that is not UTF-8.
    #[error("{} is neither a plain file nor a folder, or its name is not UTF-8", .0.display())]
    Special(PathBuf),
    /// Above a bound.
    #[error("{} is too large for a package: at most {ENTRIES_MAX} files and {} MiB", .0.display(),
        UNPACKED_BYTES_MAX >> 20)]
    TooLarge(PathBuf),
    /// The archive was not made.
    #[error("the archive was not made")]
    Zip(#[source] ZipError),
    /// It would be refused.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// A ZIP of what lies in `dir`, under its name, without `.git`, `__pycache__` and `.DS_Store`. The
/// same files make the same bytes, whenever they were written.
///
/// # Errors
/// See [`PackError`]: also if it would not be read by [`read`].
pub fn pack(dir: &Path) -> Result<Vec<u8>, PackError> {
    let whole = dir.canonicalize().map_err(|error| PackError::Read(dir.to_owned(), error))?;
    let top = whole.file_name().and_then(|name| name.to_str());
    let top = top.ok_or_else(|| PackError::Special(dir.to_owned()))?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let (mut entries, mut bytes) = (0, 0);
    let mut folders = vec![(whole.clone(), top.to_owned())];
    while let Some((folder, path)) = folders.pop() {
        for (at, name) in listed(&folder)? {
            let meta = fs::symlink_metadata(&at).map_err(|e| PackError::Read(at.clone(), e))?;
            let below = format!("{path}/{name}");
            (entries, bytes) = (entries + 1, bytes + meta.len());
            if entries > ENTRIES_MAX || bytes > UNPACKED_BYTES_MAX {
                return Err(PackError::TooLarge(dir.to_owned()));
            }
            if meta.is_dir() {
                folders.push((at, below));
            } else if meta.is_file() {
                let is_program = meta.permissions().mode() & 0o100 != 0;
                let mode = if is_program { 0o755 } else { 0o644 };
                let options = SimpleFileOptions::default().unix_permissions(mode);
                let content = fs::read(&at).map_err(|e| PackError::Read(at.clone(), e))?;
                zip.start_file(below, options).map_err(PackError::Zip)?;
                zip.write_all(&content).map_err(|error| PackError::Zip(error.into()))?;
            } else {
                return Err(PackError::Special(at));
            }
        }
    }
    let zip = zip.finish().map_err(PackError::Zip)?.into_inner();
    read(&zip)?;
    Ok(zip)
}

/// What is in a folder, by name.
fn listed(folder: &Path) -> Result<Vec<(PathBuf, String)>, PackError> {
    let unread = |error| PackError::Read(folder.to_owned(), error);
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| PackError::Special(entry.path()))?;
        if !LEFT_OUT.contains(&&*name) {
            all.push((entry.path(), name));
        }
        if all.len() > ENTRIES_MAX {
            return Err(PackError::TooLarge(folder.to_owned()));
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{made::SKILL, unpack};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("count");
        for (path, text) in
            [("SKILL.md", SKILL), ("bin/sum.py", "print(3)"), (".git/HEAD", "ref"), ("b/c/d", "d")]
        {
            let at = dir.join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, text).unwrap();
        }
        fs::set_permissions(dir.join("bin/sum.py"), fs::Permissions::from_mode(0o755)).unwrap();
        (root, dir)
    }

    #[test]
    fn a_folder_becomes_a_package_and_a_folder_again() {
        let (root, dir) = folder();
        let zip = pack(&dir).unwrap();
        let package = read(&zip).unwrap();
        assert_eq!((&*package.folder, &*package.text), ("count", "Count."));
        let out = root.path().join("out");
        unpack(&zip, &out).unwrap();
        assert_eq!(fs::read(out.join("b/c/d")).unwrap(), b"d");
        let mode = fs::metadata(out.join("bin/sum.py")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(!out.join(".git").exists());
        fs::write(dir.join("b/c/d"), "d").unwrap();
        assert_eq!(pack(&dir).unwrap(), zip, "the same files make the same bytes");
    }

    #[test]
    fn what_is_no_package_is_told_before_it_is_sent() {
        let (_root, dir) = folder();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("out")).unwrap();
        assert!(matches!(pack(&dir), Err(PackError::Special(at)) if at.ends_with("out")));
        fs::remove_file(dir.join("out")).unwrap();
        fs::remove_file(dir.join("SKILL.md")).unwrap();
        assert!(matches!(pack(&dir), Err(PackError::Package(PackageError::NoMain(_)))));
        assert!(matches!(pack(&dir.join("no")), Err(PackError::Read(..))));
    }
}
