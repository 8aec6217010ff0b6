//! Files by their path.

use std::borrow::Cow;

use bytes::Bytes;

/// One file of the console.
#[derive(Clone, Debug)]
pub struct File {
    /// The file.
    pub bytes: Bytes,
    /// The same in brotli, where that is smaller.
    pub brotli: Option<Bytes>,
    /// Its media type.
    pub content_type: Cow<'static, str>,
    /// A strong validator, 24 hex digits, without quotes.
    pub etag: String,
    /// Its name holds a hash of its content: it never changes.
    pub immutable: bool,
}

pub(crate) struct Embedded {
    path: &'static str,
    etag: &'static str,
    bytes: &'static [u8],
    brotli: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Whether this build holds the console.
#[must_use]
pub fn is_built() -> bool {
    !FILES.is_empty()
}

/// The file at a path without leading slash; `index.html` is the shell of every page.
#[must_use]
pub fn get(path: &str) -> Option<File> {
    // Sorted by the build script.
    let place = FILES.binary_search_by(|file| file.path.cmp(path)).ok()?;
    let file = &FILES[place];
    Some(File {
        bytes: Bytes::from_static(file.bytes),
        brotli: file.brotli.map(Bytes::from_static),
        content_type: Cow::Borrowed(content_type(path)),
        etag: file.etag.to_owned(),
        immutable: path.starts_with("assets/"),
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "woff2" => "font/woff2",
        "png" => "image/png",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_and_nothing_else() {
        for file in FILES {
            let found = get(file.path).expect("listed");
            assert_eq!(found.bytes, file.bytes);
            assert_eq!(found.etag.len(), 24);
            assert_ne!(found.content_type, "application/octet-stream", "{}", file.path);
            assert!(found.brotli.is_none_or(|b| b.len() < found.bytes.len()));
        }
        assert!(get("").is_none());
        assert!(get("../Cargo.toml").is_none());
        assert!(get("index.html.br").is_none());
        assert_eq!(get("index.html").is_some(), is_built());
    }

    #[test]
    fn the_shell_has_no_inline_script_and_names_only_embedded_files() {
        let Some(shell) = get("index.html") else { return };
        let html = std::str::from_utf8(&shell.bytes).expect("UTF-8");
        assert!(!shell.immutable);
        for tag in html.split("<script").skip(1) {
            let (attributes, body) = tag.split_once('>').expect("closed");
            assert!(attributes.contains("src=\""), "a script without src");
            assert!(body.starts_with("</script>"), "a script with a body");
        }
        for name in html.split(['"']).filter(|part| part.starts_with('/')) {
            assert!(get(&name[1..]).is_some(), "{name} is not embedded");
        }
    }
}
