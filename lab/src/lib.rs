//! What both sides of the lab share: what is to be tried, what the kernel did, and whether the
//! model would have done the same.
//!
//! The lab boots real Linux kernels on a CPU in software that detects split locks, and holds every trap
//! against [`split_lock_model`]. `lab` is the side that fetches, builds, boots and compares; `lab-init`
//! is the first program of the machine that is booted.
//!
//! * [`plan`]: experiments, as data that goes into the machine.
//! * [`cpu`]: the CPU that detects split locks, and what it and the kernel tell of an experiment.
//! * [`journal`]: both as one, event by event.
//! * [`bundle`]: how anything comes out at all.
//! * [`real_mode`]: a guest for the programs in the machine.
//! * [`replay`]: the model led through a journal.
//! * [`watch`]: what `splitlock watch` says, held against a journal.

pub mod bundle;
pub mod cpu;
pub mod journal;
pub mod plan;
pub mod real_mode;
pub mod replay;
mod sys;
pub mod watch;
