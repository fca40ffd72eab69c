//! The CPU in software that detects split locks: getting its source, building it.

pub(crate) mod build;
pub(crate) mod source;
