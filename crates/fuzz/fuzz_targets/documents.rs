//! See `troupe_fuzz::documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| troupe_fuzz::documents::run(bytes));
