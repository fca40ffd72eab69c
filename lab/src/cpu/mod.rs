//! The CPU in software that detects split locks: what it can be, what it tells, and what the first program of a
//! machine with it has to do.
//!
//! * [`options`]: which CPU it is to be.
//! * [`journal`]: its own account of traps, bus locks and TEST_CTRL.
//! * [`script`]: what `lab-init` does in the machine.
//! * [`trace`]: the kernel's account of the same traps, from its probes.
//! * [`join`]: both accounts as one.
//! * [`windows`]: windows in the journal, and the split locks in them.

pub mod join;
pub mod journal;
pub mod options;
pub mod script;
pub mod trace;
pub mod windows;
