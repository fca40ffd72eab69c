//! What a thread waits through, and what ends the wait.

/// What may end a wait early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Any signal.
    Interruptible,
    /// Only one that kills.
    Killable,
    /// Nothing.
    Uninterruptible,
}

/// A signal, as far as waits care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// One that is handled, or kicks a vCPU out of KVM_RUN.
    Ordinary,
    /// One that kills.
    Fatal,
}

impl Wait {
    /// Whether this signal ends this wait.
    #[must_use]
    pub const fn ends_on(self, signal: Signal) -> bool {
        match self {
            Self::Interruptible => true,
            Self::Killable => matches!(signal, Signal::Fatal),
            Self::Uninterruptible => false,
        }
    }
}
