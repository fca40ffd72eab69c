//! What a guard has to know of a vCPU, beyond its registers.

use crate::cpu::Cpu;

/// A vCPU that does not run at the moment, and what it is going to do.
pub trait Vcpu: Cpu {
    /// It waits for an interrupt, in HLT or because it was never started.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn is_halted(&self) -> Result<bool, Self::Error>;

    /// An exception or an interrupt is delivered before the next instruction is executed, or
    /// something else is between the two. An exception may come from that very instruction, which
    /// must not be done then.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn has_event(&self) -> Result<bool, Self::Error>;
}
