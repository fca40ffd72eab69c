//! What the kernel could do instead: alternatives to the handler's rules, and what each gives and takes.

mod alternatives;
mod compare;

pub use alternatives::Alternative;
pub use compare::{Assessment, CompareError, Comparison, Progress};
