//! All unsafe code of this crate: memory lent to the VM that breakpoints are tried out in.
#![expect(
    unsafe_code,
    reason = "KVM_SET_USER_MEMORY_REGION takes memory by its address"
)]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::KvmError;

/// A VM and its memory, from physical address 0 on.
#[derive(Debug)]
pub(super) struct LentPages {
    // Closed before the memory is unmapped; a vCPU that outlives it is the owner's to prevent.
    _vm: VmFd,
    memory: GuestMemoryMmap,
}

impl LentPages {
    pub(super) fn new(vm: VmFd, bytes: usize) -> Result<Self, KvmError> {
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]).map_err(no_memory)?;
        let start = memory
            .get_host_address(GuestAddress(0))
            .map_err(no_memory)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: bytes as u64,
            userspace_addr: start.addr() as u64,
        };
        // SAFETY: the guest may write these bytes for as long as its vCPU exists. They are a mapping
        // of their own, reached through vm-memory's volatile accesses only, and the one vCPU is
        // closed before it: `ScratchVm` has its fields in that order.
        let set = unsafe { vm.set_user_memory_region(region) };
        set.map_err(KvmError::on_scratch_vm("KVM_SET_USER_MEMORY_REGION"))?;
        Ok(Self { _vm: vm, memory })
    }

    /// Panics if that is not in it.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        let written = self.memory.write_slice(bytes, GuestAddress(address));
        written.expect("it is written where there is memory");
    }
}

fn no_memory<E>(_: E) -> KvmError {
    const ENOMEM: i32 = 12;
    KvmError::on_scratch_vm("mmap")(kvm_ioctls::Error::new(ENOMEM))
}
