//! What a mechanism has to do while it is at work.

use std::fmt::Debug;

/// A mechanism at work for one vCPU on one thread.
pub(crate) trait ActiveMechanism: Debug {
    /// Takes notice of one signal that has interrupted a run: says whether it may have been a
    /// timer's, and makes the next run possible.
    fn take_signal(&mut self) -> bool;

    /// Makes the next KVM_RUN finish pending I/O and come back without entering the guest.
    fn begin_completion(&self);

    /// Back to ordinary runs. A signal that came meanwhile still interrupts the next one.
    fn end_completion(&self);
}
