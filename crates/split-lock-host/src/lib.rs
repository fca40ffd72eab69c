//! What a Linux machine says about its split-lock detection, and what its kernel's log says about split locks.
//!
//! Everything is read below a [`Root`], so that a captured machine is as good as a live one.
//!
//! ```
//! let facts = split_lock_host::Facts::live()?;
//! println!("{}", facts.detection());
//! # Ok::<(), std::io::Error>(())
//! ```

mod capture;
mod checkup;
mod detection;
mod facts;
mod fix;
mod history;
mod mode;
mod root;
mod seen;
mod verdict;
pub mod who;

pub use capture::{Capture, LogCopy};
pub use checkup::{Checkup, Concerned, Met, Witness};
pub use detection::Detection;
pub use facts::{Facts, Kvm, Os};
pub use fix::{BootLoader, Fix, Lasts, Place, Step};
pub use history::{Events, History};
pub use mode::Mode;
pub use root::{MOST_BYTES, MOST_NAMES, Root};
pub use seen::{Fact, Seen};
pub use verdict::{Answer, Basis, Condition, Cost, LogOnly, Off, Span, Unable, Verdict};
