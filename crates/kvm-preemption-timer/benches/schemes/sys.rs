//! The raw system calls that the other schemes consist of.

#![expect(
    unsafe_code,
    reason = "signals and timers have no safe interface in std"
)]

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvm_ioctls::VcpuFd;

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// How often the handler has run.
pub(crate) fn handled_signals() -> u64 {
    HANDLED.load(Ordering::Relaxed)
}

/// A handler that does nothing that forces a vCPU out.
pub(crate) fn install_counting_handler(signal: i32) {
    let handler = count as *const () as libc::sighandler_t;
    // SAFETY: the handler only changes an atomic.
    let before = unsafe { libc::signal(signal, handler) };
    assert_ne!(before, libc::SIG_ERR);
}

fn only(signal: i32) -> libc::sigset_t {
    // SAFETY: a signal set is plain data.
    let mut set = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the set is live.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    set
}

/// Blocks a signal, and returns the thread's mask from before.
pub(crate) fn block(signal: i32) -> libc::sigset_t {
    let mut before = only(signal);
    // SAFETY: both sets are live.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &only(signal), &raw mut before) };
    before
}

/// KVM_SET_SIGNAL_MASK with `mask` less the signal.
pub(crate) fn unblock_in_kvm(vcpu: &VcpuFd, signal: i32, mask: libc::sigset_t) {
    #[repr(C)]
    struct Mask {
        len: u32,
        sigset: [u8; 8],
    }
    // SAFETY: the set is live.
    let member = |n| unsafe { libc::sigismember(&raw const mask, n) } == 1;
    let bits = (1..=64).filter(|&n| n != signal && member(n));
    let bits = bits.fold(0u64, |bits, n| bits | 1 << (n - 1));
    let mask = Mask {
        len: 8,
        sigset: bits.to_ne_bytes(),
    };
    // SAFETY: the argument is a kvm_signal_mask with its 8 bytes of set.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), 0x4004_ae8b, &raw const mask) };
    assert_eq!(result, 0);
}

/// Consumes one pending instance of a blocked signal.
pub(crate) fn drain(signal: i32) {
    let at_once = timespec(Duration::ZERO);
    // SAFETY: both pointers are to live values, and no siginfo is asked for.
    unsafe { libc::sigtimedwait(&only(signal), ptr::null_mut(), &raw const at_once) };
}

/// A relative POSIX timer that signals the calling thread.
pub(crate) struct RawTimer {
    id: libc::timer_t,
    pub(crate) signal: i32,
}

impl RawTimer {
    pub(crate) fn new(signal: i32) -> Self {
        // SAFETY: sigevent is plain data.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: gettid has no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut id = ptr::null_mut();
        let clock = libc::CLOCK_MONOTONIC;
        // SAFETY: both pointers are to live values.
        let result = unsafe { libc::timer_create(clock, &raw mut event, &raw mut id) };
        assert_eq!(result, 0);
        RawTimer { id, signal }
    }

    /// Zero disarms it, as the kernel has it; so the shortest time is a nanosecond.
    pub(crate) fn arm(&self, after: Duration, then_every: Duration) {
        let expiry = itimerspec(after, then_every);
        // SAFETY: the timer exists until drop, and the kernel copies the expiry.
        let result = unsafe { libc::timer_settime(self.id, 0, &raw const expiry, ptr::null_mut()) };
        assert_eq!(result, 0);
    }
}

impl Drop for RawTimer {
    fn drop(&mut self) {
        // SAFETY: ours, and deleted only here.
        unsafe { libc::timer_delete(self.id) };
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(duration.subsec_nanos()),
    }
}

fn itimerspec(after: Duration, then_every: Duration) -> libc::itimerspec {
    let disarm = after.is_zero() && then_every.is_zero();
    let after = if disarm {
        after
    } else {
        after.max(Duration::from_nanos(1))
    };
    libc::itimerspec {
        it_interval: timespec(then_every),
        it_value: timespec(after),
    }
}

/// A thread that signals the one that made it whenever a timerfd expires. It ends with the process.
pub(crate) struct TimerThreadHandle(File);

impl TimerThreadHandle {
    pub(crate) fn new(signal: i32) -> Self {
        // SAFETY: makes a descriptor and touches no memory.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: the descriptor is new, so nobody else owns it.
        let timer = unsafe { File::from_raw_fd(fd) };
        let mut expiries = timer.try_clone().expect("descriptors are left");
        // SAFETY: getpid has no preconditions.
        let process = unsafe { libc::getpid() };
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() };
        std::thread::spawn(move || {
            let mut count = [0; 8];
            while expiries.read_exact(&mut count).is_ok() {
                // SAFETY: the signalled thread is the main thread, which lives as long as this one.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
            }
        });
        TimerThreadHandle(timer)
    }

    pub(crate) fn arm(&self, after: Duration, then_every: Duration) {
        let expiry = itimerspec(after, then_every);
        let fd = self.0.as_raw_fd();
        // SAFETY: the descriptor is a live timerfd, and the kernel copies the expiry.
        let result = unsafe { libc::timerfd_settime(fd, 0, &raw const expiry, ptr::null_mut()) };
        assert_eq!(result, 0);
    }
}
