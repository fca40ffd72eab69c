//! How Linux treats x86 split locks.
#![forbid(unsafe_code)]

pub mod handler;
pub mod kernel;
pub mod machine;
pub mod policy;
pub mod time;
