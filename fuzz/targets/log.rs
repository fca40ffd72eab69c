//! Any bytes as a log: no panic, and no difference in how they come. The checks are those of `cargo test`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/split-lock-log/tests/parser/anything.rs"]
mod anything;

fuzz_target!(|log: &[u8]| anything::check(log));
