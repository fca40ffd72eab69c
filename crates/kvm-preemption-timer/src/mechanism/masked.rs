//! A signal that is blocked except while the vCPU runs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::sys::{self, Received, RunPage};
use crate::{Error, Signal};

/// Teardown consumes what is pending before the thread's mask is restored, so that nothing is
/// delivered to a process that does not expect it, and restores KVM's mask last.
#[derive(Debug)]
pub(crate) struct MaskedSignal {
    vcpu: OwnedFd,
    page: RunPage,
    signal: Signal,
    was_blocked: bool,
}

impl MaskedSignal {
    pub(crate) fn new(vcpu: OwnedFd, signal: Signal) -> Result<Self, Error> {
        let page = RunPage::map(vcpu.as_fd())?;
        let before = sys::set_blocked(signal, true)?;
        // From here on, drop undoes what has been done, also when the next step fails.
        let masked = MaskedSignal {
            vcpu,
            page,
            signal,
            was_blocked: before.contains(signal),
        };
        sys::set_signal_mask(masked.vcpu.as_fd(), Some(before.without(signal)))?;
        Ok(masked)
    }

    pub(crate) fn take(&mut self) -> bool {
        sys::receive(self.signal) == Some(Received::FromTimer)
    }

    pub(crate) fn begin_completion(&self) {
        self.page.immediate_exit().store(1, Ordering::Relaxed);
    }

    pub(crate) fn end_completion(&self) {
        self.page.immediate_exit().store(0, Ordering::Relaxed);
    }
}

impl Drop for MaskedSignal {
    fn drop(&mut self) {
        while sys::receive(self.signal).is_some() {}
        // Neither call fails for a thread and a vCPU for which it succeeded before, and there is
        // nobody left to tell.
        if !self.was_blocked {
            let _ = sys::set_blocked(self.signal, false);
        }
        let _ = sys::set_signal_mask(self.vcpu.as_fd(), None);
    }
}
