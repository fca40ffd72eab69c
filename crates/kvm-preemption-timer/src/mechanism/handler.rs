//! A signal whose handler sets `kvm_run.immediate_exit`.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sys::{self, HandlerRegistration, InstalledHandler, RunPage};
use crate::{Error, Signal};

/// The handler counts a signal first and sets `immediate_exit` then. So as long as the count is not
/// the one that was taken last, a signal is still to be taken, whatever `immediate_exit` says.
#[derive(Debug)]
pub(crate) struct HandledSignal {
    // The order of the fields is the order of teardown.
    _unblocked: Unblocked,
    registration: HandlerRegistration,
    _installed: InstalledHandler,
    /// The handler's count when its signals were last taken.
    taken: u32,
}

impl HandledSignal {
    pub(crate) fn new(vcpu: &OwnedFd, signal: Signal) -> Result<Self, Error> {
        let page = Arc::new(RunPage::map(vcpu.as_fd())?);
        let installed = InstalledHandler::new(signal)?;
        let registration = HandlerRegistration::new(page, signal);
        let unblocked = Unblocked::new(signal)?;
        Ok(HandledSignal {
            taken: registration.slot().signals(),
            _unblocked: unblocked,
            registration,
            _installed: installed,
        })
    }

    /// Anything that the handler has seen may have been the timer.
    pub(crate) fn take(&mut self) -> bool {
        let slot = self.registration.slot();
        let taken_before = self.taken;
        loop {
            self.taken = slot.signals();
            slot.immediate_exit().store(0, Ordering::SeqCst);
            // A signal between these two lines would be forgotten by `immediate_exit`, not by the
            // count.
            if slot.signals() == self.taken {
                return self.taken != taken_before;
            }
        }
    }

    pub(crate) fn begin_completion(&self) {
        let immediate_exit = self.registration.slot().immediate_exit();
        immediate_exit.store(1, Ordering::SeqCst);
    }

    pub(crate) fn end_completion(&self) {
        let slot = self.registration.slot();
        slot.immediate_exit().store(0, Ordering::SeqCst);
        if slot.signals() != self.taken {
            slot.immediate_exit().store(1, Ordering::SeqCst);
        }
    }
}

impl Drop for HandledSignal {
    fn drop(&mut self) {
        self.registration
            .slot()
            .immediate_exit()
            .store(0, Ordering::SeqCst);
    }
}

/// Keeps a signal deliverable to this thread.
#[derive(Debug)]
struct Unblocked {
    signal: Signal,
    was_blocked: bool,
}

impl Unblocked {
    fn new(signal: Signal) -> Result<Self, Error> {
        let before = sys::set_blocked(signal, false)?;
        Ok(Unblocked {
            signal,
            was_blocked: before.contains(signal),
        })
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        if self.was_blocked {
            let _ = sys::set_blocked(self.signal, true);
        }
    }
}
