//! KVM's ioctls that `kvm_ioctls` does not wrap, and running a vCPU.

#![expect(unsafe_code, reason = "ioctl and mmap have no safe interface in std")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU8;

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::signal::KernelSigset;
use crate::Error;

/// _IOW(KVMIO, 0x8b, struct kvm_signal_mask), whose flexible array does not count.
const KVM_SET_SIGNAL_MASK: libc::Ioctl = 0x4004_ae8b;

/// struct kvm_signal_mask of the kernel's API.
#[repr(C)]
struct KvmSignalMask {
    len: u32,
    /// The kernel's own set, 8 bytes, without alignment.
    sigset: [u8; 8],
}

/// Sets the signals that are blocked while this vCPU runs; `None` leaves the thread's own mask in
/// force there.
pub(crate) fn set_signal_mask(
    vcpu: BorrowedFd<'_>,
    mask: Option<KernelSigset>,
) -> Result<(), Error> {
    let mask = mask.map(|set| KvmSignalMask {
        len: 8,
        sigset: set.0.to_ne_bytes(),
    });
    let argument = mask.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the argument is null, which the call allows, or points to `len` bytes of signal set
    // after their length; the kernel copies them.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, argument) };
    Error::check(result, "KVM_SET_SIGNAL_MASK", "the vCPU")
}

pub(crate) fn borrow_fd(vcpu: &VcpuFd) -> BorrowedFd<'_> {
    // SAFETY: a VcpuFd holds its descriptor open for as long as it lives.
    unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }
}

/// Runs the vCPU. When there is no exit, the vCPU comes back beside the error: what `kvm_ioctls`
/// borrows from it, it borrows only for an exit.
pub(crate) fn enter(vcpu: &mut VcpuFd) -> Result<VcpuExit<'_>, (io::Error, &mut VcpuFd)> {
    let vcpu: *mut VcpuFd = vcpu;
    // SAFETY: the pointer comes from the exclusive borrow that this function was given, and is the
    // only way to the vCPU here. The borrow checker cannot see that the two arms below never both
    // hold it: an exit keeps the borrow, an error has given it back.
    match unsafe { &mut *vcpu }.run() {
        Ok(exit) => Ok(exit),
        // SAFETY: as above; the error borrows nothing.
        Err(error) => Err((error.into(), unsafe { &mut *vcpu })),
    }
}

/// Our own mapping of the page through which KVM and user space talk about one vCPU.
///
/// `kvm_ioctls` hands out exclusive references into its mapping of the same page, so nobody else
/// may write there, least of all a signal handler. A second mapping lies at other addresses: what
/// is written through it reaches KVM, and no reference of anybody covers it.
#[derive(Debug)]
pub(crate) struct RunPage(NonNull<AtomicU8>);

/// Where `immediate_exit` lies in struct kvm_run of the kernel's API.
const IMMEDIATE_EXIT_OFFSET: usize = 1;

/// One page: what every KVM lets user space map.
const MAPPED_BYTES: usize = 4096;

impl RunPage {
    pub(crate) fn map(vcpu: BorrowedFd<'_>) -> Result<Self, Error> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                MAPPED_BYTES,
                protection,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address) {
            Some(page) if address != libc::MAP_FAILED => Ok(RunPage(page.cast())),
            _ => Err(Error::last_os_error("mmap", "the vCPU's run page")),
        }
    }

    /// While this is not zero, KVM_RUN finishes pending I/O and comes back at once.
    pub(crate) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the offset lies within the mapped page.
        let byte = unsafe { self.0.add(IMMEDIATE_EXIT_OFFSET) };
        // SAFETY: the page stays mapped for as long as `self` lives, and this mapping of it is
        // reached by this atomic only.
        unsafe { byte.as_ref() }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), MAPPED_BYTES) };
    }
}
