//! Locked instructions, encoded by hand, and a reading of their addresses that owes nothing to the
//! library under test.

use split_lock_assist::cpu::{Gpr, Mode, SegmentRegister};

use super::random::Random;

/// What a ModRM byte can follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opcode {
    /// 0x0f comes first.
    escape: bool,
    byte: u8,
    /// The part of the opcode that is in ModRM, where no register is.
    digit: Option<u8>,
    operand: Operand,
    immediate: Immediate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Byte,
    /// 2, 4 or 8 bytes, by prefixes.
    Word,
    /// The same, in a string of bits.
    BitString,
    /// 8 or 16 bytes.
    Pair,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Immediate {
    None,
    Byte,
    /// As wide as the operand, but at most 4 bytes.
    Wide,
}

use Immediate::{Byte as Imm8, Wide};
use Operand::{BitString, Byte, Pair, Word};

impl Opcode {
    const fn new(byte: u8, operand: Operand) -> Self {
        Self {
            escape: false,
            byte,
            digit: None,
            operand,
            immediate: Immediate::None,
        }
    }

    /// After 0x0f.
    const fn escaped(byte: u8, operand: Operand) -> Self {
        let mut opcode = Self::new(byte, operand);
        opcode.escape = true;
        opcode
    }

    const fn digit(mut self, digit: u8) -> Self {
        self.digit = Some(digit);
        self
    }

    const fn immediate(mut self, immediate: Immediate) -> Self {
        self.immediate = immediate;
        self
    }
}

/// XCHG, which needs no LOCK.
pub(crate) const EXCHANGES: [Opcode; 2] = [Opcode::new(0x86, Byte), Opcode::new(0x87, Word)];

/// Everything that can be locked, in all its encodings.
pub(crate) fn lockable(mode: Mode) -> Vec<Opcode> {
    let mut all = EXCHANGES.to_vec();
    // ADD, OR, ADC, SBB, AND, SUB, XOR.
    for n in 0..7 {
        all.extend([
            Opcode::new(8 * n, Byte),
            Opcode::new(8 * n + 1, Word),
            Opcode::new(0x80, Byte).digit(n).immediate(Imm8),
            Opcode::new(0x81, Word).digit(n).immediate(Wide),
            Opcode::new(0x83, Word).digit(n).immediate(Imm8),
        ]);
        if mode != Mode::Bits64 {
            all.push(Opcode::new(0x82, Byte).digit(n).immediate(Imm8));
        }
    }
    // INC and DEC in one group of opcodes, NOT and NEG in the other.
    for (byte, first) in [(0xfe, 0), (0xf6, 2)] {
        for digit in [first, first + 1] {
            all.push(Opcode::new(byte, Byte).digit(digit));
            all.push(Opcode::new(byte + 1, Word).digit(digit));
        }
    }
    // CMPXCHG, XADD, and CMPXCHG8B with its greater sister.
    for byte in [0xb0, 0xc0] {
        all.push(Opcode::escaped(byte, Byte));
        all.push(Opcode::escaped(byte + 1, Word));
    }
    all.push(Opcode::escaped(0xc7, Pair).digit(1));
    // BTS, BTR, BTC.
    for (digit, byte) in [(5, 0xab), (6, 0xb3), (7, 0xbb)] {
        all.push(Opcode::escaped(byte, BitString));
        all.push(Opcode::escaped(0xba, Word).digit(digit).immediate(Imm8));
    }
    all
}

/// Instructions in front of which LOCK is undefined.
pub(crate) const NOT_LOCKABLE: [Opcode; 11] = [
    // ADD to a register.
    Opcode::new(0x03, Word),
    // CMP.
    Opcode::new(0x38, Byte),
    Opcode::new(0x39, Word),
    Opcode::new(0x83, Word).digit(7).immediate(Imm8),
    // TEST.
    Opcode::new(0x84, Byte),
    // MOV.
    Opcode::new(0x89, Word),
    Opcode::new(0xc7, Word).digit(0).immediate(Wide),
    // MUL.
    Opcode::new(0xf7, Word).digit(4),
    // PUSH.
    Opcode::new(0xff, Word).digit(6),
    // BT.
    Opcode::escaped(0xa3, Word),
    Opcode::escaped(0xba, Word).digit(4).immediate(Imm8),
];

/// An instruction with a ModRM byte.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    mode: Mode,
    opcode: Opcode,
    /// LOCK, sizes, segments and REP, in any order.
    prefixes: Vec<u8>,
    rex: Option<u8>,
    modrm: u8,
    sib: u8,
    displacement: i32,
    immediate: u32,
}

/// What an address is made of.
#[derive(Debug, Clone, Copy)]
struct Parts {
    base: Option<Gpr>,
    index: Option<(Gpr, u64)>,
    relative_to_next: bool,
}

impl Encoding {
    /// Any operand in memory.
    pub(crate) fn random(random: &mut Random, mode: Mode, opcode: Opcode, lock: bool) -> Self {
        let mut prefixes = Vec::new();
        if lock {
            prefixes.push(0xf0);
        }
        if random.one_in(4) {
            prefixes.push(0x66);
        }
        if random.one_in(4) {
            prefixes.push(0x67);
        }
        if random.one_in(4) {
            prefixes.push(*random.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]));
        }
        if random.one_in(8) {
            prefixes.push(*random.pick(&[0xf2, 0xf3]));
        }
        for last in (1..prefixes.len()).rev() {
            prefixes.swap(last, random.below(last as u64 + 1) as usize);
        }
        let register = opcode.digit.unwrap_or(random.below(8) as u8);
        let rex = (mode == Mode::Bits64 && random.one_in(2)).then(|| 0x40 | random.below(16) as u8);
        Self {
            mode,
            opcode,
            prefixes,
            rex,
            modrm: (random.below(3) << 6) as u8 | register << 3 | random.below(8) as u8,
            sib: random.next() as u8,
            displacement: random.value() as i32,
            immediate: random.value() as u32,
        }
    }

    /// The same with a register in the operand's place.
    pub(crate) fn with_register_destination(mut self) -> Self {
        self.modrm |= 0xc0;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.prefixes.clone();
        bytes.extend(self.rex);
        bytes.extend(self.opcode.escape.then_some(0x0f));
        bytes.push(self.opcode.byte);
        bytes.push(self.modrm);
        if self.has_sib() {
            bytes.push(self.sib);
        }
        bytes.extend(&self.displacement.to_le_bytes()[..self.displacement_bytes()]);
        bytes.extend(&self.immediate.to_le_bytes()[..self.immediate_bytes()]);
        bytes
    }

    pub(crate) fn has_lock(&self) -> bool {
        self.prefixes.contains(&0xf0)
    }

    pub(crate) fn is_exchange(&self) -> bool {
        !self.opcode.escape && matches!(self.opcode.byte, 0x86 | 0x87)
    }

    pub(crate) fn is_compare_exchange(&self) -> bool {
        self.opcode.escape && matches!(self.opcode.byte, 0xb0 | 0xb1 | 0xc7)
    }

    pub(crate) fn is_pair(&self) -> bool {
        self.opcode.operand == Operand::Pair
    }

    /// How many bytes the operand has.
    pub(crate) fn operand_bytes(&self) -> usize {
        let wide = self.rex.is_some_and(|rex| rex & 8 != 0);
        match (self.opcode.operand, wide) {
            (Operand::Byte, _) => 1,
            (Operand::Pair, false) => 8,
            (Operand::Pair, true) => 16,
            (Operand::Word | Operand::BitString, true) => 8,
            (Operand::Word | Operand::BitString, false) => {
                let short = (self.mode == Mode::Bits16) != self.prefixes.contains(&0x66);
                if short { 2 } else { 4 }
            }
        }
    }

    pub(crate) fn address_bits(&self) -> u32 {
        match (self.mode, self.prefixes.contains(&0x67)) {
            (Mode::Bits64, false) => 64,
            (Mode::Bits16, false) | (Mode::Bits32, true) => 16,
            _ => 32,
        }
    }

    /// The segment that the operand is in.
    pub(crate) fn segment(&self) -> SegmentRegister {
        let long = self.mode == Mode::Bits64;
        let prefix = self.prefixes.iter().rev().find_map(|prefix| match prefix {
            0x26 if !long => Some(SegmentRegister::Es),
            0x2e if !long => Some(SegmentRegister::Cs),
            0x36 if !long => Some(SegmentRegister::Ss),
            0x3e if !long => Some(SegmentRegister::Ds),
            0x64 => Some(SegmentRegister::Fs),
            0x65 => Some(SegmentRegister::Gs),
            _ => None,
        });
        prefix.unwrap_or(match self.parts().base {
            Some(Gpr::Rsp | Gpr::Rbp) => SegmentRegister::Ss,
            _ => SegmentRegister::Ds,
        })
    }

    /// The operand's offset in its segment.
    pub(crate) fn offset(&self, gpr: &[u64; 16], rip: u64) -> u64 {
        let parts = self.parts();
        let mut offset = self.read_displacement().cast_unsigned();
        if parts.relative_to_next {
            offset = offset
                .wrapping_add(rip)
                .wrapping_add(self.bytes().len() as u64);
        }
        if let Some(base) = parts.base {
            offset = offset.wrapping_add(gpr[base as usize]);
        }
        if let Some((index, scale)) = parts.index {
            offset = offset.wrapping_add(gpr[index as usize].wrapping_mul(scale));
        }
        offset = offset.wrapping_add(self.bit_string_offset(gpr).cast_unsigned());
        self.truncate(offset)
    }

    /// Changes registers and displacement, as far as they allow it, until the operand is at
    /// `wanted`.
    pub(crate) fn aim(&mut self, gpr: &mut [u64; 16], rip: u64, wanted: u64) {
        // More than once, because a register can have several parts in the address.
        for _ in 0..8 {
            let missing = self.signed(wanted.wrapping_sub(self.offset(gpr, rip)));
            if missing == 0 {
                return;
            }
            self.move_by(gpr, missing);
        }
    }

    fn move_by(&mut self, gpr: &mut [u64; 16], missing: i64) {
        let parts = self.parts();
        let index = parts.index.map_or(0, |(_, scale)| scale.cast_signed());
        let (register, factor) = match (parts.base, parts.index) {
            (Some(base), Some((same, _))) if same == base => (Some(base), 1 + index),
            (Some(base), _) => (Some(base), 1),
            (None, Some((register, _))) => (Some(register), index),
            (None, None) => (None, 1),
        };
        match register {
            Some(register) if missing / factor != 0 => {
                let value = &mut gpr[register as usize];
                *value = value.wrapping_add((missing / factor).cast_unsigned());
            }
            _ => {
                let displacement = self.read_displacement().wrapping_add(missing);
                self.displacement = displacement as i32;
            }
        }
    }

    fn bit_string_offset(&self, gpr: &[u64; 16]) -> i64 {
        if self.opcode.operand != Operand::BitString {
            return 0;
        }
        let extension = self.rex.map_or(0, |rex| (rex & 4) << 1);
        let value = gpr[usize::from((self.modrm >> 3 & 7) | extension)];
        match self.operand_bytes() {
            2 => (i64::from(value as i16) >> 4) * 2,
            4 => (i64::from(value as i32) >> 5) * 4,
            _ => (value.cast_signed() >> 6) * 8,
        }
    }

    fn parts(&self) -> Parts {
        if self.address_bits() == 16 {
            return self.parts_of_16_bits();
        }
        let (mode, rm) = (self.modrm >> 6, self.modrm & 7);
        let extended = |bit: u8, low: u8| {
            let high = self.rex.map_or(0, |rex| if rex & bit != 0 { 8 } else { 0 });
            Gpr::ALL[usize::from(low | high)]
        };
        if self.has_sib() {
            let index = extended(2, self.sib >> 3 & 7);
            return Parts {
                base: (mode != 0 || self.sib & 7 != 5).then(|| extended(1, self.sib & 7)),
                index: (index != Gpr::Rsp).then_some((index, 1 << (self.sib >> 6))),
                relative_to_next: false,
            };
        }
        let displacement_only = mode == 0 && rm == 5;
        Parts {
            base: (!displacement_only).then(|| extended(1, rm)),
            index: None,
            relative_to_next: displacement_only && self.mode == Mode::Bits64,
        }
    }

    fn parts_of_16_bits(&self) -> Parts {
        let (base, index) = match self.modrm & 7 {
            0 => (Gpr::Rbx, Some(Gpr::Rsi)),
            1 => (Gpr::Rbx, Some(Gpr::Rdi)),
            2 => (Gpr::Rbp, Some(Gpr::Rsi)),
            3 => (Gpr::Rbp, Some(Gpr::Rdi)),
            4 => (Gpr::Rsi, None),
            5 => (Gpr::Rdi, None),
            6 => (Gpr::Rbp, None),
            _ => (Gpr::Rbx, None),
        };
        Parts {
            base: (self.modrm & 0xc7 != 6).then_some(base),
            index: index.map(|index| (index, 1)),
            relative_to_next: false,
        }
    }

    fn has_sib(&self) -> bool {
        self.address_bits() != 16 && self.modrm & 7 == 4 && self.modrm >> 6 != 3
    }

    fn displacement_bytes(&self) -> usize {
        let short = self.address_bits() == 16;
        let without_base = match short {
            true => self.modrm & 7 == 6,
            false => self.modrm & 7 == 5 || (self.has_sib() && self.sib & 7 == 5),
        };
        match self.modrm >> 6 {
            0 if !without_base => 0,
            0 | 2 if short => 2,
            0 | 2 => 4,
            1 => 1,
            _ => 0,
        }
    }

    fn read_displacement(&self) -> i64 {
        match self.displacement_bytes() {
            0 => 0,
            1 => i64::from(self.displacement as i8),
            2 => i64::from(self.displacement as i16),
            _ => i64::from(self.displacement),
        }
    }

    fn immediate_bytes(&self) -> usize {
        match self.opcode.immediate {
            Immediate::None => 0,
            Immediate::Byte => 1,
            Immediate::Wide => self.operand_bytes().min(4),
        }
    }

    fn truncate(&self, offset: u64) -> u64 {
        offset & (u64::MAX >> (64 - self.address_bits()))
    }

    fn signed(&self, offset: u64) -> i64 {
        let unused = 64 - self.address_bits();
        (offset << unused).cast_signed() >> unused
    }
}
