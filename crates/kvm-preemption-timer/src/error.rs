//! What can go wrong, and what to do about it.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::Signal;

/// Why a vCPU cannot be bound, or could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The KVM device is not there.
    #[error(
        "cannot open {path}: it does not exist; load kvm_intel or kvm_amd, or, inside a virtual \
         machine, switch on nested virtualization"
    )]
    NoKvm {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The KVM device is there, but not for this user.
    #[error(
        "cannot open {path}: permission denied; join the group that owns it (`usermod -aG kvm \
         $USER`, then log in again) or run as root"
    )]
    KvmPermission {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The KVM device cannot be opened for another reason.
    #[error("cannot open {path} for reading and writing: {source}")]
    OpenKvm {
        /// What was to be opened.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was opened is no KVM device, or one from before 2007.
    #[error("{path} is not a KVM device with API version 12: KVM_GET_API_VERSION gave {found}")]
    KvmApiVersion {
        /// What was opened.
        path: PathBuf,
        /// What it answered; -1 for an error.
        found: i32,
    },
    /// KVM is too old for what is asked of it.
    #[error("KVM lacks {capability}, which {needed_for} needs: use a kernel that has it")]
    MissingCapability {
        /// The capability's name in the kernel's API.
        capability: &'static str,
        /// What cannot be done without it.
        needed_for: &'static str,
    },
    /// Another vCPU on the same thread has the signal already.
    #[error(
        "{signal} already bounds another vCPU on this thread; choose another signal or another \
         thread for this one"
    )]
    SignalTaken {
        /// The signal.
        signal: Signal,
    },
    /// Another part of the process handles the signal.
    #[error(
        "{signal} already has a handler in this process, so somebody else uses it; choose another \
         signal"
    )]
    SignalHandled {
        /// The signal.
        signal: Signal,
    },
    /// The signal is pending, so somebody else has sent it.
    #[error(
        "{signal} is already pending on this thread, so somebody else uses it; choose another \
         signal"
    )]
    SignalPending {
        /// The signal.
        signal: Signal,
    },
    /// No more timers.
    #[error(
        "timer_create on {clock} failed: this user's limit of timers and queued signals is \
         reached; raise RLIMIT_SIGPENDING (`ulimit -i`)"
    )]
    TimerLimit {
        /// The clock that the timer was to run on.
        clock: &'static str,
    },
    /// This process was forked off the one that bound the vCPU.
    #[error(
        "this process was forked off the one that bound the vCPU, which alone can run it: drop the \
         binding here"
    )]
    Forked,
    /// A run of another vCPU than the one that is bound.
    #[error(
        "the vCPU with descriptor {given} was to be run, but the thread is bound to the one with \
         descriptor {bound}: each vCPU has a binding of its own"
    )]
    OtherVcpu {
        /// The descriptor of the vCPU that is bound.
        bound: RawFd,
        /// The descriptor of the one that was to be run.
        given: RawFd,
    },
    /// A system call failed that usually does not.
    #[error("{call} on {target} failed: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// What it was to act on.
        target: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// KVM_RUN failed for another reason than an interruption.
    #[error(
        "KVM_RUN failed: {source}; the vCPU cannot go on as it is (look at its registers and at \
         the kernel log)"
    )]
    Run {
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What the calling thread's last system call has failed with.
    pub(crate) fn last_os_error(call: &'static str, target: &'static str) -> Self {
        Error::System {
            call,
            target,
            source: io::Error::last_os_error(),
        }
    }

    /// Of a call that returns 0 or fails with errno.
    pub(crate) fn check(result: i32, call: &'static str, target: &'static str) -> Result<(), Self> {
        match result {
            0 => Ok(()),
            _ => Err(Self::last_os_error(call, target)),
        }
    }
}

/// Why a vCPU could not be kicked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KickError {
    /// There is nothing to force out any more: its [`VcpuBinding`](crate::VcpuBinding) has been
    /// dropped, or its thread has ended.
    #[error("the vCPU is not bound to a thread any more")]
    Gone,
    /// This process was forked off the one that bound the vCPU.
    #[error("this process was forked off the one that bound the vCPU: kick it from there")]
    Forked,
    /// The signal could not be sent. Only a real-time signal can be refused, with EAGAIN, when the
    /// user's limit of queued signals is reached.
    #[error(
        "tgkill with {signal} failed: {source}; use a standard signal, or raise RLIMIT_SIGPENDING \
         (`ulimit -i`)"
    )]
    NotSent {
        /// The signal.
        signal: Signal,
        /// What the kernel said.
        source: io::Error,
    },
}
