//! Where a locked instruction's operand lies, as far as the known registers tell.

use std::fmt;

use iced_x86::{self as iced, Decoder, DecoderOptions, Mnemonic, OpKind};

use super::registers::Register;
use super::{KnownRegisters, PartialValue};
use crate::cpu::{Gpr, Mode, SegmentRegister};
use crate::decode::{Instruction, PAGE_BYTES};

/// The memory operand of an instruction, as a sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// How many bytes it has.
    pub bytes: u64,
    /// The instruction has a LOCK prefix.
    pub has_lock_prefix: bool,
    /// CMPXCHG16B: where it is not aligned to its size it faults.
    pub must_be_aligned: bool,
    terms: Vec<Term>,
    displacement: u64,
}

/// What a register adds to the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    register: Register,
    factor: Factor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Factor {
    Times(u64),
    /// The register chooses a bit of a string of bits: how far into it the operand of so many bytes
    /// lies that has the bit in it.
    BitString(u64),
}

impl Operand {
    /// The operand that `instruction` would lock, or locks; `None` if its destination is no memory.
    #[must_use]
    pub fn of(instruction: &Instruction) -> Option<Self> {
        let (mode, rip) = (instruction.mode(), instruction.rip());
        let options = DecoderOptions::NO_INVALID_CHECK;
        let iced = Decoder::with_ip(mode.bits(), instruction.bytes(), rip, options).decode();
        if iced.op_count() == 0 || iced.op0_kind() != OpKind::Memory {
            return None;
        }
        let bytes = iced.memory_size().size() as u64;
        let once = |register| Term {
            register,
            factor: Factor::Times(1),
        };
        let mut terms: Vec<_> = base_of(&iced, mode).into_iter().collect();
        let mut displacement = displacement(&iced);
        if iced.is_ip_rel_memory_operand() {
            // It is an address already.
            displacement = displacement.wrapping_sub(rip);
            terms.push(once(Register::Rip));
        } else {
            terms.extend(general_purpose(iced.memory_base()).map(once));
            terms.extend(general_purpose(iced.memory_index()).map(|register| Term {
                register,
                factor: Factor::Times(iced.memory_index_scale().into()),
            }));
        }
        // BTS, BTR and BTC with a register take one bit of a string of bits that has no end.
        let is_bit = matches!(
            iced.mnemonic(),
            Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
        );
        if is_bit && iced.op1_kind() == OpKind::Register {
            terms.extend(general_purpose(iced.op1_register()).map(|register| Term {
                register,
                factor: Factor::BitString(bytes),
            }));
        }
        Some(Self {
            bytes,
            has_lock_prefix: iced.has_lock_prefix(),
            must_be_aligned: iced.mnemonic() == Mnemonic::Cmpxchg16b,
            terms,
            displacement,
        })
    }

    /// What would have to be known besides to say where it lies, by the names that a
    /// [`RegisterSetting`](super::RegisterSetting) takes.
    #[must_use]
    pub fn needs(&self, known: &KnownRegisters) -> Vec<String> {
        let mut needed: Vec<Register> = vec![];
        for term in self.terms.iter().filter(|term| !term.is_known(known)) {
            // A register can be in it twice, as RDI and as EDI.
            let twice = |other: &&mut Register| other.overlaps(term.register);
            match needed.iter_mut().find(twice) {
                Some(other) if other.bits() < term.register.bits() => *other = term.register,
                Some(_) => {}
                None => needed.push(term.register),
            }
        }
        needed.iter().map(ToString::to_string).collect()
    }

    /// The lowest bits of its linear address, at most those of an offset in a page.
    #[must_use]
    pub fn low_bits(&self, known: &KnownRegisters) -> PartialValue {
        self.sum_of(known, |_| true)
    }

    /// The register whose value is all that is missing and goes into the address as it is, and what
    /// can be said of everything else in the sum.
    #[must_use]
    pub fn single_unknown_term(&self, known: &KnownRegisters) -> Option<(String, PartialValue)> {
        let mut unknown = self.terms.iter().filter(|term| !term.is_known(known));
        let (Some(term), None) = (unknown.next(), unknown.next()) else {
            return None;
        };
        let nothing_known = known.get(term.register).bits == 0;
        (term.factor == Factor::Times(1) && nothing_known).then(|| {
            let rest = self.sum_of(known, |other| other != term);
            (term.register.to_string(), rest)
        })
    }

    fn sum_of(&self, known: &KnownRegisters, counts: impl Fn(&Term) -> bool) -> PartialValue {
        let displacement = PartialValue::from(Some(self.displacement)).lowest(PAGE_BYTES.ilog2());
        let terms = self.terms.iter().filter(|term| counts(term));
        terms.fold(displacement, |sum, term| {
            let PartialValue { value, bits } = term.value(known);
            PartialValue {
                value: sum.value.wrapping_add(value),
                ..sum
            }
            .lowest(bits)
        })
    }

    /// As in `fs_base + rax + 8*rcx + 0x10`. A segment that is known to begin at 0 is left out.
    #[must_use]
    pub fn sum(&self, known: &KnownRegisters) -> String {
        let is_nothing = |register: Register| {
            let zero = PartialValue::from(Some(0));
            matches!(register, Register::Base(_)) && known.get(register) == zero
        };
        let terms = self.terms.iter().filter(|term| !is_nothing(term.register));
        let terms: Vec<_> = terms.map(ToString::to_string).collect();
        let sum = terms.join(" + ");
        match (sum.is_empty(), self.displacement.cast_signed()) {
            // By itself it is an address, and no distance.
            (true, _) => format!("{:#x}", self.displacement),
            (false, 0) => sum,
            (false, below @ ..0) => format!("{sum} - {:#x}", below.unsigned_abs()),
            (false, above) => format!("{sum} + {above:#x}"),
        }
    }
}

/// The displacement, with its sign where it is a distance from what registers hold.
fn displacement(iced: &iced::Instruction) -> u64 {
    let displacement = iced.memory_displacement64();
    match (iced.memory_base(), iced.memory_index()) {
        (iced::Register::None, iced::Register::None) => displacement,
        (iced::Register::None, register) | (register, _) => {
            sign_extended(displacement, 8 * register.size() as u32).cast_unsigned()
        }
    }
}

/// The segment whose base counts. In 64-bit mode that is FS or GS or none.
fn base_of(iced: &iced::Instruction, mode: Mode) -> Option<Term> {
    let segment = match mode {
        Mode::Bits64 => iced.segment_prefix(),
        Mode::Bits16 | Mode::Bits32 => iced.memory_segment(),
    };
    let segment = match segment {
        iced::Register::FS => SegmentRegister::Fs,
        iced::Register::GS => SegmentRegister::Gs,
        _ if mode == Mode::Bits64 => return None,
        iced::Register::ES => SegmentRegister::Es,
        iced::Register::CS => SegmentRegister::Cs,
        iced::Register::SS => SegmentRegister::Ss,
        _ => SegmentRegister::Ds,
    };
    Some(Term {
        register: Register::Base(segment),
        factor: Factor::Times(1),
    })
}

fn general_purpose(register: iced::Register) -> Option<Register> {
    let full = register.full_register();
    let bits = 8 * register.size() as u32;
    full.is_gpr64()
        .then(|| Register::Gpr(Gpr::ALL[full.number()], bits))
}

impl Term {
    fn is_known(&self, known: &KnownRegisters) -> bool {
        known.get(self.register).bits == self.register.bits()
    }

    /// What it adds: the bits above those that are known are anything.
    fn value(&self, known: &KnownRegisters) -> PartialValue {
        let PartialValue { value, bits } = known.get(self.register);
        match self.factor {
            Factor::Times(by) => PartialValue {
                value: value.wrapping_mul(by),
                bits: bits + by.ilog2(),
            },
            Factor::BitString(operand_bytes) => {
                // Above the bits that are known comes what they are missing, or the sign. They are
                // whole operands at least.
                let (value, bits) = match self.is_known(known) {
                    true => (sign_extended(value, bits), u64::BITS),
                    false => (
                        value.cast_signed(),
                        bits.saturating_sub(3).max(operand_bytes.ilog2()),
                    ),
                };
                let operand_bytes = operand_bytes.cast_signed();
                let offset = value.div_euclid(8 * operand_bytes) * operand_bytes;
                PartialValue {
                    value: offset.cast_unsigned(),
                    bits,
                }
            }
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let register = self.register;
        match self.factor {
            Factor::Times(1) => write!(out, "{register}"),
            Factor::Times(by) => write!(out, "{by}*{register}"),
            Factor::BitString(bytes) => write!(out, "{bytes}*floor({register}/{})", 8 * bytes),
        }
    }
}

fn sign_extended(value: u64, bits: u32) -> i64 {
    let unused = u64::BITS - bits;
    (value << unused).cast_signed() >> unused
}

#[cfg(test)]
mod tests {
    use std::array;

    use proptest::prelude::*;

    use super::*;
    use crate::decode::{Decoded, decode};

    fn known(settings: &[&str], mode: Mode) -> KnownRegisters {
        let settings: Vec<_> = settings.iter().map(|text| text.parse().unwrap()).collect();
        KnownRegisters::new(&settings, None, mode).unwrap()
    }

    fn operand(bytes: &[u8], known: &KnownRegisters, mode: Mode) -> Operand {
        match decode(bytes, &known.registers(), &known.context(mode)) {
            Decoded::Locked(access) => Operand::of(access.instruction()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sums_are_written_as_they_are_added() {
        use Mode::{Bits16, Bits32, Bits64};
        const INC: &[u8] = &[0xf0, 0xff, 0x00];
        let in_64_bits: [(&[u8], _, _); _] = [
            (INC, "rax", "rax"),
            (&[0xf0, 0xff, 0x43, 0x13], "rbx + 0x13", "rbx"),
            (
                // lock inc dword ptr fs:[rax+8*rcx-0x10]
                &[0x64, 0xf0, 0xff, 0x44, 0xc8, 0xf0],
                "fs_base + rax + 8*rcx - 0x10",
                "fs_base rax rcx",
            ),
            (
                // lock bts [rsi],rdi
                &[0xf0, 0x48, 0x0f, 0xab, 0x3e],
                "rsi + 8*floor(rdi/64)",
                "rsi rdi",
            ),
            (
                // lock bts dword ptr [rdi+rsi],edi
                &[0xf0, 0x0f, 0xab, 0x3c, 0x37],
                "rdi + rsi + 4*floor(edi/32)",
                "rdi rsi",
            ),
            (
                // lock bts qword ptr [edi],rdi
                &[0x67, 0xf0, 0x48, 0x0f, 0xab, 0x3f],
                "edi + 8*floor(rdi/64)",
                "rdi",
            ),
            // lock inc dword ptr [rip+0x100], which counts from the next instruction on
            (&[0xf0, 0xff, 0x05, 0, 1, 0, 0], "rip + 0x107", "rip"),
            // lock inc dword ptr [0x404040]
            (&[0xf0, 0xff, 4, 0x25, 0x40, 0x40, 0x40, 0], "0x404040", ""),
            // The prefix of ES counts for nothing in 64-bit mode.
            (&[0x26, 0xf0, 0xff, 0x00], "rax", "rax"),
        ];
        let others: [(&[u8], _, _, _); _] = [
            (INC, Bits32, "eax", "eax"),
            (INC, Bits16, "ds_base + bx + si", "ds_base bx si"),
            (
                // lock inc word ptr [bx+si-0x10]
                &[0xf0, 0xff, 0x40, 0xf0],
                Bits16,
                "ds_base + bx + si - 0x10",
                "ds_base bx si",
            ),
        ];
        let in_64_bits = in_64_bits.map(|(bytes, sum, needs)| (bytes, Bits64, sum, needs));
        for (bytes, mode, sum, needs) in in_64_bits.into_iter().chain(others) {
            let known = known(&[], mode);
            let operand = operand(bytes, &known, mode);
            assert_eq!(operand.sum(&known), sum);
            assert_eq!(operand.needs(&known).join(" "), needs, "{sum}");
        }
    }

    #[test]
    fn what_is_known_of_a_part_is_known_of_the_address() {
        let bts = [0xf0, 0x48, 0x0f, 0xab, 0x3e];
        for (settings, bits, value) in [
            (&[][..], 0, 0),
            (&["rdi=0"], 0, 0),
            // Wherever RDI leads, it leads there in steps of eight bytes.
            (&["rsi=0x1003"], 3, 3),
            (&["rsi=0x1003", "dil=0xff"], 5, 3 + 24),
            (&["esi=0x1003", "edi=64"], 12, 0xb),
            (&["rsi=0x1003", "rdi=-1"], 12, 0xffb),
        ] {
            let known = known(settings, Mode::Bits64);
            let low_bits = operand(&bts, &known, Mode::Bits64).low_bits(&known);
            assert_eq!(low_bits, PartialValue { value, bits }, "{settings:?}");
        }
    }

    #[test]
    fn one_unknown_is_named_with_the_rest() {
        let inc = [0xf0, 0xff, 0x44, 0xc8, 0xf0];
        let single_unknown_term = |settings: &[&str]| {
            let known = known(settings, Mode::Bits64);
            operand(&inc, &known, Mode::Bits64).single_unknown_term(&known)
        };
        let (register, rest) = single_unknown_term(&["rcx=3"]).unwrap();
        assert_eq!((register.as_str(), rest.value), ("rax", 8));
        // It is not RCX that decides, but eight times RCX.
        assert_eq!(single_unknown_term(&["rax=3"]), None);
        assert_eq!(single_unknown_term(&[]), None);
        assert_eq!(single_unknown_term(&["rax=1", "rcx=1"]), None);
    }

    /// What locks, with anything for a prefix and an operand.
    fn locked_instructions() -> impl Strategy<Value = Vec<u8>> {
        const PREFIXES: &[u8] = &[0x64, 0x65, 0x26, 0x2e, 0x66, 0x67];
        const OPCODES: &[u16] = &[
            0xff, 0x01, 0x86, 0x87, 0x0fab, 0x0fb3, 0x0fbb, 0x0fb1, 0x0fba, 0x0fc7,
        ];
        let prefix = proptest::option::of(proptest::sample::select(PREFIXES));
        let rex = proptest::option::of(0x40u8..0x50);
        let opcode = proptest::sample::select(OPCODES).prop_map(u16::to_be_bytes);
        let rest = proptest::collection::vec(any::<u8>(), 8);
        (prefix, rex, opcode, rest).prop_map(|(prefix, rex, opcode, rest)| {
            let start = prefix.into_iter().chain([0xf0]).chain(rex);
            let opcode = opcode.into_iter().skip_while(|&byte| byte == 0);
            start.chain(opcode).chain(rest).collect()
        })
    }

    proptest! {
        /// The sum is the address that the decoder finds, and leaving registers out makes it vaguer
        /// and not wrong.
        #[test]
        fn the_sum_is_the_address_that_the_decoder_finds(
            bytes in locked_instructions(),
            mode in proptest::sample::select(vec![Mode::Bits16, Mode::Bits32, Mode::Bits64]),
            values in proptest::array::uniform16(0u64..1 << 40),
            bits in proptest::array::uniform16(proptest::sample::select(vec![0u32, 8, 16, 32, 64])),
            rip in 0u64..1 << 31,
            bases in proptest::array::uniform6(0u64..1 << 20),
            left_out in any::<u8>(),
        ) {
            let all = KnownRegisters {
                gpr: values.map(|value| Some(value).into()),
                rip: Some(rip),
                bases: bases.map(Some),
                flags: None,
            };
            let context = all.context(mode);
            let Decoded::Locked(access) = decode(&bytes, &all.registers(), &context) else {
                return Ok(());
            };
            let operand = Operand::of(access.instruction()).unwrap();
            prop_assert_eq!(operand.bytes, access.size() as u64);
            prop_assert_eq!(operand.has_lock_prefix, access.has_lock_prefix());
            prop_assert!(operand.needs(&all).is_empty());
            let address = PartialValue::from(Some(access.address()));
            prop_assert_eq!(operand.low_bits(&all), address.lowest(12));

            let is_left_out = |n: usize| left_out >> n & 1 == 1;
            let some = KnownRegisters {
                gpr: array::from_fn(|n| all.gpr[n].lowest(bits[n])),
                rip: all.rip.filter(|_| !is_left_out(6)),
                bases: array::from_fn(|n| all.bases[n].filter(|_| !is_left_out(n))),
                flags: None,
            };
            let low_bits = operand.low_bits(&some);
            prop_assert_eq!(low_bits, address.lowest(low_bits.bits));
        }
    }
}
