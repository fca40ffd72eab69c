//! How a vCPU is forced out.

use crate::{Signal, SignalSet};

/// Which signal forces a vCPU out, and how. The default is right unless something in the process
/// speaks against it.
///
/// ```
/// use kvm_preemption_timer::{Config, Mechanism, Signal};
///
/// let config = Config::new()
///     .signal(Signal::realtime(4)?)
///     .mechanism(Mechanism::MaskedSignal);
/// # Ok::<_, kvm_preemption_timer::UnusableSignal>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Config {
    /// The signal. vCPUs on different threads can use the same one.
    pub signal: Signal,
    /// How the signal forces the vCPU out.
    pub mechanism: Mechanism,
    /// What the VMM has given to KVM_SET_SIGNAL_MASK for this vCPU, if it has. KVM does not tell, so
    /// the VMM has to: a mask that blocks the signal and that nobody tells of would keep deadlines from
    /// ending runs.
    pub kvm_mask: Option<SignalSet>,
}

impl Config {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this signal.
    #[must_use]
    pub const fn signal(self, signal: Signal) -> Self {
        Config { signal, ..self }
    }

    /// With this mechanism.
    #[must_use]
    pub const fn mechanism(self, mechanism: Mechanism) -> Self {
        Config { mechanism, ..self }
    }

    /// For a vCPU that the VMM has given this signal mask by KVM_SET_SIGNAL_MASK. While the vCPU is
    /// bound it stays in force, less this crate's signal; afterwards it is the VMM's own again. A VMM
    /// that gives its vCPU another mask binds it anew.
    #[must_use]
    pub const fn kvm_mask(self, mask: SignalSet) -> Self {
        Config {
            kvm_mask: Some(mask),
            ..self
        }
    }
}

/// How a signal forces a vCPU out of KVM_RUN. Both ways keep all promises of this crate.
///
/// They differ in what they need for themselves. In user space the signal is delivered with
/// [`Mechanism::ImmediateExit`], and so interrupts system calls that are not restarted (`nanosleep`,
/// `poll`) when the deadline passes while the VMM handles an exit; with [`Mechanism::MaskedSignal`] it
/// never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// The signal is delivered to a handler, which tells KVM to leave the guest, or not to enter it,
    /// by a bit of its own in `kvm_run.immediate_exit` (Linux 4.13). KVM's signal mask stays as the VMM has it,
    /// except that a [`Config::kvm_mask`] which blocks the signal is set without it.
    ///
    /// If the thread blocks the signal after binding, or somebody takes the handler out, that is undone
    /// with the next new deadline or after the next interruption; until then nothing ends a run.
    #[default]
    ImmediateExit,
    /// The thread blocks the signal, KVM unblocks it while the vCPU runs (KVM_SET_SIGNAL_MASK), and
    /// it is consumed without being delivered. The thread cannot block it away, also not with the
    /// same deadline.
    ///
    /// KVM's mask is set to [`Config::kvm_mask`] without the signal. If there is none it is set to the
    /// thread's own mask without the signal, and follows it with each new deadline and after each
    /// interruption; so a VMM that has a mask in KVM has to say so.
    MaskedSignal,
}
