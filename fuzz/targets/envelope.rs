#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mcphub_fuzz::envelope::check(bytes));
