//! The web console, embedded: the files that `npm run build` made in `web/`, compiled in.
//!
//! A build without them (no Node, or nobody ran it) works too: then there are no files, and
//! whoever serves says how to get them. Invariants: files under `assets/` hold a hash of their
//! content in their name, so they never change; everything else may, and has to be validated by
//! its `etag`. The page needs no inline script.

mod embedded;

pub use embedded::{File, get, is_built};
