#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| runpack_fuzz::pack(input));
