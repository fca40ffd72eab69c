//! The one signal handler that this crate installs.

#![expect(unsafe_code, reason = "signal handlers have no safe interface in std")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::kvm::RunPage;
use super::signal::Process;
use crate::{Error, Signal};

/// Whether the process has a handler for the signal that is not ours.
pub(crate) fn has_foreign_handler(signal: Signal) -> bool {
    current_action(signal.number()).is_some_and(|action| is_foreign(&action))
}

fn current_action(number: i32) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: with no new action the call only fills `action`.
    let result = unsafe { libc::sigaction(number, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: read only if the call has filled it.
    (result == 0).then(|| unsafe { action.assume_init() })
}

fn is_foreign(action: &libc::sigaction) -> bool {
    ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction) && !is_ours(action)
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as *const () as usize
}

/// What the handler needs to force one vCPU out, and says about having done so.
///
/// The handler reaches it through the thread's slots, so it is only ever shared, and all of it is atomic.
#[derive(Debug)]
pub(crate) struct HandlerSlot {
    pub(crate) page: RunPage,
    /// How many signals the handler has seen, modulo 2^32.
    signals: AtomicU32,
}

/// One past the largest signal number.
const SIGNALS: usize = 65;

/// For each signal, the vCPU of one thread that it forces out.
type ThreadSlots = [AtomicPtr<HandlerSlot>; SIGNALS];

/// Where each thread keeps its `ThreadSlots`, if it has a vCPU. Not a `thread_local`: in a library
/// that was loaded later, a thread's first access to one allocates memory, which a signal handler
/// must not do. glibc documents pthread_getspecific as safe in signal handlers.
static SLOTS: OnceLock<libc::pthread_key_t> = OnceLock::new();

/// Stores to memory and nothing else: async-signal-safe, and leaves errno alone.
extern "C" fn on_signal(number: libc::c_int) {
    // Reading it is one atomic load; it was set before this handler was installed.
    let Some(&key) = SLOTS.get() else { return };
    // SAFETY: the key exists for as long as the process.
    let slots = unsafe { libc::pthread_getspecific(key) }.cast::<ThreadSlots>();
    // SAFETY: the thread's value is null or its slots, which only this thread frees, after it has
    // taken them out.
    let Some(slots) = (unsafe { slots.as_ref() }) else {
        return;
    };
    let slot = slots[number as usize].load(Ordering::Acquire);
    // SAFETY: a pointer in the slots is to one that its `HandlerRegistration` keeps alive: it takes
    // the pointer out, on this very thread, before it lets go of the slot.
    if let Some(slot) = unsafe { slot.as_ref() } {
        // In this order for all threads, so that the owner cannot see the second without the first.
        slot.signals.fetch_add(1, Ordering::SeqCst);
        slot.page.request_exit();
    }
}

fn slots_key() -> Result<libc::pthread_key_t, Error> {
    static CREATION: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CREATION.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&key) = SLOTS.get() {
        return Ok(key);
    }
    let mut key = 0;
    // SAFETY: `key` is live, and values need no destructor: who registers a vCPU removes it.
    let errno = unsafe { libc::pthread_key_create(&raw mut key, None) };
    check_errno(errno, "pthread_key_create")?;
    Ok(*SLOTS.get_or_init(|| key))
}

fn check_errno(errno: i32, call: &'static str) -> Result<(), Error> {
    match errno {
        0 => Ok(()),
        _ => Err(Error::System {
            call,
            target: "the calling thread",
            source: io::Error::from_raw_os_error(errno),
        }),
    }
}

/// The calling thread's slots, if it has any.
fn thread_slots() -> Option<NonNull<ThreadSlots>> {
    let key = *SLOTS.get()?;
    // SAFETY: the key exists for as long as the process.
    NonNull::new(unsafe { libc::pthread_getspecific(key) }.cast())
}

fn set_thread_slots(
    key: libc::pthread_key_t,
    slots: Option<NonNull<ThreadSlots>>,
) -> Result<(), Error> {
    let value = slots.map_or(ptr::null(), |slots| slots.as_ptr().cast_const());
    // SAFETY: the key exists for as long as the process, and takes any value.
    let errno = unsafe { libc::pthread_setspecific(key, value.cast()) };
    check_errno(errno, "pthread_setspecific")
}

impl HandlerSlot {
    pub(crate) fn signals(&self) -> u32 {
        self.signals.load(Ordering::SeqCst)
    }
}

/// Makes the handler force out one vCPU when the signal reaches the calling thread.
#[derive(Debug)]
pub(crate) struct HandlerRegistration {
    /// Not an `Arc`: the slots belong to the thread, so this must be dropped where it was made.
    slot: Rc<HandlerSlot>,
    signal: Signal,
}

impl HandlerRegistration {
    /// The caller sees to it that no other registration for `signal` exists on this thread.
    pub(crate) fn new(page: RunPage, signal: Signal) -> Result<Self, Error> {
        let key = slots_key()?;
        let slots = match thread_slots() {
            Some(slots) => slots,
            None => {
                let slots = Box::new([const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS]);
                let slots = NonNull::from(Box::leak(slots));
                if let Err(error) = set_thread_slots(key, Some(slots)) {
                    // SAFETY: leaked a moment ago, and the thread did not get it.
                    drop(unsafe { Box::from_raw(slots.as_ptr()) });
                    return Err(error);
                }
                slots
            }
        };
        let slot = Rc::new(HandlerSlot {
            page,
            signals: AtomicU32::new(0),
        });
        // SAFETY: only this thread frees its slots, and not before this registration is dropped.
        let slots = unsafe { slots.as_ref() };
        slots[signal.number() as usize].store(Rc::as_ptr(&slot).cast_mut(), Ordering::Release);
        Ok(HandlerRegistration { slot, signal })
    }

    pub(crate) fn slot(&self) -> &HandlerSlot {
        &self.slot
    }

    #[cfg(test)]
    pub(crate) fn exists(signal: Signal) -> bool {
        let number = signal.number() as usize;
        thread_slots().is_some_and(|slots| {
            // SAFETY: only this thread frees its slots.
            let slots = unsafe { slots.as_ref() };
            !slots[number].load(Ordering::Acquire).is_null()
        })
    }
}

impl Drop for HandlerRegistration {
    fn drop(&mut self) {
        let (Some(slots), Some(&key)) = (thread_slots(), SLOTS.get()) else {
            return;
        };
        {
            // SAFETY: only this thread frees its slots, below.
            let slots = unsafe { slots.as_ref() };
            slots[self.signal.number() as usize].store(ptr::null_mut(), Ordering::Release);
            let is_empty = |slot: &AtomicPtr<HandlerSlot>| slot.load(Ordering::Relaxed).is_null();
            if !slots.iter().all(is_empty) {
                return;
            }
        }
        // If it fails the slots stay, for the thread's next vCPU.
        if set_thread_slots(key, None).is_ok() {
            // SAFETY: made by `Box::leak`; the handler, which runs on this thread only, does not find
            // them any more, and no registration is left.
            drop(unsafe { Box::from_raw(slots.as_ptr()) });
        }
    }
}

/// How many vCPUs use our handler for a signal, and what the process did about it before.
struct Installation {
    users: usize,
    before: libc::sigaction,
}

static INSTALLATIONS: Mutex<BTreeMap<i32, Installation>> = Mutex::new(BTreeMap::new());

/// Keeps our handler installed for a signal. Dropping the last one brings back what was before, unless
/// somebody else has changed it since.
#[derive(Debug)]
pub(crate) struct InstalledHandler {
    signal: Signal,
    process: Process,
}

impl InstalledHandler {
    pub(crate) fn new(signal: Signal) -> Result<Self, Error> {
        match installations().entry(signal.number()) {
            Entry::Occupied(mut installation) => installation.get_mut().users += 1,
            Entry::Vacant(vacant) => {
                let before = install(signal)?;
                vacant.insert(Installation { users: 1, before });
            }
        }
        Ok(InstalledHandler {
            signal,
            process: Process::current(),
        })
    }

    /// Puts the handler back if somebody has set the default action, which would end the process, or
    /// ignores the signal.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let signal = self.signal;
        match current_action(signal.number()) {
            Some(action) if is_ours(&action) => Ok(()),
            Some(action) if is_foreign(&action) => Err(Error::SignalHandled { signal }),
            _ => install(signal).map(drop),
        }
    }
}

impl Drop for InstalledHandler {
    fn drop(&mut self) {
        // A process that was forked off keeps the handler, which does nothing there: a thread of the
        // parent may have held the lock for ever in this process.
        if !self.process.is_current() {
            return;
        }
        let number = self.signal.number();
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
    // SAFETY: `on_signal` is async-signal-safe and has the signature of a handler without SA_SIGINFO.
    let before = unsafe { replace(signal.number(), &action) }?;
    if is_foreign(&before) {
        // Somebody was quicker than the check before.
        restore(signal.number(), &before);
        return Err(Error::SignalHandled { signal });
    }
    Ok(before)
}

/// Brings an action back, if ours is still in its place.
fn restore(number: i32, before: &libc::sigaction) {
    if !current_action(number).is_some_and(|action| is_ours(&action)) {
        return;
    }
    // SAFETY: `before` is what the kernel gave us as this signal's action, and a handler in it is
    // the process's own.
    let replaced = unsafe { replace(number, before) };
    if let Some(theirs) = replaced.ok().filter(|action| !is_ours(action)) {
        // Somebody was quicker than the check above.
        // SAFETY: as above.
        let _ = unsafe { replace(number, &theirs) };
    }
}

/// Sets the action of a signal, and returns the one before.
///
/// # Safety
/// A handler in `action` can be called at any moment on any thread.
unsafe fn replace(number: i32, action: &libc::sigaction) -> Result<libc::sigaction, Error> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: both pointers are to live values, and the caller answers for the handler.
    let result = unsafe { libc::sigaction(number, action, before.as_mut_ptr()) };
    Error::check(result, "sigaction", "the chosen signal")?;
    // SAFETY: the call succeeded, so it has filled the old action.
    Ok(unsafe { before.assume_init() })
}
