//! How a vCPU is forced out.

use crate::Signal;

/// Which signal forces a vCPU out, and how. The default is right unless something in the process
/// speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Config {
    /// The signal. vCPUs on different threads can use the same one.
    pub signal: Signal,
    /// How the signal forces the vCPU out.
    pub mechanism: Mechanism,
}

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
