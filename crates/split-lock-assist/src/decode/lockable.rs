//! Instructions that lock their operand, wherever it lies.

use iced_x86::{DecoderError, DecoderOptions, Instruction as Iced, OpKind};

use super::address::Operand;
use super::{Fault, Instruction, LockedAccess, Operation, Source, read};
use crate::cpu::{Context, Registers};

/// A locked access, apart from where its operand lies.
#[derive(Debug, Clone)]
pub(super) struct Lockable {
    pub(super) instruction: Instruction,
    operation: Operation,
    source: Source,
    operand: Operand,
    explicit: bool,
}

impl Lockable {
    /// `None` if it is none.
    pub(super) fn of(iced: &Iced, instruction: Instruction) -> Option<Self> {
        let operation = Operation::of(iced)?;
        let locks = iced.op0_kind() == OpKind::Memory
            && (iced.has_lock_prefix() || operation == Operation::Exchange);
        locks.then(|| Self {
            instruction,
            operation,
            source: Source::of(iced),
            operand: Operand::of(iced, instruction.mode()),
            explicit: iced.has_lock_prefix(),
        })
    }

    /// Of an instruction that was decoded before.
    pub(super) fn again(instruction: &Instruction) -> Option<Self> {
        let (rip, mode) = (instruction.rip(), instruction.mode());
        let (iced, error) = read(instruction.bytes(), rip, mode, DecoderOptions::NONE);
        if error != DecoderError::None {
            return None;
        }
        Self::of(&iced, *instruction)
    }

    pub(super) fn access(
        &self,
        registers: &Registers,
        context: &Context,
    ) -> Result<LockedAccess, Fault> {
        let (operation, source) = (self.operation, self.source);
        let operand = &self.operand;
        let address = operand.linear(operation, source, registers, context)?;
        Ok(LockedAccess {
            instruction: self.instruction,
            operation,
            source,
            address,
            size: operand.size,
            explicit: self.explicit,
        })
    }
}
