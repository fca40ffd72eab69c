//! What the tests of decoding and of emulating share.

#![allow(dead_code, reason = "every test file uses its own part")]

pub(crate) mod anything;
pub(crate) mod encoding;
pub(crate) mod random;
pub(crate) mod world;
