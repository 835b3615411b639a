//! See `tortie_fuzz::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tortie_fuzz::wire::check(bytes));
