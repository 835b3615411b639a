//! See `tortie_fuzz::datapath`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tortie_fuzz::datapath::check(bytes));
