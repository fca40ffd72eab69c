//! The part of a general-purpose register that an operand names.

use iced_x86::Register;

use crate::cpu::{Gpr, Registers};

/// A general-purpose register as AL, AH, AX, EAX or RAX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RegisterPart {
    register: Gpr,
    bytes: u8,
    /// AH, CH, DH or BH.
    high: bool,
}

impl RegisterPart {
    /// The lowest `bytes` bytes of a register: 1, 2, 4 or 8.
    pub(crate) fn low(register: Gpr, bytes: usize) -> Self {
        Self {
            register,
            bytes: bytes as u8,
            high: false,
        }
    }

    /// None if it is not a general-purpose register.
    pub(super) fn of(iced: Register) -> Option<Self> {
        let full = iced.full_register();
        full.is_gpr64().then(|| Self {
            register: Gpr::ALL[full.number()],
            bytes: iced.size() as u8,
            high: matches!(
                iced,
                Register::AH | Register::CH | Register::DH | Register::BH
            ),
        })
    }

    pub(super) fn bytes(self) -> u8 {
        self.bytes
    }

    /// Zero-extended.
    pub(crate) fn read(self, registers: &Registers) -> u64 {
        (registers.get(self.register) >> self.shift()) & self.mask()
    }

    /// Sign-extended.
    pub(crate) fn read_signed(self, registers: &Registers) -> i64 {
        let unused = u64::BITS - 8 * u32::from(self.bytes);
        (self.read(registers) << unused).cast_signed() >> unused
    }

    /// A write of 32 bits clears the upper half; a smaller one leaves the rest alone.
    pub(crate) fn write(self, registers: &mut Registers, value: u64) {
        let kept = match self.bytes {
            4 | 8 => 0,
            _ => registers.get(self.register) & !(self.mask() << self.shift()),
        };
        registers.set(self.register, kept | (value & self.mask()) << self.shift());
    }

    fn shift(self) -> u32 {
        if self.high { 8 } else { 0 }
    }

    fn mask(self) -> u64 {
        u64::MAX >> (u64::BITS - 8 * u32::from(self.bytes))
    }
}
