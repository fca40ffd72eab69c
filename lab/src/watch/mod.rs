//! What `splitlock watch` says while the kernel punishes, held against the kernel's own trace of what it did.
//!
//! The program runs in the machine beside others that split locks: they begin after it and end before it. So each trap of
//! the trace is one that it must have seen, and it can have seen no other.

mod judge;
mod line;
mod thread_stats;

pub use judge::{Expected, WatchMode, WatchReport, judge};
pub use thread_stats::{END_PROBES, TRAP_PROBES, ThreadStats, is_whole, thread_stats};
