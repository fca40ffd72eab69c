//! Any bytes as a host's files: no panic. The checks are those of `cargo test`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/split-lock-host/tests/common/any_host.rs"]
mod any_host;

fuzz_target!(|files: &[u8]| any_host::check(files));
