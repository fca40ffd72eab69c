//! The memory that a vCPU can reach: its own, and the page that all vCPUs of its VM share.

use std::sync::Arc;

use kvm_ioctls::VmFd;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::layout::{
    MAX_VCPUS, MEMORY_SIZE, PHYSICAL_STRIDE, SHARED_PAGE, SHARED_PAGE_SIZE, SHARED_PHYSICAL,
};
use super::{REPORT, VmError, failed};
use crate::sys::LentMemory;

/// The slots below are the vCPUs', by number.
const SHARED_SLOT: u32 = MAX_VCPUS as u32;

/// A VM's memory, as one of its vCPUs has it. The VM has a vCPU's own memory for as long as this
/// exists, and the shared page until the last of them and the [`Vm`](super::Vm) are gone, in whichever
/// order that happens.
#[derive(Debug)]
pub(super) struct Memory {
    reachable: GuestMemoryMmap,
    _own: LentMemory,
    _shared: Arc<LentMemory>,
}

impl Memory {
    /// Fresh memory for vCPU number `vcpu`, all zero.
    pub(super) fn new(
        vm: &Arc<VmFd>,
        vcpu: u64,
        shared: &Arc<LentMemory>,
    ) -> Result<Self, VmError> {
        let on = || format!("vCPU {vcpu}");
        let own = region(on(), 0, MEMORY_SIZE)?;
        let regions = vec![Arc::clone(&own), Arc::clone(shared.memory())];
        let reachable = GuestMemoryMmap::from_arc_regions(regions)
            .expect("the first region ends before the second begins");
        let own = LentMemory::new(Arc::clone(vm), vcpu as u32, vcpu * PHYSICAL_STRIDE, own)
            .map_err(failed(SET_REGION, on(), REPORT))?;
        Ok(Self {
            reachable,
            _own: own,
            _shared: Arc::clone(shared),
        })
    }

    /// All that the vCPU can reach, at the guest's own addresses.
    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.reachable
    }
}

/// The page that all vCPUs share.
pub(super) fn shared_page(vm: &Arc<VmFd>) -> Result<Arc<LentMemory>, VmError> {
    let page = region("all vCPUs".into(), SHARED_PAGE, SHARED_PAGE_SIZE)?;
    LentMemory::new(Arc::clone(vm), SHARED_SLOT, SHARED_PHYSICAL, page)
        .map(Arc::new)
        .map_err(failed(SET_REGION, "the VM", REPORT))
}

/// Memory that begins at the guest address `start`.
fn region(of: String, start: u64, bytes: u64) -> Result<Arc<GuestRegionMmap>, VmError> {
    match GuestRegionMmap::from_range(GuestAddress(start), bytes as usize, None) {
        Ok(region) => Ok(Arc::new(region)),
        Err(error) => Err(VmError::Memory {
            of,
            bytes,
            why: error.to_string(),
        }),
    }
}

const SET_REGION: &str = "KVM_SET_USER_MEMORY_REGION";
