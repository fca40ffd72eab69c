//! The signal that makes a vCPU's thread leave KVM_RUN.

use std::mem::MaybeUninit;
use std::ptr;

use libc::c_int;

use super::calls::{ThreadId, process_id};
use super::run;

/// The kernel's set of signals: bit 0 is signal 1.
pub(super) type Set = u64;

const SET_BYTES: usize = size_of::<Set>();

/// Those that the CPU raises at an instruction. Blocked, they would end the program.
pub(super) const FAULTS: Set = bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGTRAP);

pub(super) const fn bit(signal: c_int) -> Set {
    1 << (signal - 1)
}

/// A real-time signal that the program has no handler for, and ours now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KickSignal(c_int);

impl KickSignal {
    /// The highest that is free: of the signals that are delivered at the same moment the highest comes last, and its handler
    /// runs first, and so sees whether there are others.
    pub(crate) fn install() -> Option<Self> {
        let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev();
        free.map(Self).find(|signal| {
            // A forked child has it already.
            let handler = signal.handler();
            handler == Some(run::handler_address())
                || (handler == Some(libc::SIG_DFL) && signal.set_handler())
        })
    }

    /// What stands for it in a set.
    pub(crate) fn bit(self) -> u64 {
        bit(self.0)
    }

    /// Lets it through on this thread, and says what was blocked before.
    pub(crate) fn unblock(self) -> u64 {
        let mut before = 0;
        change_mask(libc::SIG_UNBLOCK, self.bit(), Some(&mut before));
        before
    }

    /// It has come, and waits because this thread blocks it.
    pub(crate) fn is_pending(self) -> bool {
        pending() & self.bit() != 0
    }

    /// Whether it was sent. It is not if the program has taken it for itself: it might end the program then.
    pub(crate) fn send(self, to: ThreadId) -> bool {
        // SAFETY: takes numbers only. A thread that has ended is an error; its number can only be another thread's of
        // this process, whom the handler does not hurt.
        let send = || unsafe { libc::syscall(libc::SYS_tgkill, process_id(), to.0, self.0) };
        self.is_ours() && send() == 0
    }

    pub(crate) fn is_ours(self) -> bool {
        self.handler() == Some(run::handler_address())
    }

    fn handler(self) -> Option<libc::sighandler_t> {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: there is room for what is asked, and nothing is changed.
        if unsafe { libc::sigaction(self.0, ptr::null(), action.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: the call has succeeded, so it was written.
        Some(unsafe { action.assume_init() }.sa_sigaction)
    }

    fn set_handler(self) -> bool {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: there is room for a set, and these write one.
        unsafe { libc::sigfillset(mask.as_mut_ptr()) };
        let action = libc::sigaction {
            sa_sigaction: run::handler_address(),
            // SAFETY: sigfillset has written it.
            sa_mask: unsafe { mask.assume_init() },
            // Other system calls of the thread are restarted; KVM_RUN is not, whatever the flags.
            sa_flags: libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK,
            sa_restorer: None,
        };
        // SAFETY: the handler is an `extern "C"` function with three arguments that does nothing but what a handler may.
        unsafe { libc::sigaction(self.0, &raw const action, ptr::null_mut()) == 0 }
    }
}

/// Threads that are started by `start` take no signals: they are all the program's.
pub(crate) fn block_all_in_new_threads<T>(start: impl FnOnce() -> T) -> T {
    let mut before = 0;
    change_mask(libc::SIG_SETMASK, !FAULTS, Some(&mut before));
    let result = start();
    change_mask(libc::SIG_SETMASK, before, None);
    result
}

pub(super) fn change_mask(how: c_int, set: Set, before: Option<&mut Set>) {
    let before = before.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: both are sets of the kernel's size, or null. It can only fail for a `how` that does not exist.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set,
            before,
            SET_BYTES,
        )
    };
}

pub(super) fn pending() -> Set {
    let mut set: Set = 0;
    // SAFETY: the kernel writes as many bytes as it is told, which are the set's.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, SET_BYTES) };
    set
}
