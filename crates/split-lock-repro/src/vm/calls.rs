//! KVM's calls that all our VMs make, and what to say if one fails.

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{GuestAddress, GuestRegionMmap};

use super::VmError;
use crate::sys::RegisteredMemory;

/// Three pages that Intel CPUs without "unrestricted guest" need, out of everybody's way.
const REAL_MODE_TSS: usize = 0xfffb_d000;

/// A VM without memory; `name` is for errors.
pub(crate) fn create_vm(kvm: &Kvm, name: &str) -> Result<Arc<VmFd>, VmError> {
    let vm = kvm
        .create_vm()
        .map_err(failed("KVM_CREATE_VM", "KVM", NO_VM))?;
    vm.set_tss_address(REAL_MODE_TSS)
        .map_err(failed("KVM_SET_TSS_ADDR", name, REPORT))?;
    Ok(Arc::new(vm))
}

pub(crate) fn supported_cpuid(kvm: &Kvm) -> Result<CpuId, VmError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed("KVM_GET_SUPPORTED_CPUID", "KVM", REPORT))
}

/// A vCPU whose special registers are what `special` makes of those after a reset.
pub(crate) fn create_vcpu(
    vm: &VmFd,
    number: u64,
    name: &str,
    cpuid: &CpuId,
    special: impl FnOnce(kvm_sregs) -> kvm_sregs,
) -> Result<VcpuFd, VmError> {
    let fd = vm
        .create_vcpu(number)
        .map_err(failed("KVM_CREATE_VCPU", name, NO_VM))?;
    // Before the special registers: KVM checks those against what the CPU is said to have.
    fd.set_cpuid2(cpuid)
        .map_err(failed("KVM_SET_CPUID2", name, REPORT))?;
    let reset = fd
        .get_sregs()
        .map_err(failed("KVM_GET_SREGS", name, REPORT))?;
    fd.set_sregs(&special(reset))
        .map_err(failed("KVM_SET_SREGS", name, REPORT))?;
    Ok(fd)
}

/// Fresh memory, all zero, that begins at the physical address `start`. If that fails, the error says
/// whose memory it would be, or what KVM was asked to add it to.
pub(crate) fn add_memory(
    vm: &Arc<VmFd>,
    slot: u32,
    (of, on): (&str, &str),
    start: u64,
    bytes: u64,
) -> Result<RegisteredMemory, VmError> {
    let region = GuestRegionMmap::from_range(GuestAddress(start), bytes as usize, None);
    let region = region.map_err(|error| VmError::Memory {
        of: of.into(),
        bytes,
        why: error.to_string(),
    })?;
    RegisteredMemory::new(Arc::clone(vm), slot, Arc::new(region)).map_err(failed(
        "KVM_SET_USER_MEMORY_REGION",
        on,
        REPORT,
    ))
}

const NO_VM: &str =
    "look in the kernel log for the reason, and whether another hypervisor holds the CPU";
const FEWER_FILES: &str = "raise `ulimit -n`, or ask for fewer vCPUs or guests at once";
/// "Too many open files", on every Linux.
const EMFILE: i32 = 24;
pub(crate) const REPORT: &str = "please report this with the kernel's version and the CPU's model";

/// Turns KVM's errno into a sentence.
pub(crate) fn failed(
    call: &'static str,
    on: impl Into<String>,
    advice: &'static str,
) -> impl FnOnce(kvm_ioctls::Error) -> VmError {
    let on = on.into();
    move |error| VmError::Call {
        call,
        on,
        advice: match error.errno() {
            EMFILE => FEWER_FILES,
            _ => advice,
        },
        source: error.into(),
    }
}
