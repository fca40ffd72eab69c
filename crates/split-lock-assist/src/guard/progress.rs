//! What a guard says about a run.

use std::fmt;
use std::time::Duration;

use super::vcpu::Inaccessible;
use crate::decode::{ImplicitLock, Instruction, LockedAccess};
use crate::emulate::Reason;

/// A vCPU's progress after a run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum VcpuProgress {
    /// As it should.
    Progressing,
    /// It halts, and so needs no CPU time.
    Idle,
    /// It got hardly any CPU time, and not because of a split lock: somebody else had the CPU, or it
    /// waits for something in the kernel.
    Starved,
    /// It got hardly any CPU time, and what it executes is not to be looked at.
    Inaccessible(Inaccessible),
    /// It got hardly any CPU time and is at a split lock again, but it has moved in between: each of
    /// them costs it a whole sleep of the kernel's.
    Slow(Stall),
    /// It got hardly any CPU time and has executed nothing: it is where it was, at a split lock.
    Stalled(Stall),
}

/// An instruction that a vCPU does not get past, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// The instruction.
    pub instruction: SplitInstruction,
    /// It has not been reported before.
    pub is_new: bool,
    /// What is done.
    pub response: Response,
}

/// An instruction that splits a lock.
///
/// Shown as a sentence's end: where it is, its text, its bytes, and its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitInstruction {
    /// A locked access to data that crosses a line.
    Access(LockedAccess),
    /// A lock that comes with another instruction and perhaps crosses a line. It cannot be emulated.
    Implicit {
        /// The instruction.
        instruction: Instruction,
        /// What it locks.
        lock: ImplicitLock,
    },
}

/// What is done about a stall.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Response {
    /// Nothing. It has been reported.
    Reported,
    /// The next run may last so long.
    Grace(Duration),
    /// The instruction has been emulated; whether it is watched from now on.
    Emulated {
        /// It is.
        watched: bool,
    },
    /// It could not be emulated, for this reason, and nothing else may be done.
    LeftToCpu(Reason),
    /// The kernel lets it through in the VMM's own time, which is the quickest way.
    LetThrough,
}

impl SplitInstruction {
    /// The instruction.
    #[must_use]
    pub fn instruction(&self) -> &Instruction {
        match self {
            Self::Access(access) => access.instruction(),
            Self::Implicit { instruction, .. } => instruction,
        }
    }
}

impl fmt::Display for SplitInstruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instruction = self.instruction();
        write!(f, "{:#x}: {instruction} (", instruction.rip())?;
        instruction.write_bytes(f)?;
        match self {
            Self::Access(access) => {
                let last = access.address().wrapping_add(access.size() as u64 - 1);
                let crosses = if access.crosses_page() {
                    "page"
                } else {
                    "cache line"
                };
                write!(
                    f,
                    "), whose operand from {:#x} to {last:#x} crosses a {crosses}",
                    access.address()
                )
            }
            Self::Implicit { lock, .. } => write!(f, "), which {lock}"),
        }
    }
}

impl VcpuProgress {
    /// The stall, if it is one.
    #[must_use]
    pub fn stall(&self) -> Option<&Stall> {
        match self {
            Self::Slow(stall) | Self::Stalled(stall) => Some(stall),
            Self::Progressing | Self::Idle | Self::Starved | Self::Inaccessible(_) => None,
        }
    }
}
