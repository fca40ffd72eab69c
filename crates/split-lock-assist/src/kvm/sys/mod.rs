//! All unsafe code of this crate: KVM's ioctls, the page that it shares with the VMM, and memory for a VM.
#![expect(
    unsafe_code,
    reason = "KVM takes and gives memory by address, and file descriptors by number"
)]

mod ioctl;
mod memory;
mod run_page;
mod thread;

pub(super) use ioctl::{
    CREATE_VCPU, CREATE_VM, Give, NESTED_STATE, NumberCall, RUN, SET_CPUID, SET_TSS_ADDRESS,
    SUPPORTED_CPUID, calls, extension, number, open,
};
pub(super) use memory::LentPages;
pub(super) use run_page::RunPage;
pub(super) use thread::voluntary_context_switches;

#[cfg(feature = "kvm-ioctls")]
mod borrow {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use super::super::AsKvmFd;

    impl AsKvmFd for kvm_ioctls::VcpuFd {
        fn as_kvm_fd(&self) -> BorrowedFd<'_> {
            // SAFETY: the VcpuFd owns this descriptor and closes it when it is dropped; the answer borrows it.
            unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
        }
    }

    impl AsKvmFd for kvm_ioctls::Kvm {
        fn as_kvm_fd(&self) -> BorrowedFd<'_> {
            // SAFETY: the Kvm owns this descriptor and closes it when it is dropped; the answer borrows it.
            unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
        }
    }
}
