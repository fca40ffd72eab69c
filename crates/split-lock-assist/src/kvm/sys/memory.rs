//! Memory lent to the VM that breakpoints are tried out in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use kvm_bindings::kvm_userspace_memory_region;

use super::{Give, calls};

/// A VM and its memory, from physical address 0 on.
#[derive(Debug)]
pub(in crate::kvm) struct LentPages {
    // Closed before the memory is unmapped; a vCPU that outlives it is the owner's to prevent.
    _vm: OwnedFd,
    start: NonNull<u8>,
    bytes: usize,
}

impl LentPages {
    /// The guest's code has not begun when this returns; `ScratchVm` closes its vCPU before this is dropped.
    pub(in crate::kvm) fn new(vm: OwnedFd, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: bytes as u64,
            userspace_addr: start.addr().get() as u64,
        };
        let lent = calls::SET_MEMORY.make(vm.as_fd(), &region);
        let pages = Self {
            _vm: vm,
            start,
            bytes,
        };
        lent.map(|()| pages)
    }

    /// Before the guest runs. Panics if that is not in it.
    pub(in crate::kvm) fn write(&self, address: u64, bytes: &[u8]) {
        let end = address as usize + bytes.len();
        assert!(end <= self.bytes, "it is written where there is memory");
        let to = self.start.as_ptr().wrapping_add(address as usize);
        // SAFETY: within the mapping, as has just been looked at, and `bytes` is not part of it, because no reference to it
        // is ever made; the guest does not run yet.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
}

impl Drop for LentPages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours. KVM faults on what is no longer mapped, and by then no vCPU runs.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
