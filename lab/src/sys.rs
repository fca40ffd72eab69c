//! Memory that a guest writes to.
#![expect(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION has no safe form")]

use anyhow::Result;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const GUEST_MEMORY: usize = 0x1_0000;

/// Memory at guest address 0, which has to outlive the VM's vCPUs.
pub(crate) fn guest_memory(vm: &VmFd) -> Result<GuestMemoryMmap> {
    let start = GuestAddress(0);
    let memory = GuestMemoryMmap::from_ranges(&[(start, GUEST_MEMORY)])?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: GUEST_MEMORY as u64,
        userspace_addr: memory.get_host_address(start)? as u64,
    };
    // SAFETY: the mapping is as large as the region, and `RealModeVcpu`, the only caller, lends it and its vCPU to nobody for
    // longer than it lives, and drops the vCPU first.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(memory)
}
