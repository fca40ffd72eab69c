//! Where the signal handler finds the vCPUs of the thread that it runs on.

#![expect(unsafe_code, reason = "a signal handler and its thread share pointers")]

use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::check_errno;
use super::kvm::RunPage;
use crate::{Error, Signal};

/// What the handler needs to force one vCPU out, and says about having done so.
///
/// The handler reaches it through the thread's slots, so it is only ever shared, and all of it is
/// atomic.
#[derive(Debug)]
pub(crate) struct HandlerSlot {
    pub(crate) page: RunPage,
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

impl HandlerSlot {
    /// How many signals the handler has seen, modulo 2^32.
    pub(crate) fn signals(&self) -> u32 {
        self.signals.load(Ordering::SeqCst)
    }

    /// What the handler does: in this order for all threads, so that the owner cannot see the second
    /// without the first.
    pub(super) fn count_signal(&self) {
        self.signals.fetch_add(1, Ordering::SeqCst);
        self.page.request_exit();
    }
}

/// For the handler: the vCPU that this signal forces out of the thread that it runs on. Async-signal-safe,
/// and leaves errno alone.
pub(super) fn slot_of_this_thread<'handler>(number: libc::c_int) -> Option<&'handler HandlerSlot> {
    let slots = thread_slots()?;
    // SAFETY: only this thread frees its slots, after it has taken them out; it does not go on before
    // its handler has returned.
    let slots = unsafe { slots.as_ref() };
    let slot = slots.get(number as usize)?.load(Ordering::Acquire);
    // SAFETY: a pointer in the slots is to one that its `HandlerRegistration` keeps alive: it takes
    // the pointer out, on this very thread, before it lets go of what it points to.
    unsafe { slot.as_ref() }
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
