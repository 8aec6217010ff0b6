//! The embedded console, as the gateway serves it.

use troupe_gateway::{Asset, Assets};

/// The console that was built into this binary, if it was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Embedded;

impl Assets for Embedded {
    fn get(&self, path: &str) -> Option<Asset> {
        let found = troupe_console::get(path)?;
        Some(Asset {
            bytes: found.bytes,
            brotli: found.brotli,
            content_type: found.content_type,
            etag: found.etag,
            immutable: found.immutable,
        })
    }
}
