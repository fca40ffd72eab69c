//! What a Linux machine says about its split-lock detection, and what its kernel's [`log`] says about split locks.
//!
//! Facts are read below a root directory, so that a captured machine is as good as a live one.
//!
//! ```
//! let facts = split_lock_host::Facts::read(std::path::Path::new("/"));
//! println!("{}", facts.detection());
//! ```

#![forbid(unsafe_code)]

mod detection;
mod facts;
pub mod log;

pub use detection::Detection;
pub use facts::{Facts, Seen};
