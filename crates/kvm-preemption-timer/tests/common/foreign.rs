//! What others in the process do with signals, and what the system does not let it do.

#![expect(
    unsafe_code,
    reason = "signals and users of single threads have no safe interface"
)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, gettid};

extern "C" fn ignore(_: libc::c_int) {}

/// Installs a handler that does nothing.
pub(crate) fn handle(signal: i32) {
    let handler = ignore as extern "C" fn(libc::c_int);
    // SAFETY: a handler that does nothing is async-signal-safe.
    let before = unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Leaves a signal pending for the calling thread.
pub(crate) fn block_and_raise(signal: i32) {
    block(signal);
    // SAFETY: the signal is blocked, so this only makes it pending.
    unsafe { libc::raise(signal) };
}

/// Blocks a signal for the calling thread.
pub(crate) fn block(signal: i32) {
    // SAFETY: a signal set is plain data.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: the set is live, and no old one is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
}

/// Sends the signal to the calling thread over and over. What it returns stops that, and says how
/// often it was sent.
pub(crate) fn signal_this_thread_repeatedly(signal: i32) -> impl FnOnce() -> u64 {
    let (process, thread) = (Pid::this().as_raw(), gettid().as_raw());
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while !seen.load(Ordering::Relaxed) {
            // SAFETY: the thread lives until this one has been joined.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
            sent += 1;
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        sent
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    }
}

/// Runs `f` on a thread that is not root, even if the process is.
pub(crate) fn without_root<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let thread = || {
        // SAFETY: the bare system call changes this thread only; it may fail if it is not root.
        unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) };
        f()
    };
    std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
}

/// Sets this process's limit of queued signals, and so of timers, to none. What it returns brings
/// the old limit back.
pub(crate) fn allow_no_more_queued_signals() -> impl FnOnce() {
    let set = |soft, hard| setrlimit(Resource::RLIMIT_SIGPENDING, soft, hard).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_SIGPENDING).unwrap();
    set(0, hard);
    move || set(soft, hard)
}
