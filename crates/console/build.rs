//! Lists what `npm run build` left in `web/dist`, if it was run.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("no manifest dir")?);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no out dir")?);
    let dist = root.join("web/dist");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        println!("cargo::rerun-if-changed=web/dist");
        walk(&dist, &mut files)?;
        files.sort_by_key(|path| path.display().to_string());
    } else {
        // A path that is not there would make every build start here anew. The console's build
        // touches this file when it is done.
        println!("cargo::rerun-if-changed=web/package.json");
    }
    let mut code = String::from("pub(crate) static FILES: &[Embedded] = &[\n");
    for path in files.iter().filter(|path| path.extension().is_none_or(|e| e != "br")) {
        let brotli = PathBuf::from(format!("{}.br", path.display()));
        write!(
            code,
            "    Embedded {{ path: {:?}, etag: {:?}, bytes: include_bytes!({path:?}), brotli: ",
            name(&dist, path)?,
            etag(&fs::read(path)?)?,
        )?;
        if files.contains(&brotli) {
            writeln!(code, "Some(include_bytes!({brotli:?})) }},")?;
        } else {
            writeln!(code, "None }},")?;
        }
    }
    code.push_str("];\n");
    fs::write(out.join("files.rs"), code)?;
    Ok(())
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The path below `dist`, with slashes.
fn name(dist: &Path, path: &Path) -> Result<String, Box<dyn Error>> {
    let parts: Option<Vec<&str>> =
        path.strip_prefix(dist)?.components().map(|c| c.as_os_str().to_str()).collect();
    Ok(parts.ok_or("a file name is not UTF-8")?.join("/"))
}

fn etag(bytes: &[u8]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for byte in &Sha256::digest(bytes)[..12] {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
