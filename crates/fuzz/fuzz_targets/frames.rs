//! See `troupe_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| troupe_fuzz::frames::run(bytes));
