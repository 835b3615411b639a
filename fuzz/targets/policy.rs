//! Any list, members and packets: the compiled program decides as the evaluator, in both forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tortie_fuzz::policy(bytes));
