//! Run a KVM vCPU until a deadline, whatever the guest does.
//!
//! Intel's VMX preemption timer bounds how long a guest runs before it hands control back. This
//! crate does the same from user space, for any VMM on any KVM.
//!
//! | a VMM | uses | example |
//! |---|---|---|
//! | on [`kvm_ioctls`](https://docs.rs/kvm-ioctls) | [`VcpuBinding`] and its `run_until` (default feature `kvm-ioctls`) | `examples/run_loop.rs` |
//! | with KVM bindings of its own | [`VcpuBinding`] on the vCPU's file descriptor | `examples/descriptor.rs` |
//! | in C | the header and static library of `kvm-preemption-timer-c` | `examples/run_loop.c` there |
//!
//! The vCPU stays where the VMM has it, also in a struct that several threads share:
//!
//! ```no_run
//! # #[cfg(feature = "kvm-ioctls")]
//! # mod vmm {
//! # use std::sync::Mutex;
//! # fn device_write(_port: u16, _data: &[u8]) {}
//! # fn look_at_own_flags() {}
//! use kvm_ioctls::{VcpuExit, VcpuFd};
//! use kvm_preemption_timer::{Deadline, Error, Interruption, KickReasons, RunEnd, VcpuBinding};
//! use std::time::Duration;
//!
//! const STOP: KickReasons = KickReasons::number(0);
//!
//! /// On the thread that runs the vCPU.
//! fn run(vcpu: &Mutex<VcpuFd>) -> Result<(), Error> {
//!     let mut binding = VcpuBinding::of(&vcpu.lock().unwrap())?;
//!     let _for_other_threads = binding.kicker(); // .kick_for(STOP)
//!     let mut deadline = Deadline::after(Duration::from_millis(1));
//!     loop {
//!         match binding.run_until(&mut vcpu.lock().unwrap(), deadline)? {
//!             RunEnd::Exit(VcpuExit::IoOut(port, data)) => device_write(port, data),
//!             RunEnd::Exit(exit) => panic!("unexpected exit: {exit:?}"),
//!             RunEnd::Interrupted(Interruption::Expired(expiry)) => {
//!                 println!("1 ms is over, and {:?} more", expiry.overshoot);
//!                 deadline = Deadline::after(Duration::from_millis(1));
//!             }
//!             RunEnd::Interrupted(Interruption::Kicked(why)) if why.contains(STOP) => return Ok(()),
//!             RunEnd::Interrupted(_) => look_at_own_flags(),
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! # What is promised
//! - A run never expires early: [`Interruption::Expired`] means that the deadline has passed on its
//!   clock.
//! - A run always ends: no interleaving of signals, exits and deadlines leaves the guest running
//!   past its deadline (plus the kernel's wake-up latency).
//! - A [`Kicker`] is never lost, also just before KVM_RUN and while no run is active; kicks and
//!   expiries do not hide each other.
//! - A guest exit neither ends nor prolongs the budget, and going back in is one system call.
//! - What the VMM itself does to interrupt its vCPU (signals, `immediate_exit`, its mask in KVM) has
//!   the effect that it would have otherwise, and is reported as [`Interruption::Other`].
//! - Nothing is left behind: no timer, no descriptor, no handler, no changed mask.
//!
//! # How it works
//! A POSIX timer with an absolute expiry signals the vCPU's thread. With
//! [`Mechanism::ImmediateExit`] a handler sets a bit that KVM looks at before it enters the guest. With
//! [`Mechanism::MaskedSignal`] the thread keeps that signal blocked, and KVM unblocks it only while
//! the guest runs; a signal that comes earlier stays pending and ends the next KVM_RUN at once.
//! Either way the clock decides what an interruption means, not the signal.
//!
//! # System calls
//! What a seccomp filter has to allow on the vCPU's thread, besides KVM_RUN:
//!
//! | when | system calls |
//! |---|---|
//! | binding | mmap, munmap, rt_sigaction, rt_sigpending, rt_sigprocmask, gettid, getpid, timer_create; futex |
//! | a new deadline, or after an interruption | timer_settime, rt_sigprocmask, rt_sigaction, getpid; clock_gettime (not where the kernel offers the vDSO, except for CPU time) |
//! | the first deadline of CPU time, in addition | timer_create, gettid |
//! | dropping | timer_delete, rt_sigprocmask, rt_sigtimedwait, rt_sigaction, getpid, munmap |
//! | with a KVM mask, in addition | fcntl(F_DUPFD_CLOEXEC), ioctl(KVM_SET_SIGNAL_MASK), rt_sigtimedwait, close |
//! | kicking, on the kicker's thread | getpid, tgkill, futex |
//!
//! and rt_sigreturn, which every signal handler needs. There is a KVM mask with
//! [`Mechanism::MaskedSignal`] and with a [`Config::kvm_mask`] that blocks the signal.
//!
//! # What it does not do
//! It bounds the time between entering the guest and coming back, not the kernel's latency on the
//! way: measure the overshoot with `cargo bench`. Linux's split-lock mitigation sleeps inside
//! KVM_RUN, and a deadline shorter than that sleep means that the guest never gets past the
//! instruction; a budget of [`ThreadCpuTime`] does not have that problem, because its clock stands
//! still meanwhile, and `split-lock-assist` gets the guest past it.

// Says on docs.rs what needs which feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

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
