//! Opening KVM, and finding out early what it cannot do.

use std::path::Path;

use kvm_ioctls::{Cap, Kvm};
use kvm_preemption_timer::open_kvm_at;

use super::VmError;

/// Where KVM is, on every Linux.
pub const KVM_DEVICE: &str = "/dev/kvm";

const NEEDED: [(Cap, &str, &str); 3] = [
    (
        Cap::UserMemory,
        "KVM_CAP_USER_MEMORY",
        "to give the guest memory",
    ),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID", "to run 64-bit guests"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR", "on Intel CPUs"),
];

/// Opens KVM (usually [`KVM_DEVICE`]) and checks that it can run our guests.
///
/// ```no_run
/// use std::path::Path;
/// use split_lock_repro::vm::{KVM_DEVICE, open_kvm};
///
/// let kvm = open_kvm(Path::new(KVM_DEVICE))?;
/// # Ok::<(), split_lock_repro::vm::VmError>(())
/// ```
///
/// # Errors
/// If there is no KVM, no permission, or something missing in it; each says what to do.
pub fn open_kvm(path: &Path) -> Result<Kvm, VmError> {
    let kvm = open_kvm_at(path)?;
    for (capability, name, purpose) in NEEDED {
        if !kvm.check_extension(capability) {
            return Err(VmError::MissingCapability { name, purpose });
        }
    }
    Ok(kvm)
}
