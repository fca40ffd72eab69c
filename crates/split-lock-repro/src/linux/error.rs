//! Why there is no Linux guest.

use std::io;
use std::path::PathBuf;

use split_lock_assist::kvm::KvmError;

use crate::vm::{ExitCause, VmError};

/// What was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// A file cannot be read.
    #[error("cannot read the {what} {path}: {source}")]
    File {
        /// What it would be used as.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a kernel, or not one that can be started here.
    #[error("{path} {why}: give a 64-bit bzImage, such as /boot/vmlinuz-*")]
    NoKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        why: String,
    },
    /// Something does not fit into the guest's memory.
    #[error("{what} of {bytes} bytes does not fit into {memory_mib} MiB of guest memory: {advice}")]
    NoRoom {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The guest's memory.
        memory_mib: u64,
        /// What to do next.
        advice: &'static str,
    },
    /// KVM refused a call.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The vCPU cannot be bounded or run.
    #[error(transparent)]
    Run(#[from] kvm_preemption_timer::Error),
    /// KVM refused a call of the guard's.
    #[error(transparent)]
    Guard(#[from] KvmError),
    /// The vCPU cannot go on.
    #[error(
        "unexpected vCPU exit: the Linux guest's vCPU {0}; try another kernel, or look in the host's kernel log"
    )]
    Exit(ExitCause),
}
