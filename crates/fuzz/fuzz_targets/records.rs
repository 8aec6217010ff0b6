//! See `troupe_fuzz::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| troupe_fuzz::records::run(bytes));
