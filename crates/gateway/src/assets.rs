//! Where the console's files come from.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

/// One file of the console.
#[derive(Clone, Debug)]
pub struct Asset {
    /// The file.
    pub bytes: Bytes,
    /// The same, compressed at build time.
    pub brotli: Option<Bytes>,
    /// Its media type.
    pub content_type: Cow<'static, str>,
    /// A strong validator, without quotes.
    pub etag: String,
    /// Its name holds a hash of its content: it never changes.
    pub immutable: bool,
}

/// The files of the console.
pub trait Assets: fmt::Debug + Send + Sync + 'static {
    /// The file at a path without leading slash; the shell of the console is `index.html`.
    fn get(&self, path: &str) -> Option<Asset>;

    /// Hashes of the scripts inside `index.html`, as `sha256-..` for the content policy.
    fn script_hashes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A build without console: says how to get one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConsole;

impl Assets for NoConsole {
    fn get(&self, _path: &str) -> Option<Asset> {
        None
    }
}

/// What is shown where the console would be.
pub(crate) const NO_CONSOLE_PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Troupe</title>
<h1>Troupe runs, without its console</h1>
<p>This build holds no console. With Node on the machine, <code>cargo xtask up</code> builds it and
starts the node anew; without the automation: <code>npm ci</code> and <code>npm run build</code> in
<code>crates/console/web</code>, then build and start the node again.</p>
<p>The API works: its description is at <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>,
and the command <code>troupe</code> talks to it.</p>
</html>
";
