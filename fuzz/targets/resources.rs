//! See `tortie_fuzz::resources`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tortie_fuzz::resources::check(bytes));
