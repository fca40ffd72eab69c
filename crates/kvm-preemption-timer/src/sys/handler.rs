//! The one signal handler that this crate installs.

#![expect(unsafe_code, reason = "signal handlers have no safe interface in std")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::signal::Process;
use super::slots::slot_of_this_thread;
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

/// Stores to memory and nothing else: async-signal-safe, and leaves errno alone.
extern "C" fn on_signal(number: libc::c_int) {
    if let Some(slot) = slot_of_this_thread(number) {
        slot.count_signal();
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
