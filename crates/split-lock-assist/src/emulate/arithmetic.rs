//! Sums, differences and bitwise results with the flags that come with them.

use crate::cpu::rflags;

/// All that arithmetic sets.
pub(super) const STATUS: u64 = rflags::CARRY
    | rflags::PARITY
    | rflags::ADJUST
    | rflags::ZERO
    | rflags::SIGN
    | rflags::OVERFLOW;

/// How wide an operand is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Width {
    bits: u32,
}

/// A result and its status flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) value: u128,
    pub(super) flags: u64,
}

impl Width {
    /// Of an operand of 1, 2, 4, 8 or 16 bytes.
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self {
            bits: 8 * bytes as u32,
        }
    }

    pub(super) fn bits(self) -> u32 {
        self.bits
    }

    pub(super) fn truncate(self, value: u128) -> u128 {
        value & (u128::MAX >> (u128::BITS - self.bits))
    }

    pub(super) fn add(self, left: u128, right: u128, carry: bool) -> Outcome {
        let value = left.wrapping_add(right).wrapping_add(carry.into());
        // A column carries if both bits are set, or one of them is and a carry came in: then the
        // sum's bit is clear.
        let carries = (left & right) | ((left | right) & !value);
        let overflows = (left ^ value) & (right ^ value);
        self.outcome(value, carries, overflows)
    }

    pub(super) fn subtract(self, left: u128, right: u128, borrow: bool) -> Outcome {
        let value = left.wrapping_sub(right).wrapping_sub(borrow.into());
        let borrows = (!left & right) | ((!left | right) & value);
        let overflows = (left ^ right) & (left ^ value);
        self.outcome(value, borrows, overflows)
    }

    /// AND, OR and XOR clear carry and overflow; the adjust flag is undefined, and cleared.
    pub(super) fn bitwise(self, value: u128) -> Outcome {
        self.outcome(value, 0, 0)
    }

    /// `carries` and `overflows` have a bit for every column.
    fn outcome(self, value: u128, carries: u128, overflows: u128) -> Outcome {
        let value = self.truncate(value);
        let top = |columns: u128| columns >> (self.bits - 1) & 1 != 0;
        let flag = |flag, set| if set { flag } else { 0 };
        let flags = flag(rflags::CARRY, top(carries))
            | flag(rflags::PARITY, (value as u8).count_ones().is_multiple_of(2))
            | flag(rflags::ADJUST, carries & 8 != 0)
            | flag(rflags::ZERO, value == 0)
            | flag(rflags::SIGN, top(value))
            | flag(rflags::OVERFLOW, top(overflows));
        Outcome { value, flags }
    }
}
