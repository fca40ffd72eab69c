//! System calls with numbers only.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::c_int;

/// What a system call has failed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    pub(crate) const EINTR: Self = Self(libc::EINTR);

    pub(super) fn last() -> Self {
        ErrnoCell::of_this_thread().get()
    }
}

/// Where this thread's errno is.
pub(super) struct ErrnoCell(*mut c_int);

impl ErrnoCell {
    pub(super) fn of_this_thread() -> Self {
        // SAFETY: takes nothing.
        Self(unsafe { libc::__errno_location() })
    }

    pub(super) fn get(&self) -> Errno {
        // SAFETY: the address is that of this thread's errno, which is there for as long as the thread; and this is no
        // value that another thread could have, as a pointer is not Send.
        Errno(unsafe { *self.0 })
    }

    pub(super) fn set(&self, errno: Errno) {
        // SAFETY: as in `get`.
        unsafe { *self.0 = errno.0 };
    }
}

/// A thread, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId(pub(crate) i32);

pub(crate) fn thread_id() -> ThreadId {
    // SAFETY: takes nothing and cannot fail.
    ThreadId(unsafe { libc::gettid() })
}

pub(crate) fn process_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// CPU time of another thread of this process. `None` if it has ended.
pub(crate) fn thread_cpu_time(thread: ThreadId) -> Option<Duration> {
    /// The kernel's CPUCLOCK_SCHED of one thread.
    const OF_A_THREAD: i32 = 4 | 2;
    let clock = !thread.0 << 3 | OF_A_THREAD;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the kernel writes a timespec, for which there is room.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so it was written.
    let time = unsafe { time.assume_init() };
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Whether a number stands for the very file that `ours` does. `None` if this kernel, or a filter, does not tell.
pub(crate) fn same_file(number: RawFd, ours: BorrowedFd<'_>) -> Option<bool> {
    const KCMP_FILE: c_int = 0;
    let pid = process_id();
    // SAFETY: takes numbers only; a number that stands for no file is an error.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid,
            pid,
            KCMP_FILE,
            number,
            ours.as_raw_fd(),
        )
    };
    match result {
        0 => Some(true),
        1.. => Some(false),
        _ if Errno::last().0 == libc::EBADF => Some(false),
        _ => None,
    }
}

pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// The same file under a number of our own: a high one, because programs expect the low ones in their order.
pub(crate) fn duplicate(number: RawFd) -> Option<OwnedFd> {
    /// Below what most limits are.
    const HIGH: c_int = 512;
    [HIGH, 3].into_iter().find_map(|from| {
        // SAFETY: takes numbers only.
        let made = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, from) };
        // SAFETY: the descriptor is new, and nobody else's.
        (made >= 0).then(|| unsafe { OwnedFd::from_raw_fd(made) })
    })
}

/// Whether there is a file of this name, and it is a device.
pub(crate) fn has_character_device_at(path: &CStr) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends in a zero, and there is room for a stat.
    if unsafe { libc::stat(path.as_ptr(), status.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call has succeeded, so it was written.
    let status = unsafe { status.assume_init() };
    status.st_mode & libc::S_IFMT == libc::S_IFCHR
}
