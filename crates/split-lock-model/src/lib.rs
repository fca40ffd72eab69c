//! How Linux treats x86 split locks: per kernel, event by event, simulated, and computed.
//!
//! A split lock is a locked access that crosses a cache line. Kernels since 5.19 punish the thread
//! that executes one with a sleep and a turn at a machine-wide semaphore before they let the
//! instruction complete; and if a signal interrupts either, the instruction traps again, from the
//! beginning. A VMM whose timer is shorter than the sleep never gets its guest past it.
//!
//! * [`kernel`]: what a given kernel does, as features. Made from a release or a distribution name.
//! * [`handler`]: the kernel's handler as a state machine without I/O, for drivers on any clock.
//! * [`policy`]: what the kernel could do instead, as other rules of that handler, and a comparison.
//! * [`sim`]: a deterministic simulator of CPUs, threads and timers around it.
//! * [`analysis`]: thresholds and throughput in closed form, derived from the kernel's rules.
//! * [`progress`]: turns per pending timeout.
//! * [`explain`]: verdicts in words. [`trace`]: timelines for Perfetto.
//! * [`machine`] and [`time`]: CPUs, ticks and nanoseconds. [`random`]: the same numbers everywhere.
//!
//! Nothing here reads a clock, starts a thread or asks the operating system anything, and nothing
//! is fitted to a measurement: predictions follow from the kernel's rules and from stated costs.
//!
//! ```
//! use split_lock_model::analysis::Thresholds;
//! use split_lock_model::kernel::Profile;
//! use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec, simulate};
//! use split_lock_model::time::Nanos;
//!
//! let kernel: Profile = "debian-12".parse()?;
//! let guest = Program::split_loop(Nanos(500))?;
//! let quantum = Budget::Relative(Nanos::from_millis(1));
//! let report = simulate(&kernel, &Scenario::single(TaskSpec::vcpu(guest, quantum)))?;
//! assert!(report.verdict().is_livelock());
//!
//! let limits = Thresholds::of(&kernel).expect("this kernel makes threads sleep");
//! assert_eq!(limits.always_from(), Nanos::from_millis(16));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod analysis;
pub mod explain;
pub mod handler;
pub mod kernel;
pub mod machine;
pub mod policy;
pub mod progress;
pub mod random;
pub mod sim;
pub mod time;
pub mod trace;
