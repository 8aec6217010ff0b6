//! Other clocks for programs.

use std::{fs, path::PathBuf};

/// Debian's library that shows a process another wall clock; `None`: it is not installed.
#[must_use]
pub fn faketime() -> Option<PathBuf> {
    let dirs = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut files = dirs.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file())
}
