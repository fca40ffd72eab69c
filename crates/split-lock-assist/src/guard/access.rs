//! What a guard can ask of a vCPU, and do to it.

use std::error::Error;

use super::breakpoints::{Breakpoints, DebugExit};
use super::progress::SplitInstruction;
use super::vcpu::{Inaccessible, Vcpu};
use crate::breakpoint_slots::SLOTS;
use crate::cpu::Registers;
use crate::decode::{Decoded, RecentInstructions, decode_next};
use crate::emulate::{Emulated, emulate_split};
use crate::memory::Memory;
use crate::pause::Pause;

/// A vCPU that does not run at the moment, with everything that its
/// [`VcpuGuard`](super::VcpuGuard) needs.
///
/// [`VcpuParts`] is this, made of the parts that the rest of the crate knows.
pub trait VcpuAccess {
    /// What can go wrong whenever the vCPU is asked or changed.
    type Error: Error + Send + Sync + 'static;
    /// What is known of an exit that a breakpoint may have caused.
    type Exit;

    /// See [`Vcpu::is_halted`].
    fn is_halted(&self) -> Result<bool, Self::Error>;

    /// See [`Vcpu::inaccessible`].
    fn inaccessible(&self) -> Result<Option<Inaccessible>, Self::Error>;

    /// See [`Vcpu::has_event`].
    fn has_event(&self) -> Result<bool, Self::Error>;

    /// See [`Vcpu::voluntary_context_switches`].
    fn voluntary_context_switches(&self) -> Option<u64>;

    /// The registers.
    fn registers(&self) -> Result<Registers, Self::Error>;

    /// Where the next instruction is.
    fn code_position(&self) -> Result<CodePosition, Self::Error>;

    /// The next instruction, if it is going to split a lock, or perhaps going to.
    fn split_instruction(&mut self) -> Result<Option<SplitInstruction>, Self::Error>;

    /// Emulates the next instruction, if it is an access that splits a lock. If it fails, nothing has changed.
    fn emulate_split(
        &mut self,
        recent: &mut RecentInstructions,
    ) -> Result<Option<Emulated>, Self::Error>;

    /// See [`Breakpoints::work_at`].
    fn breakpoints_work_at(&self, cpl: u8) -> bool;

    /// See [`Breakpoints::guest_uses_debug_registers`].
    fn guest_uses_debug_registers(&mut self) -> Result<bool, Self::Error>;

    /// See [`Breakpoints::set`].
    fn set_breakpoints(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), Self::Error>;

    /// See [`Breakpoints::step_over`].
    fn step_over(&mut self) -> Result<(), Self::Error>;

    /// See [`Breakpoints::classify_exit`].
    fn classify_exit(&mut self, exit: Self::Exit) -> Result<DebugExit, Self::Error>;
}

/// Where an instruction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodePosition {
    /// Its linear address.
    pub address: u64,
    /// The privilege level that it is executed at.
    pub cpl: u8,
}

/// A vCPU that does not run at the moment, in its parts.
#[derive(Debug)]
pub struct VcpuParts<'a, C, M, P, B> {
    /// Its registers.
    pub cpu: C,
    /// Its memory.
    pub memory: M,
    /// The other vCPUs of its VM.
    pub others: &'a P,
    /// Its breakpoints.
    pub breakpoints: B,
}

impl<C, M, P, B> VcpuAccess for VcpuParts<'_, C, M, P, B>
where
    C: Vcpu,
    M: Memory,
    P: Pause,
    B: Breakpoints<Error = C::Error>,
{
    type Error = C::Error;
    type Exit = B::Exit;

    fn is_halted(&self) -> Result<bool, C::Error> {
        self.cpu.is_halted()
    }

    fn inaccessible(&self) -> Result<Option<Inaccessible>, C::Error> {
        self.cpu.inaccessible()
    }

    fn has_event(&self) -> Result<bool, C::Error> {
        self.cpu.has_event()
    }

    fn voluntary_context_switches(&self) -> Option<u64> {
        self.cpu.voluntary_context_switches()
    }

    fn registers(&self) -> Result<Registers, C::Error> {
        self.cpu.registers()
    }

    fn code_position(&self) -> Result<CodePosition, C::Error> {
        let context = self.cpu.context()?;
        Ok(CodePosition {
            address: context.code_address(self.cpu.registers()?.rip),
            cpl: context.cpl,
        })
    }

    fn split_instruction(&mut self) -> Result<Option<SplitInstruction>, C::Error> {
        Ok(match decode_next(&self.cpu, &mut self.memory)? {
            Decoded::Locked(access) if access.crosses_line() => {
                Some(SplitInstruction::Access(access))
            }
            Decoded::ImplicitLock { instruction, lock } => {
                Some(SplitInstruction::Implicit { instruction, lock })
            }
            _ => None,
        })
    }

    fn emulate_split(
        &mut self,
        recent: &mut RecentInstructions,
    ) -> Result<Option<Emulated>, C::Error> {
        emulate_split(&mut self.cpu, &mut self.memory, self.others, recent)
    }

    fn breakpoints_work_at(&self, cpl: u8) -> bool {
        self.breakpoints.work_at(cpl)
    }

    fn guest_uses_debug_registers(&mut self) -> Result<bool, C::Error> {
        self.breakpoints.guest_uses_debug_registers()
    }

    fn set_breakpoints(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), C::Error> {
        self.breakpoints.set(addresses)
    }

    fn step_over(&mut self) -> Result<(), C::Error> {
        self.breakpoints.step_over()
    }

    fn classify_exit(&mut self, exit: B::Exit) -> Result<DebugExit, C::Error> {
        self.breakpoints.classify_exit(exit)
    }
}
