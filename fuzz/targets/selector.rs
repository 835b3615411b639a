//! See `tortie_fuzz::selector`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tortie_fuzz::selector::check(bytes));
