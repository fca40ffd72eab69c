//! What a Linux machine says about its split-lock detection, and what its kernel's [`log`] says about split locks.
//!
//! Everything is read below a [`Root`], so that a captured machine is as good as a live one.
//!
//! ```
//! let facts = split_lock_host::Facts::live()?;
//! println!("{}", facts.detection());
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod detection;
mod facts;
pub mod log;
mod root;
mod seen;
pub mod who;

pub use detection::Detection;
pub use facts::{Facts, Kvm, Os};
pub use root::{MOST_BYTES, MOST_NAMES, Root};
pub use seen::{Fact, Seen};
