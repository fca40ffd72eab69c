//! All unsafe code of this crate: the assembled payloads, memory registered with KVM, interrupts, the union that carries
//! KVM's internal errors, and a process that splits locks.
#![expect(
    unsafe_code,
    reason = "bytes between linker symbols, KVM_SET_USER_MEMORY_REGION, KVM_INTERRUPT, a C union, fork \
              and handlers of signals have no safe form"
)]

use std::arch::global_asm;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVMIO, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

global_asm!(include_str!("guest/payloads.s"));

/// Functions that return what lies between the symbols `split_lock_repro_NAME` and
/// `split_lock_repro_NAME_end` of the assembly above.
macro_rules! payloads {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("split_lock_repro_", stringify!($name))]
                safe static START: u8;
                #[link_name = concat!("split_lock_repro_", stringify!($name), "_end")]
                safe static END: u8;
            }
            let start = std::ptr::from_ref(&START);
            let length = std::ptr::from_ref(&END).addr() - start.addr();
            // SAFETY: the assembly defines both symbols around initialized bytes of one read-only
            // section, in this order, so that everything between them exists and never changes.
            unsafe { std::slice::from_raw_parts(start, length) }
        })*
    };
}

pub(crate) mod linux_program;
pub(crate) mod program;
pub(crate) mod two_tasks;

payloads! {
    /// `lock bts [rsi], rdi`, counted in RCX.
    locked_bts;
    /// `bts [rsi], rdi`, counted in RCX.
    plain_bts;
    /// `xchg [rsi], rdi`, counted in RCX.
    xchg;
    /// `lock cmpxchg16b [rsi]`, counted in R8.
    cmpxchg16b;
    /// `lock inc [rsi]`, counted in RCX.
    locked_inc;
    /// RBX times round a loop that counts down in RDX, then `lock bts [rsi], rdi`, counted in RCX.
    sparse;
}

/// Memory that a VM may use for as long as this exists, and no longer: a vCPU that outlives it finds
/// no memory there.
#[derive(Debug)]
pub(crate) struct RegisteredMemory {
    vm: Arc<VmFd>,
    slot: u32,
    memory: Arc<GuestRegionMmap>,
}

impl RegisteredMemory {
    /// Lets `vm` see `memory` where it says that it is.
    pub(crate) fn new(
        vm: Arc<VmFd>,
        slot: u32,
        memory: Arc<GuestRegionMmap>,
    ) -> Result<Self, kvm_ioctls::Error> {
        let registered = Self { vm, slot, memory };
        registered.set_region(registered.memory.len())?;
        Ok(registered)
    }

    pub(crate) fn memory(&self) -> &Arc<GuestRegionMmap> {
        &self.memory
    }

    /// A size of zero takes the memory away from the VM.
    fn set_region(&self, memory_size: u64) -> Result<(), kvm_ioctls::Error> {
        let start = self.memory.get_host_address(MemoryRegionAddress(0));
        let region = kvm_userspace_memory_region {
            slot: self.slot,
            flags: 0,
            guest_phys_addr: self.memory.start_addr().0,
            memory_size,
            userspace_addr: start.map_or(0, |start| start.addr() as u64),
        };
        // SAFETY: the guest may write these `memory_size` bytes at any time. They are one mapping of
        // their own, which Rust code reaches through vm-memory's volatile accesses only, and which
        // stays mapped until Drop has taken it away from the VM.
        unsafe { self.vm.set_user_memory_region(region) }
    }
}

impl Drop for RegisteredMemory {
    fn drop(&mut self) {
        if self.set_region(0).is_err() {
            // The guest could still write there, so it must stay mapped for good.
            mem::forget(Arc::clone(&self.memory));
        }
    }
}

/// Makes the guest take the interrupt `vector` when it is entered next, whether it can or not.
pub(crate) fn interrupt(vcpu: &VcpuFd, vector: u8) -> io::Result<()> {
    nix::ioctl_write_ptr!(kvm_interrupt, KVMIO, 0x86, kvm_bindings::kvm_interrupt);
    let vector = kvm_bindings::kvm_interrupt { irq: vector.into() };
    // SAFETY: the descriptor is a vCPU's, so that the number means KVM_INTERRUPT, which reads the
    // structure that it is given and keeps nothing of it.
    unsafe { kvm_interrupt(vcpu.as_raw_fd(), &vector) }?;
    Ok(())
}

/// KVM's number for what went wrong, after an exit of the kind "internal error".
pub(crate) fn internal_error(vcpu: &mut VcpuFd) -> Option<u32> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return None;
    }
    // SAFETY: every bit pattern is a valid `u32`, and the run page is mapped from the kernel, so
    // that all of it is initialized. That this member is the one that counts was checked above.
    Some(unsafe { run.__bindgen_anon_1.internal.suberror })
}
