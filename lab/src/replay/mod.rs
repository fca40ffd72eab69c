//! The model led through a kernel's journal: told what happened, asked what happens next, and held
//! against what the kernel then did.
//!
//! What the model is told are causes: a trap and its tick, whether a signal was pending, the tick at
//! which an interrupted thread looked at the clock. What is compared are consequences: the tick that
//! a sleep ends at, whether a trap gets past its sleep, who gets the semaphore and when, the tick at
//! which a window closes, and which CPUs detect in between.
//!
//! What is allowed to differ, and why, says [`Allowed`].

mod follow;
mod report;
mod ticks;

pub use follow::replay;
pub use report::{Allowed, Mismatch, Report, TrapRow, Verdict};
pub use ticks::{LATE_TICK_NS, Machine, Ticks, TicksError};
