//! Fuzz targets: what reads bytes that somebody else wrote must answer, never panic.
//!
//! A target is a function here, so that the ordinary build checks it and an ordinary test
//! runs it over its seeds; `fuzz_targets/` hands it to libFuzzer, and `cargo xtask fuzz`
//! builds and runs that. Seeds are the malformed documents, the public resources and the
//! golden files of other crates: nothing is kept twice.
//!
//! Absences: nothing here is linked into a node.

pub mod documents;
pub mod frames;
pub mod payloads;
pub mod records;
pub mod seeds;
