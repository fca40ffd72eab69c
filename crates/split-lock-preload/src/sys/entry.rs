//! Where the program comes in.

use std::os::fd::RawFd;

use libc::{c_int, c_ulong, c_void};

use super::calls::{Errno, ErrnoCell};
use super::thread::Thread;
use crate::request;

/// What is called meanwhile on this thread goes straight to the kernel.
pub(crate) fn while_busy<T>(act: impl FnOnce() -> T) -> T {
    Thread::current().while_busy(act)
}

/// The system call. It changes errno.
pub(crate) fn raw_ioctl(fd: RawFd, request: c_ulong, argument: usize) -> Result<c_int, Errno> {
    // SAFETY: these are the arguments that somebody gave to `ioctl`, who answers for them, or a copy of what they pointed
    // to. The C library's function does the same system call.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) };
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result as c_int)
    }
}

/// Takes the place of the C library's `ioctl`, whose third argument may be left out: it is read all the same, which on
/// x86-64 is the register that the caller would have put it into, and the kernel ignores it where it means nothing.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code, reason = "a test program keeps its own"))]
pub(super) extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let argument = argument.expose_provenance();
    let errno = ErrnoCell::of_this_thread();
    let before = errno.get();
    let thread = request::is_of_kvm(request).then(Thread::current);
    let result = match thread.filter(|thread| !thread.is_busy()) {
        Some(thread) => thread.while_busy(|| crate::interpose::call(thread, fd, request, argument)),
        None => raw_ioctl(fd, request, argument),
    };
    let (value, after) = match result {
        Ok(value) => (value, before),
        Err(error) => (-1, error),
    };
    errno.set(after);
    value
}

/// The C library calls it when the program ends.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = {
    extern "C" fn at_exit() {
        while_busy(crate::interpose::at_exit);
    }
    at_exit
};
