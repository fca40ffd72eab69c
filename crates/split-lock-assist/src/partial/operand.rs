//! Where a locked instruction's operand lies, as far as the known registers tell.

use std::fmt;

use crate::cpu::{Gpr, Mode, SegmentRegister};
use crate::decode::{Instruction, PAGE_BYTES};
use iced_x86::{Decoder, DecoderOptions, Instruction as Iced, Mnemonic, OpKind, Register};

use super::registers::{Known, Partial};

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

/// One term of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    /// Where a segment begins.
    Base(SegmentRegister),
    /// The address of the instruction itself.
    Rip,
    /// The lowest bits of a register, times something.
    Scaled { part: Part, by: u64 },
    /// A register that chooses a bit of a string of bits: how far into it the operand lies.
    Bit { part: Part, operand_bytes: u64 },
}

/// The lowest bits of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    gpr: Gpr,
    bits: u32,
}

/// A number of which is known what is left of it when it is divided by a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Residue {
    /// A power of two, at most the size of a page.
    pub modulus: u64,
    /// Less than that.
    pub value: u64,
}

impl Operand {
    /// The operand that `instruction` would lock, or locks; `None` if its destination is no memory.
    #[must_use]
    pub fn of(instruction: &Instruction) -> Option<Self> {
        let iced = read(instruction);
        if iced.op_count() == 0 || iced.op0_kind() != OpKind::Memory {
            return None;
        }
        let bytes = iced.memory_size().size() as u64;
        let mode = instruction.mode();
        let mut terms = vec![];
        terms.extend(base_of(&iced, mode).map(Term::Base));
        let mut displacement = displacement(&iced);
        if iced.is_ip_rel_memory_operand() {
            // It is an address already.
            displacement = displacement.wrapping_sub(instruction.rip());
            terms.push(Term::Rip);
        } else {
            let scaled = |register, by| {
                Some(Term::Scaled {
                    part: part(register)?,
                    by,
                })
            };
            terms.extend(scaled(iced.memory_base(), 1));
            let scale = u64::from(iced.memory_index_scale());
            terms.extend(scaled(iced.memory_index(), scale));
        }
        terms.extend(bit_of(&iced, bytes));
        Some(Self {
            bytes,
            has_lock_prefix: iced.has_lock_prefix(),
            must_be_aligned: iced.mnemonic() == Mnemonic::Cmpxchg16b,
            terms,
            displacement,
        })
    }

    /// What would have to be known besides, by the names that `--reg` takes, to say where it lies.
    #[must_use]
    pub fn needs(&self, known: &Known) -> Vec<String> {
        let mut needed: Vec<Term> = vec![];
        for &term in self.terms.iter().filter(|term| !term.is_known(known)) {
            // A register can be in it twice, as RDI and as EDI.
            let bits = |term: &Term| term.part().map(|part| part.bits);
            let gpr = |term: &Term| term.part().map(|part| part.gpr);
            let twice = |other: &&mut Term| gpr(other).is_some() && gpr(other) == gpr(&term);
            match needed.iter_mut().find(twice) {
                Some(other) if bits(other) < bits(&term) => *other = term,
                Some(_) => {}
                None => needed.push(term),
            }
        }
        needed.iter().map(Term::register).collect()
    }

    /// What can be said of its linear address.
    #[must_use]
    pub fn residue(&self, known: &Known) -> Residue {
        let parts = self.terms.iter().map(|term| term.residue(known));
        parts.fold(Residue::exactly(self.displacement), Residue::plus)
    }

    /// The register whose value is all that is missing and goes into the address as it is, and what
    /// can be said of everything else in the sum.
    #[must_use]
    pub fn the_unknown(&self, known: &Known) -> Option<(String, Residue)> {
        let mut unknown = self.terms.iter().filter(|term| !term.is_known(known));
        let (Some(term), None) = (unknown.next(), unknown.next()) else {
            return None;
        };
        let as_it_is = matches!(term, Term::Base(_) | Term::Rip | Term::Scaled { by: 1, .. });
        let rest = self.terms.iter().filter(|other| *other != term);
        let rest = rest
            .map(|term| term.residue(known))
            .fold(Residue::exactly(self.displacement), Residue::plus);
        let nothing_known = term.residue(known).modulus == 1;
        (as_it_is && nothing_known).then(|| (term.register(), rest))
    }

    /// As in `fs_base + rax + 8*rcx + 0x10`. A segment that is known to begin at 0 is left out.
    #[must_use]
    pub fn sum(&self, known: &Known) -> String {
        let is_nothing =
            |term: &Term| matches!(term, Term::Base(segment) if known.base(*segment) == Some(0));
        let terms = self.terms.iter().filter(|term| !is_nothing(term));
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

fn read(instruction: &Instruction) -> Iced {
    let mut decoder = Decoder::with_ip(
        instruction.mode().bits(),
        instruction.bytes(),
        instruction.rip(),
        DecoderOptions::NO_INVALID_CHECK,
    );
    decoder.decode()
}

/// The displacement, with its sign where it is a distance from what registers hold.
fn displacement(iced: &Iced) -> u64 {
    let displacement = iced.memory_displacement64();
    let address_bytes = match (iced.memory_base(), iced.memory_index()) {
        (Register::None, Register::None) => return displacement,
        (Register::None, register) | (register, _) => register.size() as u32,
    };
    sign_extended(displacement, 8 * address_bytes).cast_unsigned()
}

/// The segment whose base counts. In 64-bit mode that is FS or GS or none.
fn base_of(iced: &Iced, mode: Mode) -> Option<SegmentRegister> {
    let segment = match (mode, iced.segment_prefix()) {
        (Mode::Bits64, prefix) => prefix,
        _ => iced.memory_segment(),
    };
    Some(match segment {
        Register::FS => SegmentRegister::Fs,
        Register::GS => SegmentRegister::Gs,
        _ if mode == Mode::Bits64 => return None,
        Register::ES => SegmentRegister::Es,
        Register::CS => SegmentRegister::Cs,
        Register::SS => SegmentRegister::Ss,
        _ => SegmentRegister::Ds,
    })
}

/// BTS, BTR and BTC with a register take one bit of a string of bits that has no end.
fn bit_of(iced: &Iced, operand_bytes: u64) -> Option<Term> {
    let is_bit = matches!(
        iced.mnemonic(),
        Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
    );
    if !is_bit || iced.op1_kind() != OpKind::Register {
        return None;
    }
    let part = part(iced.op1_register())?;
    Some(Term::Bit {
        part,
        operand_bytes,
    })
}

fn part(register: Register) -> Option<Part> {
    let full = register.full_register();
    full.is_gpr64().then(|| Part {
        gpr: Gpr::ALL[full.number()],
        bits: 8 * register.size() as u32,
    })
}

impl Part {
    fn of(self, known: &Known) -> Partial {
        let Partial { value, bits } = known.gpr(self.gpr);
        let bits = bits.min(self.bits);
        Partial {
            value: value & low(bits),
            bits,
        }
    }

    fn name(self) -> String {
        let full = format!("{:?}", self.gpr).to_ascii_lowercase();
        match (self.bits, self.gpr as u8) {
            (64, _) => full,
            (32, 0..8) => format!("e{}", &full[1..]),
            (_, 0..8) => full[1..].to_owned(),
            (32, _) => format!("{full}d"),
            _ => format!("{full}w"),
        }
    }
}

impl Term {
    /// What it is made of, if that is a general-purpose register.
    fn part(&self) -> Option<Part> {
        match self {
            Self::Base(_) | Self::Rip => None,
            Self::Scaled { part, .. } | Self::Bit { part, .. } => Some(*part),
        }
    }

    fn is_known(&self, known: &Known) -> bool {
        match self {
            Self::Base(segment) => known.base(*segment).is_some(),
            Self::Rip => known.rip.is_some(),
            Self::Scaled { part, .. } | Self::Bit { part, .. } => part.of(known).bits == part.bits,
        }
    }

    /// Its name for `--reg`.
    fn register(&self) -> String {
        match self {
            Self::Base(segment) => base_name(*segment),
            Self::Rip => "rip".to_owned(),
            Self::Scaled { part, .. } | Self::Bit { part, .. } => part.name(),
        }
    }

    fn residue(&self, known: &Known) -> Residue {
        let whole = |value: Option<u64>| value.map_or(Residue::UNKNOWN, Residue::exactly);
        match *self {
            Self::Base(segment) => whole(known.base(segment)),
            Self::Rip => whole(known.rip),
            Self::Scaled { part, by } => {
                let Partial { value, bits } = part.of(known);
                Residue::new(value.wrapping_mul(by), bits + by.ilog2())
            }
            Self::Bit {
                part,
                operand_bytes,
            } => {
                let Partial { value, bits } = part.of(known);
                // Above the bits that are known comes what they are missing, or the sign.
                let value = if bits == part.bits {
                    sign_extended(value, bits)
                } else {
                    value.cast_signed()
                };
                let operand_bits = operand_bytes.cast_signed() * 8;
                let offset = value.div_euclid(operand_bits) * operand_bytes.cast_signed();
                let known_bits = match bits {
                    _ if bits == part.bits => u64::BITS,
                    // Whole operands at least.
                    _ => bits.saturating_sub(3).max(operand_bytes.ilog2()),
                };
                Residue::new(offset.cast_unsigned(), known_bits)
            }
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(_) | Self::Rip | Self::Scaled { by: 1, .. } => {
                out.write_str(&self.register())
            }
            Self::Scaled { part, by } => write!(out, "{by}*{}", part.name()),
            Self::Bit {
                part,
                operand_bytes,
            } => {
                let (name, operand_bits) = (part.name(), 8 * operand_bytes);
                write!(out, "{operand_bytes}*floor({name}/{operand_bits})")
            }
        }
    }
}

fn base_name(segment: SegmentRegister) -> String {
    format!("{segment:?}_base").to_ascii_lowercase()
}

fn low(bits: u32) -> u64 {
    u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0)
}

fn sign_extended(value: u64, bits: u32) -> i64 {
    let unused = u64::BITS - bits;
    (value << unused).cast_signed() >> unused
}

impl Residue {
    const UNKNOWN: Self = Self {
        modulus: 1,
        value: 0,
    };

    fn exactly(value: u64) -> Self {
        Self::new(value, u64::BITS)
    }

    /// The lowest `bits` bits of a number are those of `value`.
    fn new(value: u64, bits: u32) -> Self {
        let modulus = 1 << bits.min(PAGE_BYTES.ilog2());
        Self {
            modulus,
            value: value % modulus,
        }
    }

    fn plus(self, other: Self) -> Self {
        let modulus = self.modulus.min(other.modulus);
        Self {
            modulus,
            value: (self.value + other.value) % modulus,
        }
    }

    /// A number can leave `remainder` when it is divided by a power of two that is no larger than a
    /// page.
    #[must_use]
    pub fn allows(self, remainder: u64) -> bool {
        remainder % self.modulus == self.value
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::{Decoded, decode};
    use proptest::prelude::*;

    use super::*;

    fn operand(bytes: &[u8], known: &Known, mode: Mode) -> Option<Operand> {
        match decode(bytes, &known.registers(), &known.context(mode)) {
            Decoded::Locked(access) => Operand::of(access.instruction()),
            _ => None,
        }
    }

    fn known(settings: &[&str], mode: Mode) -> Known {
        let settings: Vec<_> = settings.iter().map(|text| text.parse().unwrap()).collect();
        Known::new(&settings, None, mode).unwrap()
    }

    #[test]
    fn sums_are_written_as_they_are_added() {
        for (bytes, mode, sum, needs) in [
            (&[0xf0, 0xff, 0x00][..], Mode::Bits64, "rax", &["rax"][..]),
            (
                &[0xf0, 0xff, 0x43, 0x13],
                Mode::Bits64,
                "rbx + 0x13",
                &["rbx"],
            ),
            (
                // lock inc dword ptr fs:[rax+8*rcx-0x10]
                &[0x64, 0xf0, 0xff, 0x44, 0xc8, 0xf0],
                Mode::Bits64,
                "fs_base + rax + 8*rcx - 0x10",
                &["fs_base", "rax", "rcx"],
            ),
            (
                // lock bts [rsi],rdi
                &[0xf0, 0x48, 0x0f, 0xab, 0x3e],
                Mode::Bits64,
                "rsi + 8*floor(rdi/64)",
                &["rsi", "rdi"],
            ),
            (
                // lock bts dword ptr [rdi+rsi],edi
                &[0xf0, 0x0f, 0xab, 0x3c, 0x37],
                Mode::Bits64,
                "rdi + rsi + 4*floor(edi/32)",
                &["rdi", "rsi"],
            ),
            (
                // lock bts qword ptr [edi],rdi
                &[0x67, 0xf0, 0x48, 0x0f, 0xab, 0x3f],
                Mode::Bits64,
                "edi + 8*floor(rdi/64)",
                &["rdi"],
            ),
            (
                // lock inc dword ptr [rip+0x100], which counts from the next instruction on
                &[0xf0, 0xff, 0x05, 0x00, 0x01, 0x00, 0x00],
                Mode::Bits64,
                "rip + 0x107",
                &["rip"],
            ),
            (
                // lock inc dword ptr [0x404040]
                &[0xf0, 0xff, 0x04, 0x25, 0x40, 0x40, 0x40, 0x00],
                Mode::Bits64,
                "0x404040",
                &[],
            ),
            (&[0xf0, 0xff, 0x00], Mode::Bits32, "eax", &["eax"]),
            (
                &[0xf0, 0xff, 0x00],
                Mode::Bits16,
                "ds_base + bx + si",
                &["ds_base", "bx", "si"],
            ),
            (
                // lock inc word ptr [bx+si-0x10]
                &[0xf0, 0xff, 0x40, 0xf0],
                Mode::Bits16,
                "ds_base + bx + si - 0x10",
                &["ds_base", "bx", "si"],
            ),
            (
                // The prefix of ES counts for nothing in 64-bit mode.
                &[0x26, 0xf0, 0xff, 0x00],
                Mode::Bits64,
                "rax",
                &["rax"],
            ),
        ] {
            let known = known(&[], mode);
            let operand = operand(bytes, &known, mode).unwrap();
            assert_eq!(operand.sum(&known), sum);
            assert_eq!(operand.needs(&known), needs, "{sum}");
        }
    }

    #[test]
    fn what_is_known_of_a_part_is_known_of_the_address() {
        let bts = [0xf0, 0x48, 0x0f, 0xab, 0x3e];
        for (settings, modulus, value) in [
            (&[][..], 1, 0),
            (&["rdi=0"], 1, 0),
            // Wherever RDI leads, it leads there in steps of eight bytes.
            (&["rsi=0x1003"], 8, 3),
            (&["rsi=0x1003", "dil=0xff"], 32, 3 + 24),
            (&["esi=0x1003", "edi=64"], 4096, 0xb),
            (&["rsi=0x1003", "rdi=-1"], 4096, 0xffb),
        ] {
            let known = known(settings, Mode::Bits64);
            let operand = operand(&bts, &known, Mode::Bits64).unwrap();
            let residue = operand.residue(&known);
            assert_eq!(
                (residue.modulus, residue.value),
                (modulus, value),
                "{settings:?}"
            );
        }
    }

    #[test]
    fn one_unknown_is_named_with_the_rest() {
        let inc = [0xf0, 0xff, 0x44, 0xc8, 0xf0];
        let the_unknown = |settings: &[&str]| {
            let known = known(settings, Mode::Bits64);
            operand(&inc, &known, Mode::Bits64)
                .unwrap()
                .the_unknown(&known)
        };
        let (register, rest) = the_unknown(&["rcx=3"]).unwrap();
        assert_eq!((register.as_str(), rest.value), ("rax", 8));
        // It is not RCX that decides, but eight times RCX.
        assert_eq!(the_unknown(&["rax=3"]), None);
        assert_eq!(the_unknown(&[]), None);
        assert_eq!(the_unknown(&["rax=1", "rcx=1"]), None);
    }

    fn modes() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::Bits16), Just(Mode::Bits32), Just(Mode::Bits64)]
    }

    /// What locks, with anything for a prefix and an operand.
    fn locked_instructions() -> impl Strategy<Value = Vec<u8>> {
        let prefixes = proptest::sample::select(vec![
            vec![],
            vec![0x64],
            vec![0x65],
            vec![0x26],
            vec![0x2e],
            vec![0x66],
            vec![0x67],
        ]);
        let opcodes = proptest::sample::select(vec![
            vec![0xff],
            vec![0x01],
            vec![0x86],
            vec![0x87],
            vec![0x0f, 0xab],
            vec![0x0f, 0xb3],
            vec![0x0f, 0xbb],
            vec![0x0f, 0xb1],
            vec![0x0f, 0xba],
            vec![0x0f, 0xc7],
        ]);
        let rex = proptest::option::of(0x40u8..0x50);
        let rest = proptest::collection::vec(any::<u8>(), 8);
        (prefixes, rex, opcodes, rest).prop_map(|(prefix, rex, opcode, rest)| {
            let rex: Vec<u8> = rex.into_iter().collect();
            [&prefix[..], &[0xf0], &rex, &opcode, &rest].concat()
        })
    }

    proptest! {
        /// The sum is the address that the decoder finds, and leaving registers out makes it vaguer
        /// and not wrong.
        #[test]
        fn the_sum_is_the_address_that_the_decoder_finds(
            bytes in locked_instructions(),
            mode in modes(),
            values in proptest::array::uniform16(0u64..1 << 40),
            rip in 0u64..1 << 31,
            bases in proptest::array::uniform6(0u64..1 << 20),
            left_out in any::<u32>(),
        ) {
            let all = Known::everything(values, rip, bases);
            let context = all.context(mode);
            let Decoded::Locked(access) = decode(&bytes, &all.registers(), &context) else {
                return Ok(());
            };
            let operand = Operand::of(access.instruction()).unwrap();
            prop_assert_eq!(operand.bytes, access.size() as u64);
            prop_assert_eq!(operand.has_lock_prefix, access.has_lock_prefix());
            prop_assert!(operand.needs(&all).is_empty());
            prop_assert_eq!(operand.residue(&all), Residue::exactly(access.address()));

            let some = all.without(left_out);
            let residue = operand.residue(&some);
            prop_assert!(residue.allows(access.address()), "{residue:?}");
        }
    }
}
