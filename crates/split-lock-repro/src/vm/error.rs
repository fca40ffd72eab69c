//! Why there is no VM.

use std::io;

use crate::guest::Level;

/// What was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// KVM could not be opened.
    #[error(transparent)]
    Open(#[from] kvm_preemption_timer::Error),
    /// KVM lacks something.
    #[error(
        "this KVM lacks {name}, which is needed {purpose}: use a newer kernel, or another hypervisor around this one"
    )]
    MissingCapability {
        /// The capability.
        name: &'static str,
        /// What it would be used for.
        purpose: &'static str,
    },
    /// More vCPUs than one VM can have.
    #[error("a VM can have {limit} vCPUs here and no more: ask for fewer")]
    TooManyVcpus {
        /// How many it can have.
        limit: u64,
    },
    /// No memory for the guest.
    #[error("cannot map {bytes} bytes of memory for {of}: {why}")]
    Memory {
        /// Whose memory it would be.
        of: String,
        /// How much.
        bytes: u64,
        /// What the system said.
        why: String,
    },
    /// A guest's work cannot be measured out.
    #[error(
        "cannot find out how fast a guest at {level} works: {why}; use a guest without a work loop, such as split"
    )]
    Calibration {
        /// The privilege level.
        level: Level,
        /// What went wrong.
        why: String,
    },
    /// KVM refused a call.
    #[error("{call} failed on {on}: {source}; {advice}")]
    Call {
        /// The call, as KVM's documentation names it.
        call: &'static str,
        /// The thing that it was made on.
        on: String,
        /// What KVM said.
        source: io::Error,
        /// What to do next.
        advice: &'static str,
    },
}
