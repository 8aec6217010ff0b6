//! Puts a package on the disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, Cursor, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use thiserror::Error;
use zip::ZipArchive;

use crate::{
    error::PackageError,
    read::{UNPACKED_BYTES_MAX, read},
};

/// Any of them makes a file a program.
const EXECUTE_BITS: u32 = 0o111;

/// Why a package is not on the disk.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// It is refused, and nothing was written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The file system's word; what is there is not whole.
    #[error("`{file}` was not written")]
    Disk {
        /// Path in the package.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes what is in the package's folder into `dir`, which must not be there yet: folders and
/// files of the caller alone; who may execute a file in the package may execute it here. The
/// whole package is read before anything is written.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(bytes: &[u8], dir: &Path) -> Result<(), UnpackError> {
    let package = read(bytes)?;
    let disk = |file: &str| {
        let file = file.to_owned();
        move |source| UnpackError::Disk { file, source }
    };
    make_dir(dir, false).map_err(disk(&package.folder))?;
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(PackageError::NoZip)?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(PackageError::NoZip)?;
        let path = entry.name().map_err(PackageError::NoZip)?;
        let path = path.trim_end_matches('/').to_owned();
        let Some((_, below)) = path.split_once('/') else { continue };
        let target = dir.join(below);
        if entry.is_dir() {
            make_dir(&target, true).map_err(disk(&path))?;
            continue;
        }
        if let Some(parent) = target.parent() {
            make_dir(parent, true).map_err(disk(&path))?;
        }
        let is_program = entry.unix_mode().is_some_and(|mode| mode & EXECUTE_BITS != 0);
        let mode = if is_program { 0o700 } else { 0o600 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&target);
        let mut file = file.map_err(disk(&path))?;
        io::copy(&mut (&mut entry).take(UNPACKED_BYTES_MAX), &mut file).map_err(disk(&path))?;
        // What has its name after a power failure has its bytes.
        file.sync_all().map_err(disk(&path))?;
    }
    Ok(())
}

fn make_dir(dir: &Path, recursive: bool) -> io::Result<()> {
    fs::DirBuilder::new().recursive(recursive).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::{
        collection::vec,
        option,
        prelude::*,
        prop_assert, prop_assert_eq,
        sample::{Index, select},
    };

    use super::*;
    use crate::made::{SKILL, files, mode};

    #[test]
    fn a_package_lies_on_the_disk_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("count");
        let zip = mode(
            &[("a/SKILL.md", SKILL.as_bytes()), ("a/bin/sum.py", b"print(3)"), ("a/d/", b"")],
            &[0o644, 0o755, 0o755],
        );
        unpack(&zip, &dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("SKILL.md")).unwrap(), SKILL);
        let script = dir.join("bin/sum.py");
        assert_eq!(fs::read(&script).unwrap(), b"print(3)");
        let modes = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((modes(&script), modes(&dir.join("SKILL.md"))), (0o700, 0o600));
        assert_eq!((modes(&dir), modes(&dir.join("d"))), (0o700, 0o700));
        let again = unpack(&zip, &dir).unwrap_err();
        assert!(matches!(again, UnpackError::Disk { .. }), "{again}");
    }

    #[test]
    fn of_what_is_refused_nothing_is_written() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("count");
        let zip = files(&[("a/SKILL.md", SKILL.as_bytes()), ("b/x", b"x")]);
        assert!(matches!(unpack(&zip, &dir), Err(UnpackError::Package(_))));
        assert!(!dir.exists());
    }

    /// What a folder holds, and that nothing is beside it.
    fn count(dir: &Path) -> usize {
        let below = |entry: fs::DirEntry| {
            assert!(!entry.file_type().unwrap().is_symlink());
            1 + if entry.path().is_dir() { count(&entry.path()) } else { 0 }
        };
        fs::read_dir(dir).unwrap().flatten().map(below).sum()
    }

    proptest! {
        /// Damaged and forged archives are refused or unpacked in their place, and nothing else.
        #[test]
        fn whatever_an_archive_says_stays_in_its_folder(
            flips in vec((any::<Index>(), any::<u8>()), 0..12),
            cut in option::of(any::<Index>()),
            swap in option::of(select(vec!["a/../../b", "/etc/pass", "a\\..\\..\\b", "a/bb/skil"])),
        ) {
            let entries: [(&str, &[u8]); 3] =
                [("a/SKILL.md", SKILL.as_bytes()), ("a/bin/run", b"echo x"), ("a/bb/ccc1", b"y")];
            let mut zip = files(&entries);
            if let Some(name) = swap {
                let places: Vec<usize> =
                    (0..zip.len()).filter(|at| zip[*at..].starts_with(b"a/bb/ccc1")).collect();
                for at in places {
                    zip[at..at + name.len()].copy_from_slice(name.as_bytes());
                }
            }
            for (at, byte) in flips {
                let at = at.index(zip.len());
                zip[at] = byte;
            }
            if let Some(cut) = cut {
                zip.truncate(cut.index(zip.len()));
            }
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("within/skill");
            fs::create_dir(root.path().join("within")).unwrap();
            let unpacked = unpack(&zip, &dir);
            prop_assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
            prop_assert!(fs::read_dir(root.path().join("within")).unwrap().count() <= 1);
            if unpacked.is_ok() {
                prop_assert!(count(&dir) >= 1);
            }
        }
    }

    #[test]
    fn a_file_that_is_also_a_folder_is_told() {
        let root = tempfile::tempdir().unwrap();
        let zip = files(&[("a/SKILL.md", SKILL.as_bytes()), ("a/x", b"x"), ("a/x/y", b"y")]);
        let said = unpack(&zip, &root.path().join("count")).unwrap_err().to_string();
        assert!(said.contains("`a/x/y`"), "{said}");
    }
}
