//! Any bytes, registers, segments and pages: no panic, nothing written but what was granted, nothing
//! done by half. The checks are those of `cargo test`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/split-lock-assist/tests/common/anything.rs"]
mod anything;
#[path = "../../crates/split-lock-assist/tests/common/world.rs"]
mod world;

fuzz_target!(|input: &[u8]| {
    anything::check(input);
});
