//! A signal that is blocked except while the vCPU runs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::ActiveMechanism;
use crate::sys::{self, KernelSigset, RunPage};
use crate::{Error, Signal};

/// Teardown consumes what is pending before the thread's mask is restored, so that nothing is
/// delivered to a process that does not expect it, and restores KVM's mask last.
#[derive(Debug)]
pub(crate) struct MaskedSignal {
    vcpu: OwnedFd,
    page: RunPage,
    signal: Signal,
    was_blocked: bool,
    /// What is blocked while the vCPU runs, as KVM was last told.
    mask_in_kvm: KernelSigset,
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
            mask_in_kvm: before.without(signal),
        };
        masked.page.immediate_exit().store(0, Ordering::Relaxed);
        sys::set_signal_mask(masked.vcpu.as_fd(), Some(masked.mask_in_kvm))?;
        Ok(masked)
    }

    /// Something else has interrupted the run. If it is a signal that the thread has blocked since
    /// KVM was told what to block, it stays pending, and would interrupt every further run.
    fn follow_thread_mask(&mut self) {
        let Ok(mask) = sys::thread_mask() else { return };
        let mask = mask.without(self.signal);
        let follows = mask == self.mask_in_kvm;
        if !follows && sys::set_signal_mask(self.vcpu.as_fd(), Some(mask)).is_ok() {
            self.mask_in_kvm = mask;
        }
    }
}

impl ActiveMechanism for MaskedSignal {
    fn take_signal(&mut self) -> bool {
        // Somebody else may have set it, and would keep the guest out for ever.
        self.page.immediate_exit().store(0, Ordering::Relaxed);
        match sys::receive(self.signal) {
            Some(received) => received.from_timer,
            None => {
                self.follow_thread_mask();
                false
            }
        }
    }

    fn begin_completion(&self) {
        self.page.immediate_exit().store(1, Ordering::Relaxed);
    }

    fn end_completion(&self) {
        self.page.immediate_exit().store(0, Ordering::Relaxed);
    }
}

impl Drop for MaskedSignal {
    fn drop(&mut self) {
        while sys::receive(self.signal).is_some() {}
        self.page.immediate_exit().store(0, Ordering::Relaxed);
        // Neither call fails for a thread and a vCPU for which it succeeded before, and there is
        // nobody left to tell.
        if !self.was_blocked {
            let _ = sys::set_blocked(self.signal, false);
        }
        let _ = sys::set_signal_mask(self.vcpu.as_fd(), None);
    }
}
