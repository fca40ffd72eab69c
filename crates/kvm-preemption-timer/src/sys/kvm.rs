//! A vCPU by its descriptor: its signal mask, and the page through which it is run.

#![expect(unsafe_code, reason = "ioctl and mmap have no safe interface in std")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::{Error, SignalSet};

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
pub(crate) fn set_signal_mask(vcpu: BorrowedFd<'_>, mask: Option<SignalSet>) -> Result<(), Error> {
    let mask = mask.map(|set| KvmSignalMask {
        len: 8,
        sigset: set.bits().to_ne_bytes(),
    });
    let argument = mask.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the argument is null, which the call allows, or points to `len` bytes of signal set
    // after their length; the kernel copies them.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, argument) };
    Error::check(result, "KVM_SET_SIGNAL_MASK", "the vCPU")
}

/// Our own mapping of the page through which KVM and user space talk about one vCPU.
///
/// The VMM has references into its own mapping of the same page (`kvm_ioctls` hands out exclusive
/// ones), so nobody else may write there, least of all a signal handler. A second mapping lies at
/// other addresses: what is written through it reaches KVM, and no reference of anybody covers it.
#[derive(Debug)]
pub(crate) struct RunPage(NonNull<AtomicU8>);

/// Where `immediate_exit` lies in struct kvm_run of the kernel's API.
const IMMEDIATE_EXIT_OFFSET: usize = 1;

/// Our bit in that byte: KVM only asks whether the byte is zero, and VMMs write 0 or 1.
const OUR_REQUEST: u8 = 1 << 7;

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

    /// Makes KVM_RUN finish pending I/O and come back at once, until this is withdrawn.
    pub(crate) fn request_exit(&self) {
        self.byte().fetch_or(OUR_REQUEST, Ordering::SeqCst);
    }

    /// Takes our request back, and leaves everybody else's.
    pub(crate) fn withdraw_exit_request(&self) {
        self.byte().fetch_and(!OUR_REQUEST, Ordering::SeqCst);
    }

    #[cfg(feature = "kvm-ioctls")]
    pub(crate) fn withdraw_exit_requests_of_others(&self) {
        self.byte().fetch_and(OUR_REQUEST, Ordering::SeqCst);
    }

    /// As somebody else does it.
    #[cfg(test)]
    pub(crate) fn request_exit_as(&self, value: u8) {
        self.byte().store(value, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(crate) fn immediate_exit(&self) -> u8 {
        self.byte().load(Ordering::SeqCst)
    }

    fn byte(&self) -> &AtomicU8 {
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
