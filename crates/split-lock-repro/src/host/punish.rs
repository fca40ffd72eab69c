//! What an emulated kernel does to a thread at its split lock, done by that thread to itself.

use std::io;
use std::sync::Arc;

use kvm_preemption_timer::MonotonicTime;
use nix::sys::signal::SigSet;

use super::kernel::{DetectionState, Kernel, NextStep};
use super::wait::{Waiter, Woken};

/// A thread that has one of the kernel's CPUs for itself.
#[derive(Debug)]
pub(crate) struct PunishedThread {
    kernel: Arc<Kernel>,
    cpu: u32,
    waiter: Waiter,
}

/// How a punishment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Punished {
    /// The instruction is tried again, whether detection is off by now or a signal came.
    Retry,
    /// The kernel sends SIGBUS.
    Sigbus,
}

impl PunishedThread {
    /// The calling thread, which blocks these signals: they end its waits, and stay pending.
    pub(crate) fn new(kernel: Arc<Kernel>, cpu: u32, signals: SigSet) -> io::Result<Self> {
        let waiter = Waiter::new(signals)?;
        Ok(Self {
            kernel,
            cpu,
            waiter,
        })
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    pub(crate) fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Whether its split lock would trap now.
    pub(crate) fn detection(&self) -> DetectionState {
        self.kernel.enter(self.cpu)
    }

    /// Its split lock has trapped: sleeps and waits as the kernel says, until the instruction is to be tried again.
    pub(crate) fn punish(&self) -> io::Result<Punished> {
        let mut next = self.kernel.trap(self.cpu, self.waiter.is_signal_pending()?);
        loop {
            next = match next {
                NextStep::Retry => return Ok(Punished::Retry),
                NextStep::Wait { until } => self.wait(until)?,
                NextStep::Sigbus => return Ok(Punished::Sigbus),
            };
        }
    }

    fn wait(&self, until: MonotonicTime) -> io::Result<NextStep> {
        if self.waiter.wait(until)? == Woken::BySignal {
            if let Some(next) = self.kernel.signal(self.cpu) {
                return Ok(next);
            }
            self.waiter.sleep(until)?;
        }
        let signal_pending = self.waiter.is_signal_pending()?;
        Ok(self.kernel.waited(self.cpu, signal_pending))
    }
}
