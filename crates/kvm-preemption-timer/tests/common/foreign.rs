//! What others in the process do with signals, and what the system does not let it do.

#![expect(
    unsafe_code,
    reason = "signals and users of single threads have no safe interface"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, gettid};

extern "C" fn ignore(_: libc::c_int) {}

fn ignore_address() -> libc::sighandler_t {
    ignore as extern "C" fn(libc::c_int) as *const () as libc::sighandler_t
}

/// Installs a handler that does nothing.
pub(crate) fn handle(signal: i32) {
    // SAFETY: a handler that does nothing is async-signal-safe.
    let before = unsafe { libc::signal(signal, ignore_address()) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Has the kernel discard a signal.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: no handler that could be wrong.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Gives a signal its default action.
pub(crate) fn set_default_action(signal: i32) {
    // SAFETY: no handler that could be wrong.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Takes that handler out again, and says whether it was still there.
pub(crate) fn is_still_handled(signal: i32) -> bool {
    // SAFETY: the default action has no handler that could be wrong.
    let before = unsafe { libc::signal(signal, libc::SIG_DFL) };
    before == ignore_address()
}

/// Sends a signal to a thread of this process.
pub(crate) fn send(thread: Pid, signal: i32) {
    let process = Pid::this().as_raw();
    // SAFETY: three integers; a thread that does not exist is an error.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread.as_raw(), signal) };
    assert_eq!(result, 0);
}

/// Consumes what is pending of a signal that the thread blocks, and says whether anything was.
pub(crate) fn consume(signal: i32) -> bool {
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let set = set_of([signal]);
    // SAFETY: both pointers are to live values, and no siginfo is asked for.
    let receive =
        || unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const at_once) };
    let was_pending = receive() == signal;
    while receive() == signal {}
    was_pending
}

fn set_of(signals: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: a signal set is plain data.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: the set is live.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Makes the calling thread block these signals and no others.
pub(crate) fn block_exactly(signals: impl IntoIterator<Item = i32>) {
    let set = set_of(signals);
    // SAFETY: the set is live, and no old one is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
}

/// KVM_SET_SIGNAL_MASK: bit n - 1 stands for signal n.
pub(crate) fn set_kvm_mask(vcpu: BorrowedFd<'_>, signals: u64) {
    #[repr(C)]
    struct Mask {
        len: u32,
        sigset: [u8; 8],
    }
    let mask = Mask {
        len: 8,
        sigset: signals.to_ne_bytes(),
    };
    // SAFETY: the argument is a kvm_signal_mask with its 8 bytes of set.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), 0x4004_ae8b, &raw const mask) };
    assert_eq!(result, 0);
}

/// KVM_RUN, as a VMM with KVM bindings of its own has it.
pub(crate) fn kvm_run(vcpu: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: KVM_RUN takes no argument; it writes to the run page, to which nobody here has a
    // reference.
    match unsafe { libc::ioctl(vcpu.as_raw_fd(), 0xae80, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A vCPU's descriptor, for as long as the vCPU lives.
pub(crate) fn descriptor(vcpu: &kvm_ioctls::VcpuFd) -> BorrowedFd<'_> {
    // SAFETY: a VcpuFd holds its descriptor open for as long as it lives.
    unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }
}

/// A VMM's own mapping of a vCPU's run page. It stays until the process ends.
#[derive(Clone, Copy)]
pub(crate) struct OwnRunPage(&'static AtomicU8);

impl OwnRunPage {
    pub(crate) fn map(vcpu: BorrowedFd<'_>) -> Self {
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, vcpu.as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_SHARED, fd, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        let page = NonNull::new(page).unwrap().cast::<AtomicU8>();
        // SAFETY: `immediate_exit` is the second byte of the page.
        let immediate_exit = unsafe { page.add(1) };
        // SAFETY: the mapping is never removed, and reached by this atomic only.
        OwnRunPage(unsafe { immediate_exit.as_ref() })
    }

    pub(crate) fn set_immediate_exit(self, value: u8) {
        self.0.store(value, Ordering::SeqCst);
    }

    pub(crate) fn immediate_exit(self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Leaves a signal pending for the calling thread.
pub(crate) fn block_and_raise(signal: i32) {
    block(signal);
    // SAFETY: the signal is blocked, so this only makes it pending.
    unsafe { libc::raise(signal) };
}

/// Blocks a signal for the calling thread.
pub(crate) fn block(signal: i32) {
    let set = set_of([signal]);
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

/// Runs `f` in a process that is forked off this one, and asserts that it does not panic.
pub(crate) fn in_a_fork(f: impl FnOnce()) {
    // SAFETY: the caller has no other threads that could hold a lock.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
        nix::unistd::ForkResult::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            // SAFETY: ends the child without running what belongs to its parent.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
    }
}
