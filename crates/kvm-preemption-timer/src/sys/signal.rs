//! Signals: masks, sending, consuming, and the one handler that this crate installs.

#![expect(unsafe_code, reason = "signals have no safe interface in std")]

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::sys::RunPage;
use crate::{Error, Signal};

/// The kernel's id of a thread of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tid(pub(crate) libc::pid_t);

pub(crate) fn current_tid() -> Tid {
    // SAFETY: gettid has no preconditions.
    Tid(unsafe { libc::gettid() })
}

pub(crate) fn realtime_signals() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

/// Sends `signal` to a thread of this process.
pub(crate) fn send_signal(to: Tid, signal: Signal) -> io::Result<()> {
    // SAFETY: getpid has no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: tgkill takes three integers; a thread that does not exist is an error.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, to.0, signal.number()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A set of signals as the kernel writes it: bit n - 1 stands for signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelSigset(pub(crate) u64);

impl KernelSigset {
    pub(crate) const fn contains(self, signal: Signal) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    pub(crate) const fn without(self, signal: Signal) -> Self {
        KernelSigset(self.0 & !Self::bit(signal))
    }

    const fn bit(signal: Signal) -> u64 {
        1 << (signal.number() - 1)
    }

    fn from_libc(set: &libc::sigset_t) -> Self {
        // SAFETY: `set` is a live signal set, and numbers from 1 to 64 exist in all of them.
        let member = |number| unsafe { libc::sigismember(set, number) } == 1;
        KernelSigset(
            (1..=64)
                .filter(|&n| member(n))
                .fold(0, |bits, n| bits | 1 << (n - 1)),
        )
    }
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
pub(crate) fn thread_mask() -> Result<KernelSigset, Error> {
    change_mask(libc::SIG_BLOCK, ptr::null())
}

/// Blocks or unblocks one signal for the calling thread, and returns the mask from before.
pub(crate) fn set_blocked(signal: Signal, blocked: bool) -> Result<KernelSigset, Error> {
    let how = if blocked {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    change_mask(how, &only(signal))
}

fn change_mask(how: i32, set: *const libc::sigset_t) -> Result<KernelSigset, Error> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: `set` is null or points to a live set, and `old` has room for one.
    let errno = unsafe { libc::pthread_sigmask(how, set, old.as_mut_ptr()) };
    if errno != 0 {
        return Err(Error::System {
            call: "pthread_sigmask",
            target: "the calling thread",
            source: io::Error::from_raw_os_error(errno),
        });
    }
    // SAFETY: the call succeeded, so it has filled the old set.
    Ok(KernelSigset::from_libc(&unsafe { old.assume_init() }))
}

/// Whether the signal is pending for the calling thread or its process.
pub(crate) fn is_pending(signal: Signal) -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call fills the set that it is given.
    let result = unsafe { libc::sigpending(set.as_mut_ptr()) };
    // SAFETY: read only if the call has filled it.
    result == 0 && KernelSigset::from_libc(&unsafe { set.assume_init() }).contains(signal)
}

/// A blocked signal that was pending and has been consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    FromTimer,
    FromElsewhere,
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
    let code = unsafe { info.assume_init() }.si_code;
    Some(if code == libc::SI_TIMER {
        Received::FromTimer
    } else {
        Received::FromElsewhere
    })
}

/// Whether the process has a handler for the signal that is not ours.
pub(crate) fn has_foreign_handler(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action the call only fills `action`.
    let result = unsafe { libc::sigaction(signal.number(), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: read only if the call has filled it.
    result == 0 && is_foreign(&unsafe { action.assume_init() })
}

fn is_foreign(action: &libc::sigaction) -> bool {
    let ours = on_signal as *const () as usize;
    ![libc::SIG_DFL, libc::SIG_IGN, ours].contains(&action.sa_sigaction)
}

/// What the handler needs to force one vCPU out, and says about having done so.
///
/// The handler reaches it through [`SLOTS`], so it is only ever shared, and all of it is atomic.
#[derive(Debug)]
pub(crate) struct HandlerSlot {
    page: RunPage,
    /// How many signals the handler has seen, modulo 2^32.
    signals: AtomicU32,
}

/// One past the largest signal number.
const SIGNALS: usize = 65;

thread_local! {
    /// For each signal, the vCPU of this thread that it forces out. Initialised without code and
    /// never destroyed, so that a signal handler may look at it at any time.
    static SLOTS: [AtomicPtr<HandlerSlot>; SIGNALS] =
        const { [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS] };
}

/// Stores to memory and nothing else: async-signal-safe, and leaves errno alone.
extern "C" fn on_signal(number: libc::c_int) {
    let slot = SLOTS.with(|slots| slots[number as usize].load(Ordering::Acquire));
    // SAFETY: a pointer in SLOTS is to a slot that its `HandlerRegistration` keeps alive: it takes
    // the pointer out, on this very thread, before it lets go of the slot.
    if let Some(slot) = unsafe { slot.as_ref() } {
        // In this order for all threads, so that the owner cannot see the second without the first.
        slot.signals.fetch_add(1, Ordering::SeqCst);
        slot.page.immediate_exit().store(1, Ordering::SeqCst);
    }
}

impl HandlerSlot {
    /// How many signals the handler has seen, modulo 2^32.
    pub(crate) fn signals(&self) -> u32 {
        self.signals.load(Ordering::SeqCst)
    }

    pub(crate) fn immediate_exit(&self) -> &AtomicU8 {
        self.page.immediate_exit()
    }
}

/// Makes the handler force out one vCPU when the signal reaches the calling thread.
#[derive(Debug)]
pub(crate) struct HandlerRegistration {
    /// Not an `Arc`: SLOTS belongs to the thread, so this must be dropped where it was made.
    slot: Rc<HandlerSlot>,
    signal: Signal,
}

impl HandlerRegistration {
    /// The caller sees to it that no other registration for `signal` exists on this thread.
    pub(crate) fn new(page: RunPage, signal: Signal) -> Self {
        let slot = Rc::new(HandlerSlot {
            page,
            signals: AtomicU32::new(0),
        });
        Self::point_handler_at(signal, Rc::as_ptr(&slot).cast_mut());
        HandlerRegistration { slot, signal }
    }

    pub(crate) fn slot(&self) -> &HandlerSlot {
        &self.slot
    }

    #[cfg(test)]
    pub(crate) fn exists(signal: Signal) -> bool {
        SLOTS.with(|slots| {
            !slots[signal.number() as usize]
                .load(Ordering::Acquire)
                .is_null()
        })
    }

    fn point_handler_at(signal: Signal, slot: *mut HandlerSlot) {
        SLOTS.with(|slots| slots[signal.number() as usize].store(slot, Ordering::Release));
    }
}

impl Drop for HandlerRegistration {
    fn drop(&mut self) {
        Self::point_handler_at(self.signal, ptr::null_mut());
    }
}

/// How many vCPUs use our handler for a signal, and what the process did about it before.
struct Installation {
    users: usize,
    before: libc::sigaction,
}

static INSTALLATIONS: Mutex<BTreeMap<i32, Installation>> = Mutex::new(BTreeMap::new());

/// Keeps our handler installed for a signal. Dropping the last one brings back what was before.
#[derive(Debug)]
pub(crate) struct InstalledHandler(Signal);

impl InstalledHandler {
    pub(crate) fn new(signal: Signal) -> Result<Self, Error> {
        let mut installations = INSTALLATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(installation) = installations.get_mut(&signal.number()) {
            installation.users += 1;
            return Ok(InstalledHandler(signal));
        }
        let before = install(signal)?;
        installations.insert(signal.number(), Installation { users: 1, before });
        Ok(InstalledHandler(signal))
    }
}

impl Drop for InstalledHandler {
    fn drop(&mut self) {
        let mut installations = INSTALLATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.0.number();
        let Some(installation) = installations.get_mut(&number) else {
            return;
        };
        installation.users -= 1;
        if installation.users == 0 {
            restore(number, &installation.before);
            installations.remove(&number);
        }
    }
}

fn install(signal: Signal) -> Result<libc::sigaction, Error> {
    // SAFETY: sigaction is plain data, for which all zeroes is a value: no flags, nothing blocked.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as *const () as usize;
    // SA_RESTART: other system calls of the vCPU's thread should not notice; KVM_RUN does anyway.
    // SA_ONSTACK: a thread that brings a stack for signals wants them there.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    let mut before = MaybeUninit::uninit();
    // SAFETY: `on_signal` is async-signal-safe and has the signature of a handler without
    // SA_SIGINFO; both pointers are to live values.
    let result =
        unsafe { libc::sigaction(signal.number(), &raw const action, before.as_mut_ptr()) };
    if result != 0 {
        return Err(Error::System {
            call: "sigaction",
            target: "the chosen signal",
            source: io::Error::last_os_error(),
        });
    }
    // SAFETY: the call succeeded, so it has filled the old action.
    let before = unsafe { before.assume_init() };
    if is_foreign(&before) {
        // Somebody was quicker than the check before.
        restore(signal.number(), &before);
        return Err(Error::SignalHandled { signal });
    }
    Ok(before)
}

fn restore(number: i32, before: &libc::sigaction) {
    // SAFETY: `before` is what the kernel gave us as this signal's action, and a handler in it is
    // the process's own; the kernel copies it.
    unsafe { libc::sigaction(number, before, ptr::null_mut()) };
}
