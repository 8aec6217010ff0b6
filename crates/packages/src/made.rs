//! Packages for tests.

use std::io::{Cursor, Write as _};

use zip::{ZipWriter, write::SimpleFileOptions};

/// The least that `SKILL.md` says.
pub(crate) const SKILL: &str = "---\ndescription: counts\n---\n\nCount.\n";

pub(crate) fn zipped(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut zip);
    zip.finish().unwrap().into_inner()
}

/// A ZIP with these files.
pub(crate) fn files(files: &[(&str, &[u8])]) -> Vec<u8> {
    mode(files, &vec![0o644; files.len()])
}

/// The same with a mode each; a path that ends with a slash is a folder.
pub(crate) fn mode(files: &[(&str, &[u8])], modes: &[u32]) -> Vec<u8> {
    zipped(|zip| {
        for ((path, bytes), mode) in files.iter().zip(modes) {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            if path.ends_with('/') {
                zip.add_directory(*path, options).unwrap();
            } else {
                zip.start_file(*path, options).unwrap();
                zip.write_all(bytes).unwrap();
            }
        }
    })
}
