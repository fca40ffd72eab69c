//! What a locked instruction does with its operand, and with what.

use iced_x86::{Instruction as Iced, Mnemonic, OpKind};

use super::RegisterPart;

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Add,
    AddWithCarry,
    And,
    Or,
    Subtract,
    SubtractWithBorrow,
    Xor,
    Increment,
    Decrement,
    Not,
    Negate,
    Exchange,
    ExchangeAdd,
    CompareExchange,
    /// CMPXCHG8B and CMPXCHG16B.
    CompareExchangePair,
    BitSet,
    BitReset,
    BitComplement,
}

/// The other operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// There is none, or the instruction implies it.
    None,
    Immediate(u64),
    Register(RegisterPart),
}

impl Operation {
    pub(super) fn of(iced: &Iced) -> Option<Self> {
        Some(match iced.mnemonic() {
            Mnemonic::Add => Self::Add,
            Mnemonic::Adc => Self::AddWithCarry,
            Mnemonic::And => Self::And,
            Mnemonic::Or => Self::Or,
            Mnemonic::Sub => Self::Subtract,
            Mnemonic::Sbb => Self::SubtractWithBorrow,
            Mnemonic::Xor => Self::Xor,
            Mnemonic::Inc => Self::Increment,
            Mnemonic::Dec => Self::Decrement,
            Mnemonic::Not => Self::Not,
            Mnemonic::Neg => Self::Negate,
            Mnemonic::Xchg => Self::Exchange,
            Mnemonic::Xadd => Self::ExchangeAdd,
            Mnemonic::Cmpxchg => Self::CompareExchange,
            Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b => Self::CompareExchangePair,
            Mnemonic::Bts => Self::BitSet,
            Mnemonic::Btr => Self::BitReset,
            Mnemonic::Btc => Self::BitComplement,
            _ => return None,
        })
    }

    /// With a register it takes one bit of a string of bits that has no end: the operand is the part
    /// of the string that has the bit in it.
    pub(super) fn addresses_bits(self) -> bool {
        matches!(self, Self::BitSet | Self::BitReset | Self::BitComplement)
    }
}

impl Source {
    pub(super) fn of(iced: &Iced) -> Self {
        if iced.op_count() < 2 {
            return Self::None;
        }
        match iced.op1_kind() {
            OpKind::Register => {
                RegisterPart::of(iced.op1_register()).map_or(Self::None, Self::Register)
            }
            _ => iced.try_immediate(1).map_or(Self::None, Self::Immediate),
        }
    }
}
