//! See `tortie_fuzz::calc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tortie_fuzz::calc::check(bytes));
