//! Run a KVM vCPU until a deadline, whatever the guest does.
//!
//! Intel's VMX preemption timer bounds how long a guest runs before it hands control back. This
//! crate does the same from user space, for any VMM that is built on [`kvm_ioctls::VcpuFd`], on
//! any KVM.
//!
//! ```no_run
//! # fn device_write(_port: u16, _data: &[u8]) {}
//! # fn example(vcpu: kvm_ioctls::VcpuFd) -> Result<(), kvm_preemption_timer::Error> {
//! use kvm_ioctls::VcpuExit;
//! use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
//! use std::time::Duration;
//!
//! // On the thread that runs the vCPU.
//! let mut vcpu = PreemptibleVcpu::new(vcpu)?;
//! let deadline = Deadline::after(Duration::from_millis(1));
//! loop {
//!     match vcpu.run_until(deadline)? {
//!         Outcome::Exit(VcpuExit::IoOut(port, data)) => device_write(port, data),
//!         Outcome::Exit(exit) => panic!("unexpected exit: {exit:?}"),
//!         Outcome::Expired(expiry) => {
//!             println!("1 ms is over, and {:?} more", expiry.overshoot);
//!             break;
//!         }
//!         Outcome::Kicked => break,
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//! - A run never ends early: [`Outcome::Expired`] means that the deadline has passed on its clock.
//! - A run always ends: no interleaving of signals, exits and deadlines leaves the guest running
//!   past its deadline (plus the kernel's wake-up latency).
//! - A [`Kicker`] is never lost, also just before KVM_RUN and while no run is active.
//! - A guest exit neither ends nor prolongs the budget, and going back in is one system call.
//! - Interruptions that nobody asked for never reach the caller.
//!
//! # How it works
//! A POSIX timer with an absolute expiry signals the vCPU's thread. With
//! [`Mechanism::MaskedSignal`] the thread keeps that signal blocked, and KVM unblocks it only while
//! the guest runs; a signal that comes earlier stays pending and ends the next KVM_RUN at once. With
//! [`Mechanism::ImmediateExit`] a handler sets a flag that KVM looks at before it enters the guest.
//! Either way the clock decides what an interruption means, not the signal.
//!
//! # What it does not do
//! It bounds the time between entering the guest and coming back, not the kernel's latency on the
//! way: measure the overshoot with `cargo bench`. Linux's split-lock mitigation sleeps inside
//! KVM_RUN, and a deadline shorter than that sleep means that the guest never gets past the
//! instruction; a budget of [`ThreadCpuTime`] does not have that problem, because its clock stands
//! still meanwhile.

mod binding;
mod config;
mod deadline_timer;
mod delivery;
mod error;
mod interruption;
mod kicker;
#[cfg(feature = "kvm-ioctls")]
mod open;
mod periodic;
mod reasons;
mod reservation;
#[cfg(feature = "kvm-ioctls")]
mod run;
mod signal;
mod signal_set;
mod sys;
mod time;
#[cfg(feature = "kvm-ioctls")]
mod vcpu;

pub use binding::VcpuBinding;
pub use config::{Config, Mechanism};
pub use error::{Error, KickError};
pub use interruption::{Expiry, Interruption};
pub use kicker::Kicker;
#[cfg(feature = "kvm-ioctls")]
pub use open::{open_kvm, open_kvm_at};
pub use periodic::PeriodicDeadlines;
pub use reasons::KickReasons;
#[cfg(feature = "kvm-ioctls")]
pub use run::RunEnd;
pub use signal::{Signal, UnusableSignal};
pub use signal_set::SignalSet;
pub use time::{Deadline, MonotonicTime, ThreadCpuTime};
#[cfg(feature = "kvm-ioctls")]
pub use vcpu::{Outcome, PreemptibleVcpu};
