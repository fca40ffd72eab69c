//! The two ways in which a signal forces a vCPU out of KVM_RUN.

use std::os::fd::OwnedFd;

use crate::{Error, Signal};

mod handler;
mod masked;

use handler::HandledSignal;
use masked::MaskedSignal;

/// How a signal forces a vCPU out of KVM_RUN. Both ways keep all promises of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// The thread blocks the signal, KVM unblocks it while the vCPU runs (KVM_SET_SIGNAL_MASK), and
    /// it is consumed without ever being delivered. Nothing of it shows in the rest of the process.
    #[default]
    MaskedSignal,
    /// The signal is delivered to a handler, which tells KVM to leave the guest, or not to enter it,
    /// through `kvm_run.immediate_exit`. For sandboxes that do not allow KVM_SET_SIGNAL_MASK. The
    /// handler is the whole process's while at least one vCPU uses it.
    ImmediateExit,
}

/// A mechanism at work for one vCPU on one thread.
#[derive(Debug)]
pub(crate) enum Attached {
    Masked(MaskedSignal),
    Handled(HandledSignal),
}

impl Attached {
    pub(crate) fn new(mechanism: Mechanism, vcpu: OwnedFd, signal: Signal) -> Result<Self, Error> {
        match mechanism {
            Mechanism::MaskedSignal => MaskedSignal::new(vcpu, signal).map(Attached::Masked),
            Mechanism::ImmediateExit => HandledSignal::new(&vcpu, signal).map(Attached::Handled),
        }
    }

    /// Takes notice of one signal that has interrupted a run: says whether it may have been a
    /// timer's, and makes the next run possible.
    pub(crate) fn take_signal(&mut self) -> bool {
        match self {
            Attached::Masked(signal) => signal.take(),
            Attached::Handled(signal) => signal.take(),
        }
    }

    /// Makes the next KVM_RUN finish pending I/O and come back without entering the guest.
    pub(crate) fn begin_completion(&self) {
        match self {
            Attached::Masked(signal) => signal.begin_completion(),
            Attached::Handled(signal) => signal.begin_completion(),
        }
    }

    /// Back to ordinary runs. A signal that came meanwhile still interrupts the next one.
    pub(crate) fn end_completion(&self) {
        match self {
            Attached::Masked(signal) => signal.end_completion(),
            Attached::Handled(signal) => signal.end_completion(),
        }
    }
}
