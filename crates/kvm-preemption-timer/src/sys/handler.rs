//! The one signal handler that this crate installs.

#![expect(unsafe_code, reason = "signal handlers have no safe interface in std")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kvm::RunPage;
use crate::{Error, Signal};

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
    pub(crate) page: RunPage,
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
    pub(crate) fn signals(&self) -> u32 {
        self.signals.load(Ordering::SeqCst)
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
        let number = signal.number() as usize;
        SLOTS.with(|slots| !slots[number].load(Ordering::Acquire).is_null())
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
        match installations().entry(signal.number()) {
            Entry::Occupied(mut installation) => installation.get_mut().users += 1,
            Entry::Vacant(vacant) => {
                let before = install(signal)?;
                vacant.insert(Installation { users: 1, before });
            }
        }
        Ok(InstalledHandler(signal))
    }
}

impl Drop for InstalledHandler {
    fn drop(&mut self) {
        let number = self.0.number();
        if let Entry::Occupied(mut installation) = installations().entry(number) {
            installation.get_mut().users -= 1;
            if installation.get().users == 0 {
                restore(number, &installation.remove().before);
            }
        }
    }
}

fn installations() -> MutexGuard<'static, BTreeMap<i32, Installation>> {
    INSTALLATIONS.lock().unwrap_or_else(PoisonError::into_inner)
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
    Error::check(result, "sigaction", "the chosen signal")?;
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
