//! Running a vCPU of `kvm_ioctls`.

#![expect(unsafe_code, reason = "a borrow that the compiler cannot follow")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_ioctls::{VcpuExit, VcpuFd};

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
