//! What both sides of the lab share: what is to be tried, what the kernel did, and whether the
//! model would have done the same.
//!
//! The lab boots real Linux kernels in a virtual machine, leads stand-in split locks through their
//! own handler, and holds every trap against [`split_lock_model`]. `lab` is the side that fetches,
//! builds, boots and compares; `lab-guest` is the first program of the machine that is booted.
//!
//! * [`plan`]: experiments, as data that goes into the machine.
//! * [`journal`]: the kernel module's events, as they come out.
//! * [`bundle`]: how anything comes out at all.
//! * [`replay`]: the model led through a journal, event by event.
//! * [`cpu`]: the CPU in software that detects split locks.
//! * [`watch`]: what `splitlock watch` says, held against a journal.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod cpu;
pub mod journal;
pub mod plan;
pub mod replay;
pub mod watch;
