//! A program in a process of its own that splits a lock in a loop, and what its signals find there.

use std::arch::global_asm;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, REG_EFL, REG_R8, c_int, c_void, siginfo_t, ucontext_t};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, write};
use split_lock_assist::cpu::rflags;

/// As signal handlers see EFLAGS.
const ALIGNMENT_CHECK: i64 = rflags::ALIGNMENT_CHECK as i64;

global_asm!(
    include_str!("../program/loop.s"),
    set_mask = const libc::SYS_rt_sigprocmask,
    sig_setmask = const libc::SIG_SETMASK,
    not_alignment_check = const !ALIGNMENT_CHECK,
    on_signal = sym on_signal,
);

unsafe extern "C" {
    fn split_lock_repro_program(operand: *mut u64, flags: u64, mask: *const libc::sigset_t) -> !;
    // For sigaction, which takes its address. Nobody calls it.
    safe fn split_lock_repro_program_on_signal(
        signal: c_int,
        info: *mut siginfo_t,
        context: *mut c_void,
    );
}

/// What a signal finds in the loop that it interrupts, and can change there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopState {
    /// Rounds of the loop until now.
    pub(crate) turns: u64,
    /// Whether the next round raises #AC.
    pub(crate) traps: bool,
}

type OnSignal = fn(Signal, &mut LoopState);

static ON_SIGNAL: OnceLock<OnSignal> = OnceLock::new();

/// Two cache lines, so that eight bytes in their middle lie in both.
#[repr(align(64))]
struct Lines([u64; 16]);

/// Byte 60 of a line.
const SPLIT_OFFSET: usize = 60;

/// Whether this process is one of [`fork_process`].
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Starts a process that does this and ends, with all signals blocked. It is killed when the thread that started it ends.
pub(crate) fn fork_process(child: impl FnOnce()) -> nix::Result<Pid> {
    end_children_that_panic();
    let parent = getpid();
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the child has this thread only, and does not return from here. A lock that another thread holds now is never
    // released there: the allocator's are, for glibc and musl take them for the time of a fork; the child prints nothing,
    // which takes those of std's streams; and at a panic it runs our hook, which takes none. Should it wait for one after all,
    // because the program has set another hook since, it is killed when its time is over.
    let forked = unsafe { fork() };
    if !matches!(forked, Ok(ForkResult::Child)) {
        mask.thread_set_mask()?;
    }
    if let ForkResult::Parent { child } = forked? {
        return Ok(child);
    }
    IS_CHILD.store(true, Ordering::Relaxed);
    if prctl::set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == parent {
        child();
    }
    end_process(0)
}

/// Has a process of [`fork_process`] end at its first panic, with the message on stderr and exit code 1. The usual hook takes
/// locks that another thread of the parent may have held. The hook is set in the parent, for setting it takes a lock, too.
fn end_children_that_panic() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_CHILD.load(Ordering::Relaxed) {
                // Without the lock of std's stderr.
                let _ = write(io::stderr(), format!("{info}\n").as_bytes());
                end_process(1);
            }
            usual(info);
        }));
    });
}

/// Ends this process at once: what the parent has to do at its end is not done twice.
pub(crate) fn end_process(code: c_int) -> ! {
    // SAFETY: nothing of this process is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Splits a lock in a loop, for good, in a process of [`fork_process`]. `on_signal` is called for each of `signals`, with
/// all signals blocked; what it makes of the loop's state becomes its state.
pub(crate) fn split_in_a_loop(
    signals: &[Signal],
    traps: bool,
    on_signal: OnSignal,
) -> io::Result<()> {
    if ON_SIGNAL.set(on_signal).is_err() {
        return Err(io::Error::other("this process already runs the loop"));
    }
    // SA_ONSTACK is not asked for: the loop leaves the stack as it is. SA_RESTART is, although there is nothing to restart.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART;
    let entry = SigHandler::SigAction(split_lock_repro_program_on_signal);
    let action = SigAction::new(entry, flags, SigSet::all());
    let mut blocked = SigSet::all();
    for &signal in signals {
        // SAFETY: the handler runs in the loop only, for only there these signals are not blocked.
        unsafe { sigaction(signal, &action) }?;
        blocked.remove(signal);
    }
    let mut lines = Lines([0; 16]);
    let operand = (&raw mut lines.0)
        .cast::<u8>()
        .wrapping_add(SPLIT_OFFSET)
        .cast();
    let flags = if traps { rflags::ALIGNMENT_CHECK } else { 0 };
    // SAFETY: the operand is 8 bytes within `lines`, which lives as long as the loop, and that is for ever. Nothing else
    // uses it. The mask is read once.
    unsafe { split_lock_repro_program(operand, flags, blocked.as_ref()) }
}

extern "C" fn on_signal(signal: c_int, _info: *mut siginfo_t, context: *mut ucontext_t) {
    let (Ok(signal), Some(on_signal)) = (Signal::try_from(signal), ON_SIGNAL.get()) else {
        return;
    };
    // SAFETY: the kernel made it for this handler, and takes it back when the handler returns.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let flags = registers[REG_EFL as usize];
    let mut state = LoopState {
        turns: registers[REG_R8 as usize] as u64,
        traps: flags & ALIGNMENT_CHECK != 0,
    };
    on_signal(signal, &mut state);
    registers[REG_EFL as usize] = match state.traps {
        true => flags | ALIGNMENT_CHECK,
        false => flags & !ALIGNMENT_CHECK,
    };
}

/// setitimer(ITIMER_REAL): SIGALRM each time this much has passed.
pub(crate) fn set_real_interval(period: Duration) -> nix::Result<()> {
    let period = libc::timeval {
        tv_sec: period.as_secs() as i64,
        tv_usec: period.subsec_micros().into(),
    };
    let value = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    const ITIMER_REAL: c_int = 0;
    // SAFETY: the call reads one itimerval and writes nothing.
    let set = unsafe { libc::syscall(libc::SYS_setitimer, ITIMER_REAL, &raw const value, 0) };
    Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::thread::sleep;
    use std::time::Instant;

    use nix::sys::signal::kill;
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

    use super::*;

    fn status_of(pid: Pid) -> WaitStatus {
        let latest = Instant::now() + Duration::from_secs(10);
        loop {
            let status = waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap();
            if status != WaitStatus::StillAlive {
                return status;
            }
            if Instant::now() > latest {
                kill(pid, Signal::SIGKILL).unwrap();
            }
            sleep(Duration::from_millis(1));
        }
    }

    static TAKEN_BY_THE_HOOK: Mutex<()> = Mutex::new(());

    #[test]
    fn panic_ends_the_child_though_another_thread_holds_a_lock_of_the_hook() {
        // No other test here starts a process, so ours is set after this one.
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _taken = TAKEN_BY_THE_HOOK.lock();
            usual(info);
        }));
        let (locked, is_locked) = channel();
        let (release, is_released) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _held = (TAKEN_BY_THE_HOOK.lock(), io::stderr().lock());
                locked.send(()).unwrap();
                let _ = is_released.recv();
            });
            is_locked.recv().unwrap();
            let pid = fork_process(|| panic!("as the test has it")).unwrap();
            let status = status_of(pid);
            drop(release);
            assert_eq!(status, WaitStatus::Exited(pid, 1));
        });
    }
}
