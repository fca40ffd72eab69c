//! Any bytes as a file, as they are and packed as files are: no panic, bounded time and memory, and the same records from
//! all of it. The checks are those of `cargo test`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/split-lock-log/tests/parser/encoded.rs"]
mod encoded;

fuzz_target!(|file: &[u8]| encoded::check(file));
