//! Why there is no VM.

use std::io;
use std::path::PathBuf;

/// What was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// The device does not exist.
    #[error(
        "there is no {}: load the module kvm_intel or kvm_amd, or enable virtualization in the firmware or in the surrounding VM",
        path.display()
    )]
    NoDevice {
        /// The device.
        path: PathBuf,
    },
    /// The device belongs to others.
    #[error("no permission to open {}: join the kvm group (`sudo usermod -aG kvm $USER`, then log in again) or run as root", path.display())]
    NotPermitted {
        /// The device.
        path: PathBuf,
    },
    /// The device cannot be opened for some other reason.
    #[error("cannot open {} for reading and writing: {source}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It answers none of KVM's calls.
    #[error("{} is not a KVM device: that is the character device 10:232, usually /dev/kvm", path.display())]
    NotKvm {
        /// The file.
        path: PathBuf,
    },
    /// A KVM of another age.
    #[error("{} speaks version {found} of KVM's interface and this program version {needed}: use a Linux kernel from 2.6.22 on", path.display())]
    ApiVersion {
        /// The device.
        path: PathBuf,
        /// The version that it has.
        found: i32,
        /// The version that is needed.
        needed: i32,
    },
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
    #[error("cannot map {bytes} bytes of memory for vCPU {vcpu}: {why}")]
    Memory {
        /// The vCPU.
        vcpu: u64,
        /// How much.
        bytes: u64,
        /// What the system said.
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
