//! Reads a package. Pure.
//!
//! Invariants: nothing is believed that the archive says of itself, sizes are those that were
//! unpacked; no path leads out of the folder; nothing is unpacked beyond its bounds.

use std::{
    collections::BTreeSet,
    io::{Cursor, Read},
};

use zip::{ZipArchive, read::ZipFile};

use crate::error::PackageError;

/// Largest package, in bytes.
pub const PACKAGE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Files and folders in it.
pub(crate) const ENTRIES_MAX: usize = 1_000;
/// Bytes of all files, unpacked.
pub(crate) const UNPACKED_BYTES_MAX: u64 = 50 * 1024 * 1024;
/// Unpacked to packed; only beyond [`RATIO_FREE_BYTES`], small texts shrink by more.
pub(crate) const RATIO_MAX: u64 = 100;
const RATIO_FREE_BYTES: u64 = 1024 * 1024;
/// Bytes of a path.
pub(crate) const PATH_BYTES_MAX: usize = 255;
/// Bytes of `SKILL.md`.
const TEXT_BYTES_MAX: u64 = 200_000;
/// The file that says what the Skill is.
const MAIN: &str = "SKILL.md";
const FENCE: &str = "---";
/// Kind of a file, in its Unix mode.
const KIND_BITS: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// What a package holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its only top folder.
    pub folder: String,
    /// YAML between the fences of `SKILL.md`; its first line is the file's second.
    pub front: String,
    /// `SKILL.md` below them.
    pub text: String,
}

/// Reads all of a package, and refuses what nobody should unpack: more than 10 MiB, 1,000 files and
/// folders or 50 MiB unpacked, a file of over 1 MiB that grew to 100 times its size, a path of over
/// 255 bytes or one that leads elsewhere, links, encrypted and damaged files, and whatever has not
/// exactly one top folder with `SKILL.md` and its front matter in it.
///
/// # Errors
/// See [`PackageError`]; it names the file.
pub fn read(bytes: &[u8]) -> Result<Package, PackageError> {
    if bytes.len() > PACKAGE_BYTES_MAX {
        return Err(PackageError::TooLarge);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(PackageError::NoZip)?;
    if archive.len() > ENTRIES_MAX {
        return Err(PackageError::TooMany(archive.len()));
    }
    // Of these only the last one would be seen here, and the first one by others.
    if archive.has_duplicate_names() {
        return Err(PackageError::Doubles);
    }
    let (mut seen, mut folders) = (BTreeSet::new(), BTreeSet::new());
    let (mut unpacked, mut main) = (0, None);
    for at in 0..archive.len() {
        let mut entry = archive.by_index_raw(at).map_err(PackageError::NoZip)?;
        let path = checked_path(&entry)?;
        check_kind(&entry, &path)?;
        let (folder, below) = path.split_once('/').unwrap_or((&path, ""));
        if below.is_empty() && !entry.is_dir() {
            return Err(PackageError::Folders(format!("the file `{path}` beside it")));
        }
        folders.insert(folder.to_owned());
        if !seen.insert(path.to_lowercase()) {
            return Err(PackageError::Twice(path));
        }
        let is_main = below == MAIN;
        let is_dir = entry.is_dir();
        drop(entry);
        if is_dir {
            continue;
        }
        entry = archive.by_index(at).map_err(|error| broken(&path, &error))?;
        let kept = unpack(&mut entry, &path, is_main, &mut unpacked)?;
        if is_main {
            main = Some((path, kept));
        }
    }
    let folders: Vec<String> = folders.into_iter().collect();
    let [folder] = &folders[..] else {
        let named = folders.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let named = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
        return Err(PackageError::Folders(named));
    };
    let Some((path, text)) = main else {
        return Err(PackageError::NoMain(format!("{folder}/{MAIN}")));
    };
    let (front, text) =
        split(&text).map_err(|why| PackageError::Main { file: path.clone(), why })?;
    Ok(Package { folder: folder.clone(), front, text })
}

/// The path of an entry without the slash at the end of a folder.
fn checked_path<R: Read>(entry: &ZipFile<'_, R>) -> Result<String, PackageError> {
    let raw = entry.name_raw();
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err(PackageError::Path(String::from_utf8_lossy(raw).into_owned()));
    };
    if name.len() > PATH_BYTES_MAX {
        let short: String = name.chars().take(64).collect();
        return Err(PackageError::LongPath(format!("{short}...")));
    }
    let path = name.strip_suffix('/').unwrap_or(name);
    // `:` is a drive or a stream of Windows; no control character stands in a log.
    let is_odd = |c: char| c == '\\' || c == ':' || c.is_control();
    let is_bad =
        |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(is_odd);
    if path.split('/').any(is_bad) {
        return Err(PackageError::Path(name.escape_debug().to_string()));
    }
    Ok(path.to_owned())
}

fn check_kind<R: Read>(entry: &ZipFile<'_, R>, path: &str) -> Result<(), PackageError> {
    if entry.encrypted() {
        return Err(PackageError::Encrypted(path.to_owned()));
    }
    // Archives made elsewhere than on Unix have no mode, or no kind in it.
    let kind = entry.unix_mode().map_or(0, |mode| mode & KIND_BITS);
    let wanted = if entry.is_dir() { FOLDER } else { REGULAR };
    if kind != 0 && kind != wanted {
        return Err(PackageError::Special(path.to_owned()));
    }
    Ok(())
}

/// Unpacks an entry, to see that it can be; keeps its bytes only if `keep`.
fn unpack<R: Read>(
    entry: &mut ZipFile<'_, R>,
    path: &str,
    keep: bool,
    unpacked: &mut u64,
) -> Result<Vec<u8>, PackageError> {
    let packed = entry.compressed_size();
    let (mut own, mut kept, mut buffer) = (0_u64, Vec::new(), vec![0; 64 * 1024]);
    loop {
        let size = entry.read(&mut buffer).map_err(|error| broken(path, &error))?;
        if size == 0 {
            return Ok(kept);
        }
        own += size as u64;
        *unpacked += size as u64;
        if own > RATIO_FREE_BYTES && own / RATIO_MAX > packed {
            return Err(PackageError::Ratio(path.to_owned()));
        }
        if *unpacked > UNPACKED_BYTES_MAX {
            return Err(PackageError::Unpacked { file: path.to_owned() });
        }
        if keep {
            if own > TEXT_BYTES_MAX {
                let why = "it is larger than 200,000 bytes";
                return Err(PackageError::Main { file: path.to_owned(), why });
            }
            kept.extend_from_slice(&buffer[..size]);
        }
    }
}

fn broken(path: &str, error: &dyn std::fmt::Display) -> PackageError {
    PackageError::Broken { file: path.to_owned(), why: error.to_string() }
}

/// Front matter and text.
fn split(bytes: &[u8]) -> Result<(String, String), &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A lone CR is a line break of YAML, too.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n');
    if lines.next().map(str::trim_end) != Some(FENCE) {
        return Err("it has no front matter: begin with a line `---`, and end it with another");
    }
    let mut front = Vec::new();
    for line in lines.by_ref() {
        if line.trim_end() == FENCE {
            let text: Vec<&str> = lines.collect();
            return Ok((front.join("\n"), text.join("\n").trim().to_owned()));
        }
        front.push(line);
    }
    Err("its front matter does not end: a line `---` is missing")
}

#[cfg(test)]
mod tests;
