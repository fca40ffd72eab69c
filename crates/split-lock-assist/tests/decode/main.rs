//! What instructions are, as far as locks are concerned.

mod categories;
#[path = "../common/mod.rs"]
mod common;
mod looking;
mod properties;
