//! The memory that a vCPU can reach: its own, and the page that all vCPUs of its VM share.

use std::sync::Arc;

use kvm_ioctls::VmFd;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestMemoryRegion};

use super::{VmError, add_memory};
use crate::layout::{
    MAX_VCPUS, MEMORY_SIZE, PHYSICAL_STRIDE, SHARED_PAGE, SHARED_PAGE_SIZE, SHARED_PHYSICAL,
};
use crate::sys::RegisteredMemory;

/// The slots below are the vCPUs', by number.
const SHARED_SLOT: u32 = MAX_VCPUS as u32;

/// A VM's memory, as one of its vCPUs has it. The VM has a vCPU's own memory for as long as this
/// exists, and the shared page until the last of them and the [`Vm`](super::Vm) are gone, in whichever
/// order that happens.
#[derive(Debug)]
pub(super) struct Memory {
    reachable: GuestMemoryMmap,
    base: u64,
    _own: RegisteredMemory,
    _shared: Arc<RegisteredMemory>,
}

impl Memory {
    /// Fresh memory for vCPU number `vcpu`, all zero.
    pub(super) fn new(
        vm: &Arc<VmFd>,
        vcpu: u64,
        shared: &Arc<RegisteredMemory>,
    ) -> Result<Self, VmError> {
        let (name, base) = (format!("vCPU {vcpu}"), vcpu * PHYSICAL_STRIDE);
        let own = add_memory(vm, vcpu as u32, (&name, &name), base, MEMORY_SIZE)?;
        let mut regions = vec![Arc::clone(own.memory()), Arc::clone(shared.memory())];
        regions.sort_by_key(|region| region.start_addr());
        let reachable = GuestMemoryMmap::from_arc_regions(regions)
            .expect("the shared page is in a hole of a vCPU's memory");
        Ok(Self {
            reachable,
            base,
            _own: own,
            _shared: Arc::clone(shared),
        })
    }

    /// All that the vCPU can reach, by physical address.
    pub(super) fn physical(&self) -> &GuestMemoryMmap {
        &self.reachable
    }

    /// The physical address of its address 0.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The physical address of what the guest finds at its own `address`, as long as it has made no
    /// page tables of its own.
    pub(super) fn at(&self, address: u64) -> GuestAddress {
        if (SHARED_PAGE..SHARED_PAGE + SHARED_PAGE_SIZE).contains(&address) {
            return GuestAddress(address - SHARED_PAGE + SHARED_PHYSICAL);
        }
        GuestAddress(self.base.saturating_add(address))
    }
}

/// The page that all vCPUs share.
pub(super) fn shared_page(vm: &Arc<VmFd>) -> Result<Arc<RegisteredMemory>, VmError> {
    let names = ("all vCPUs", "the VM");
    add_memory(vm, SHARED_SLOT, names, SHARED_PHYSICAL, SHARED_PAGE_SIZE).map(Arc::new)
}
