//! KVM_RUN, and the signal that ends it.
//!
//! A kick must not be lost between the last look and the system call. So the handler looks where it has interrupted the
//! thread: before the system call it makes it leave without. That costs no system call and no field of the run page, which
//! are the VMM's.

use std::arch::global_asm;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::calls::Errno;
use super::signal::{self, FAULTS, KickSignal, Set};
use super::thread::Thread;

/// What the thread gets that left without the system call: no result of one.
const ABORTED: i64 = -0x10000;

// i64 run(int fd [edi], usize argument [rsi], const u32 *kicked [rdx])
global_asm!(
    ".pushsection .text.splitlock_run,\"ax\",@progbits",
    ".hidden splitlock_run, splitlock_run_look, splitlock_run_over, splitlock_run_abort",
    ".globl splitlock_run, splitlock_run_look, splitlock_run_over, splitlock_run_abort",
    ".type splitlock_run,@function",
    "splitlock_run:",
    ".cfi_startproc",
    "mov r8, rdx",
    "mov rdx, rsi",
    "mov esi, {KVM_RUN}",
    "splitlock_run_look:",
    "cmp dword ptr [r8], 0",
    "jne splitlock_run_abort",
    "mov eax, {SYS_ioctl}",
    "syscall",
    "splitlock_run_over:",
    "ret",
    "splitlock_run_abort:",
    "mov rax, {ABORTED}",
    "ret",
    ".cfi_endproc",
    ".size splitlock_run, . - splitlock_run",
    ".popsection",
    KVM_RUN = const crate::request::RUN,
    SYS_ioctl = const libc::SYS_ioctl,
    ABORTED = const ABORTED,
);

unsafe extern "C" {
    fn splitlock_run(fd: c_int, argument: usize, kicked: *const u32) -> i64;
    fn splitlock_run_look();
    fn splitlock_run_over();
    fn splitlock_run_abort();
}

/// What the handler tells the thread that it interrupts.
#[derive(Debug)]
pub(super) struct Kicks {
    /// Not zero: there was one.
    kicked: AtomicU32,
    /// It came out of KVM_RUN with EINTR, and no other handler is to run before it goes on. All other signals are blocked
    /// since then.
    alone: Cell<bool>,
    /// What was blocked before that.
    mask: Cell<Set>,
}

impl Kicks {
    pub(super) const fn none() -> Self {
        Self {
            kicked: AtomicU32::new(0),
            alone: Cell::new(false),
            mask: Cell::new(0),
        }
    }
}

/// How KVM_RUN ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    Exit(c_int),
    Failed(Errno),
    /// It was not begun.
    Aborted,
}

/// What has interrupted a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// No signal of ours.
    NotOurs,
    /// Ours, and perhaps others.
    Ours,
    /// Ours and nobody else's. Other signals are blocked from then on, until [`Thread::end_interruption`].
    OursAlone,
}

impl Thread {
    /// The system call, unless a kick has come since the last one was [taken](Self::take_interruption).
    #[inline]
    pub(crate) fn kvm_run(&self, fd: RawFd, argument: usize) -> RunEnd {
        let kicked = self.kicks.kicked.as_ptr().cast_const();
        // SAFETY: the function above keeps to the calling convention and uses no stack; `kicked` is this thread's for as
        // long as it runs. The arguments are the VMM's, as in `raw_ioctl`.
        match unsafe { splitlock_run(fd, argument, kicked) } {
            ABORTED => RunEnd::Aborted,
            result @ 0.. => RunEnd::Exit(result as c_int),
            error => RunEnd::Failed(Errno(-error as c_int)),
        }
    }

    /// Whether anything has come since the last time.
    #[inline]
    pub(crate) fn was_interrupted(&self) -> bool {
        self.kicks.kicked.load(Ordering::Relaxed) != 0 || self.kicks.alone.get()
    }

    /// What has come since the last time.
    pub(crate) fn take_interruption(&self) -> Interruption {
        let kicks = &self.kicks;
        // Mostly there was none. One that comes in between counts next time.
        let kicked = kicks.kicked.load(Ordering::Relaxed) != 0;
        if kicked {
            kicks.kicked.store(0, Ordering::Relaxed);
        }
        match (kicked, kicks.alone.get()) {
            (_, true) => Interruption::OursAlone,
            (true, false) => Interruption::Ours,
            (false, false) => Interruption::NotOurs,
        }
    }

    /// Lets other signals through again, if they are blocked. Whether it still is ours alone: none has come meanwhile,
    /// whose handler the VMM would expect to have ended its KVM_RUN. More kicks, which queue, do not count.
    pub(crate) fn end_interruption(&self, signal: KickSignal) -> bool {
        let alone = self.kicks.alone.replace(false);
        if alone {
            let mask = self.kicks.mask.get();
            let others = signal::pending() & !mask & !signal.bit();
            signal::change_mask(libc::SIG_SETMASK, mask, None);
            return others == 0;
        }
        false
    }
}

pub(super) fn handler_address() -> libc::sighandler_t {
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = handle;
    handler as libc::sighandler_t
}

extern "C" fn handle(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    const RIP: usize = libc::REG_RIP as usize;
    const RAX: usize = libc::REG_RAX as usize;
    let context = context.cast::<ucontext_t>();
    // SAFETY: with SA_SIGINFO the kernel hands over the context that it will restore, and nobody else refers to it.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let at = registers[RIP] as usize;
    let look = splitlock_run_look as *const () as usize;
    let over = splitlock_run_over as *const () as usize;
    let kicks = &Thread::current().kicks;
    kicks.kicked.store(1, Ordering::Relaxed);
    if (look..over).contains(&at) {
        registers[RIP] = splitlock_run_abort as *const () as i64;
    } else if at == over && registers[RAX] == -i64::from(libc::EINTR) && !kicks.alone.get() {
        // SAFETY: an address within the context.
        let mask = unsafe { &raw mut (*context).uc_sigmask }.cast::<Set>();
        // SAFETY: the kernel's set is the first eight bytes of the C library's larger one; aligned as a u64.
        let mask = unsafe { &mut *mask };
        kicks.mask.set(*mask);
        kicks.alone.set(true);
        *mask = !FAULTS;
    }
}
