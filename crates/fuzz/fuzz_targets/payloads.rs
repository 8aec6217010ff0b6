//! See `troupe_fuzz::payloads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| troupe_fuzz::payloads::run(bytes));
