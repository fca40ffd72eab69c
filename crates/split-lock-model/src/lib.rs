//! How Linux treats x86 split locks.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod explain;
pub mod figure;
pub mod handler;
pub mod kernel;
pub mod machine;
pub mod policy;
pub mod sim;
pub mod time;
pub mod trace;
