//! Split-locking guests on real KVM: payloads, the small VM that runs them, and sweeps over the
//! pending timeout. And a program that splits locks under an interval timer.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!(
    "split locks are a matter of x86, and KVM is one of Linux: build for x86_64-*-linux-*"
);

pub mod cpu;
pub mod duration;
pub mod guest;
pub mod host;
mod layout;
pub mod linux;
pub mod program;
pub mod results;
pub mod summary;
pub mod sweep;
mod sys;
pub mod two_tasks;
pub mod vm;
