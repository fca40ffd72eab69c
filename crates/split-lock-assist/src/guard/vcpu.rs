//! What a guard has to know of a vCPU, beyond its registers.

use std::fmt;

use crate::cpu::Cpu;

/// A vCPU that does not run at the moment, and what it is going to do.
pub trait Vcpu: Cpu {
    /// It waits for an interrupt, in HLT or because it was never started.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn is_halted(&self) -> Result<bool, Self::Error>;

    /// Why what the vCPU executes next is not to be looked at, if it is not. Asked before anything else.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn inaccessible(&self) -> Result<Option<Inaccessible>, Self::Error>;

    /// An exception or an interrupt is delivered before the next instruction is executed, or
    /// something else is between the two. An exception may come from that very instruction, which
    /// must not be done then.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn has_event(&self) -> Result<bool, Self::Error>;

    /// How often the thread that runs the vCPU has gone to sleep by itself so far, if that is known.
    ///
    /// The kernel's punishment is such a sleep; having to wait for a CPU is not. So a thread that has
    /// not slept has not been punished. Asked only after a run with little CPU time.
    fn voluntary_context_switches(&self) -> Option<u64>;
}

/// Why what a vCPU executes next is not to be looked at, nor done in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inaccessible {
    /// It is in a guest of its own guest: registers and page tables are that one's, and lead to other memory.
    NestedGuest,
    /// It is in system management mode, which sees other memory.
    SystemManagement,
    /// Its registers are not shown to the VMM.
    Confidential,
}

impl fmt::Display for Inaccessible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NestedGuest => "the vCPU is in a nested guest",
            Self::SystemManagement => "the vCPU is in system management mode",
            Self::Confidential => "the guest is confidential, and its registers are hidden",
        })
    }
}
