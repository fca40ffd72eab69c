//! Signals of a thread: its mask, sending, and consuming what is pending.

#![expect(unsafe_code, reason = "signals have no safe interface in std")]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::check_errno;
use crate::{Error, Signal, SignalSet};

/// A process, to tell it from those that are forked off it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(libc::pid_t);

impl Process {
    pub(crate) fn current() -> Self {
        // SAFETY: getpid has no preconditions.
        Process(unsafe { libc::getpid() })
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

/// The kernel's id of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tid(pub(crate) libc::pid_t);

pub(crate) fn current_tid() -> Tid {
    // SAFETY: gettid has no preconditions.
    Tid(unsafe { libc::gettid() })
}

/// Sends `signal` to a thread of `process`.
pub(crate) fn send_signal(process: Process, to: Tid, signal: Signal) -> io::Result<()> {
    // SAFETY: tgkill takes three integers; a thread that does not exist is an error.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process.0, to.0, signal.number()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn from_libc(set: &libc::sigset_t) -> SignalSet {
    // SAFETY: `set` is a live signal set, and numbers from 1 to 64 exist in all of them.
    let member = |number| unsafe { libc::sigismember(set, number) } == 1;
    let members = (1..=64).filter(|&number| member(number));
    members.fold(SignalSet::default(), SignalSet::with)
}

fn only(signal: Signal) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set has just been initialised.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: the set is initialised, and the signal's number was checked by its type.
    unsafe { libc::sigaddset(&raw mut set, signal.number()) };
    set
}

/// The signals that the calling thread blocks.
pub(crate) fn thread_mask() -> Result<SignalSet, Error> {
    change_mask(libc::SIG_BLOCK, ptr::null())
}

/// Blocks or unblocks one signal for the calling thread, and returns the mask from before.
pub(crate) fn set_blocked(signal: Signal, blocked: bool) -> Result<SignalSet, Error> {
    let how = if blocked {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    change_mask(how, &only(signal))
}

fn change_mask(how: i32, set: *const libc::sigset_t) -> Result<SignalSet, Error> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: `set` is null or points to a live set, and `old` has room for one.
    let errno = unsafe { libc::pthread_sigmask(how, set, old.as_mut_ptr()) };
    check_errno(errno, "pthread_sigmask")?;
    // SAFETY: the call succeeded, so it has filled the old set.
    Ok(from_libc(&unsafe { old.assume_init() }))
}

/// Whether the signal is pending for the calling thread or its process.
pub(crate) fn is_pending(signal: Signal) -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call fills the set that it is given.
    let result = unsafe { libc::sigpending(set.as_mut_ptr()) };
    // SAFETY: read only if the call has filled it.
    result == 0 && from_libc(&unsafe { set.assume_init() }).contains(signal.number())
}

/// A blocked signal that was pending and has been consumed.
pub(crate) struct Received {
    pub(crate) from_timer: bool,
}

/// Consumes one pending instance of a blocked signal, without waiting for one.
pub(crate) fn receive(signal: Signal) -> Option<Received> {
    let set = only(signal);
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: all three pointers are to live values, and `info` has room for one siginfo.
    let number =
        unsafe { libc::sigtimedwait(&raw const set, info.as_mut_ptr(), &raw const at_once) };
    if number != signal.number() {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the siginfo.
    let from_timer = unsafe { info.assume_init() }.si_code == libc::SI_TIMER;
    Some(Received { from_timer })
}
