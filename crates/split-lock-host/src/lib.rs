//! What a Linux machine says about its split-lock detection, and what its kernel's log says about split locks.
//!
//! Everything is read below a [`Root`], so that a captured machine is as good as a live one.
//!
//! ```
//! let facts = split_lock_host::Facts::live()?;
//! println!("{}", facts.detection());
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod attribution;
mod capture;
mod condition;
mod detection;
mod diagnosis;
mod facts;
mod fix;
mod history;
mod mode;
mod observed;
mod reported_facts;
mod reports;
mod root;
mod verdict;

pub use capture::{Capture, LogCopy};
pub use condition::{Answer, Basis, Condition, LogOnlyReason, NotApplicableReason, OffReason};
pub use detection::Detection;
pub use diagnosis::{AttributedTraps, Attribution, Diagnosis, LogCollector};
pub use facts::{Facts, Kvm, Os};
pub use fix::{BootLoader, Fix, FixLocation, Persistence, Step};
pub use history::{Events, History, KernelSplitLock};
pub use mode::Mode;
pub use observed::{Fact, Observed};
pub use reports::Reports;
pub use root::{MOST_BYTES, MOST_NAMES, Root};
pub use verdict::{Cost, DurationRange, Verdict};
