//! See `tests/fuzz/targets.rs`.
#![no_main]
#![allow(dead_code, missing_docs, reason = "each binary runs one of the targets")]

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::frames(data));
