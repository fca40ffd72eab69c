//! Execution breakpoints that the VMM sets and the guest does not see.

use std::error::Error;

use crate::breakpoint_slots::SLOTS;

/// A vCPU's four breakpoint registers, as whoever runs it can use them.
pub trait Breakpoints {
    /// What can go wrong.
    type Error: Error + Send + Sync + 'static;

    /// What is known of an exit that a breakpoint may have caused.
    type Exit;

    /// Whether breakpoints stop a guest that runs at this privilege level, and can be stepped over.
    /// This has been tried out, not assumed: where they do not, the guest may get the exception.
    fn work_at(&self, cpl: u8) -> bool;

    /// Whether the guest has armed breakpoints of its own. They would do nothing while any are set
    /// here.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn guest_uses_debug_registers(&mut self) -> Result<bool, Self::Error>;

    /// Makes these linear addresses, and no others, exit before the instruction there is executed.
    ///
    /// # Errors
    /// If they cannot be set.
    fn set(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), Self::Error>;

    /// Lets the vCPU execute one instruction, the next, although it is watched.
    ///
    /// # Errors
    /// If that cannot be arranged.
    fn step_over(&mut self) -> Result<(), Self::Error>;

    /// What an exit means. This comes first after such an exit, before the vCPU is asked anything.
    ///
    /// # Errors
    /// If it cannot be dealt with.
    fn classify_exit(&mut self, exit: Self::Exit) -> Result<DebugExit, Self::Error>;
}

/// What an exit means that a breakpoint may have caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DebugExit {
    /// The vCPU is about to execute an instruction that is watched.
    Breakpoint {
        /// Its linear address.
        address: u64,
    },
    /// An instruction has been stepped over; there is nothing more to do.
    SteppedOver,
    /// The exception is the guest's own, and has been given to it.
    ForGuest,
}
