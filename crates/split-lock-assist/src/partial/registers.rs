//! What is known of a CPU's registers. What was not given is unknown, and not zero.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::cpu::{Context, Gpr, Mode, Registers, Segment, SegmentRegister};

/// A number of which the lowest bits are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartialValue {
    /// The bits that are known; zero in the others.
    pub value: u64,
    /// How many of them there are, 0 to 64.
    pub bits: u32,
}

/// A register as it can be given: all of it, or a part that has a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    /// The lowest 8, 16, 32 or 64 bits of a general-purpose register.
    Gpr(Gpr, u32),
    Rip,
    Flags,
    Base(SegmentRegister),
    /// What is in a segment register, which says where the segment is in real mode.
    Selector(SegmentRegister),
}

/// A register and its value, read from `NAME=VALUE`: `rsi=0x303c`, `edi=-1`, `fs_base=0x7000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterSetting {
    /// As it was written.
    text: String,
    register: Register,
    value: u64,
}

/// Why a register cannot have the value that it is given: a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SettingError(String);

/// What is known of the registers.
#[derive(Debug, Clone, Default)]
pub struct KnownRegisters {
    pub(super) gpr: [PartialValue; 16],
    /// The address of the instruction.
    pub rip: Option<u64>,
    /// RFLAGS, or as much of it as the name that was used for it has.
    pub flags: Option<u64>,
    pub(super) bases: [Option<u64>; 6],
}

impl PartialValue {
    /// What is known of the lowest `bits` bits.
    #[must_use]
    pub fn lowest(self, bits: u32) -> Self {
        let bits = bits.min(self.bits);
        let mask = u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0);
        Self {
            value: self.value & mask,
            bits,
        }
    }
}

impl From<Option<u64>> for PartialValue {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::default(), |value| Self { value, bits: 64 })
    }
}

impl KnownRegisters {
    /// What the settings say, for code of this kind. `rip` is the address of the instruction, if it is
    /// known otherwise.
    ///
    /// # Errors
    /// If something is given twice, or cannot be given for code of this kind.
    pub fn new(
        settings: &[RegisterSetting],
        rip: Option<u64>,
        mode: Mode,
    ) -> Result<Self, SettingError> {
        use SegmentRegister::{Cs, Ds, Es, Ss};
        let mut known = Self {
            rip,
            ..Self::default()
        };
        if mode == Mode::Bits32 {
            // Programs of 32 bits run in segments that begin at 0, all but those of FS and GS.
            for segment in [Cs, Ds, Es, Ss] {
                known.bases[segment as usize] = Some(0);
            }
        }
        for (n, setting) in settings.iter().enumerate() {
            let same = |other: &RegisterSetting| other.register.overlaps(setting.register);
            if settings[..n].iter().any(same) || setting.register == Register::Rip && rip.is_some()
            {
                let text = &setting.text;
                return wrong(format!("{text}: the same register is given already"));
            }
            known.set(setting, mode)?;
        }
        Ok(known)
    }

    fn set(&mut self, setting: &RegisterSetting, mode: Mode) -> Result<(), SettingError> {
        use SegmentRegister::{Fs, Gs};
        let RegisterSetting {
            ref text,
            register,
            value,
        } = *setting;
        match register {
            Register::Gpr(gpr, bits) => self.gpr[gpr as usize] = PartialValue { value, bits },
            Register::Rip => self.rip = Some(value),
            Register::Flags => self.flags = Some(value),
            Register::Base(segment) if mode == Mode::Bits64 && !matches!(segment, Fs | Gs) => {
                return wrong(format!("{text}: in 64-bit code only FS and GS have a base"));
            }
            Register::Base(segment) => self.bases[segment as usize] = Some(value),
            Register::Selector(segment) if mode == Mode::Bits16 => {
                self.bases[segment as usize] = Some(value << 4);
            }
            Register::Selector(_) => {
                return wrong(format!(
                    "{text}: only in 16-bit code (--bits 16) it says where a segment begins; otherwise \
                     give its base, such as fs_base=0x7f0000001000"
                ));
            }
        }
        Ok(())
    }

    /// What is known of a register that goes into an address.
    pub(super) fn get(&self, register: Register) -> PartialValue {
        match register {
            Register::Gpr(gpr, bits) => self.gpr[gpr as usize].lowest(bits),
            Register::Rip => self.rip.into(),
            Register::Base(segment) => self.bases[segment as usize].into(),
            Register::Flags | Register::Selector(_) => PartialValue::default(),
        }
    }

    /// All registers, with zeros in place of what is unknown.
    #[must_use]
    pub fn registers(&self) -> Registers {
        Registers {
            gpr: self.gpr.map(|partial| partial.value),
            rip: self.rip.unwrap_or(0),
            rflags: self.flags.unwrap_or(0),
        }
    }

    /// A program of that kind, with zeros in place of unknown bases.
    #[must_use]
    pub fn context(&self, mode: Mode) -> Context {
        let is_16 = mode == Mode::Bits16;
        let segments = self.bases.map(|base| Segment {
            base: base.unwrap_or(0),
            limit: if is_16 { 0xffff } else { u32::MAX },
            big: !is_16,
            ..Segment::FLAT
        });
        Context {
            mode,
            protected: !is_16,
            segments,
            ..Context::long_mode(3)
        }
    }
}

impl Register {
    fn parse(name: &str) -> Option<Self> {
        use SegmentRegister::{Cs, Ds, Es, Fs, Gs, Ss};
        let name = match &*name.to_ascii_lowercase() {
            "eip" | "ip" => return Some(Self::Rip),
            "eflags" | "flags" => return Some(Self::Flags),
            name => name.to_owned(),
        };
        let parts = |gpr| [64, 32, 16, 8].map(|bits| Self::Gpr(gpr, bits));
        let of_segment = |segment| [Self::Base(segment), Self::Selector(segment)];
        let mut all = Gpr::ALL
            .into_iter()
            .flat_map(parts)
            .chain([Es, Cs, Ss, Ds, Fs, Gs].into_iter().flat_map(of_segment))
            .chain([Self::Rip, Self::Flags]);
        all.find(|register| register.to_string() == name)
    }

    /// How many bits a value for it can have.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Gpr(_, bits) => bits,
            Self::Rip | Self::Flags | Self::Base(_) => 64,
            Self::Selector(_) => 16,
        }
    }

    /// They are parts of the same one, or both say where a segment is.
    pub(super) fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Gpr(one, _), Self::Gpr(other, _)) => one == other,
            (Self::Base(one) | Self::Selector(one), Self::Base(other) | Self::Selector(other)) => {
                one == other
            }
            (one, other) => one == other,
        }
    }
}

/// As disassemblers print it.
impl fmt::Display for Register {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&match *self {
            Self::Rip => "rip".to_owned(),
            Self::Flags => "rflags".to_owned(),
            Self::Base(segment) => format!("{segment}_base").to_ascii_lowercase(),
            Self::Selector(segment) => segment.to_string().to_ascii_lowercase(),
            Self::Gpr(gpr, bits) => {
                let full = format!("{gpr:?}").to_ascii_lowercase();
                let stem = &full[1..];
                match (bits, gpr as u8) {
                    (64, _) => full,
                    (32, 0..8) => format!("e{stem}"),
                    (16, 0..8) => stem.to_owned(),
                    (_, 0..4) => stem.replace('x', "l"),
                    (_, 4..8) => format!("{stem}l"),
                    (32, _) => format!("{full}d"),
                    (16, _) => format!("{full}w"),
                    _ => format!("{full}b"),
                }
            }
        })
    }
}

impl RegisterSetting {
    /// Whether both say something of the same register, or of parts of it.
    #[must_use]
    pub fn is_of_same_register(&self, other: &Self) -> bool {
        self.register.overlaps(other.register)
    }
}

impl FromStr for RegisterSetting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let Some((name, value)) = text.split_once('=') else {
            return wrong("a register is given as NAME=VALUE, such as rsi=0x303c".to_owned());
        };
        let name = name.trim();
        let Some(register) = Register::parse(name) else {
            return wrong(format!(
                "there is no register `{name}` that matters here: use rax to r15 or a part that is \
                 not ah to dh, rip, rflags, fs_base and the like"
            ));
        };
        Ok(Self {
            value: number(value.trim(), register.bits())?,
            register,
            text: text.to_owned(),
        })
    }
}

/// A number of at most so many bits; a negative one as the complement of two.
fn number(text: &str, bits: u32) -> Result<u64, SettingError> {
    let not_a_number = || {
        SettingError(format!(
            "`{text}` is not a number such as 0x303c, 12348 or -8"
        ))
    };
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    if !(hex.unwrap_or(digits).bytes()).all(|digit| digit.is_ascii_hexdigit()) {
        return Err(not_a_number());
    }
    let size = match hex {
        Some(hex) => u64::from_str_radix(hex, 16),
        // As kernels and debuggers print registers. Nobody means 12345678 by 0000000012345678.
        None if digits.len() > 1 && !is_decimal(digits) => {
            return wrong(format!("`{text}`: write 0x{digits} if that is hexadecimal"));
        }
        None => digits.parse(),
    };
    let size = size.map_err(|_| not_a_number())?;
    let all_ones = u64::MAX >> (64 - bits);
    match is_negative {
        true if size <= 1 << (bits - 1) => Ok(size.wrapping_neg() & all_ones),
        false if size <= all_ones => Ok(size),
        _ => wrong(format!("`{text}` does not fit into {bits} bits")),
    }
}

fn wrong<T>(sentence: String) -> Result<T, SettingError> {
    Err(SettingError(sentence))
}

fn is_decimal(digits: &str) -> bool {
    !digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(settings: &[&str], mode: Mode) -> Result<KnownRegisters, SettingError> {
        let settings: Vec<_> = settings.iter().map(|text| text.parse().unwrap()).collect();
        KnownRegisters::new(&settings, None, mode)
    }

    #[test]
    fn registers_have_the_names_that_disassemblers_print() {
        for (name, register) in [
            ("rax", Register::Gpr(Gpr::Rax, 64)),
            ("RSI", Register::Gpr(Gpr::Rsi, 64)),
            ("ebx", Register::Gpr(Gpr::Rbx, 32)),
            ("cx", Register::Gpr(Gpr::Rcx, 16)),
            ("dl", Register::Gpr(Gpr::Rdx, 8)),
            ("esp", Register::Gpr(Gpr::Rsp, 32)),
            ("bp", Register::Gpr(Gpr::Rbp, 16)),
            ("sil", Register::Gpr(Gpr::Rsi, 8)),
            ("r8", Register::Gpr(Gpr::R8, 64)),
            ("r15d", Register::Gpr(Gpr::R15, 32)),
            ("r9w", Register::Gpr(Gpr::R9, 16)),
            ("r10b", Register::Gpr(Gpr::R10, 8)),
            ("eip", Register::Rip),
            ("eflags", Register::Flags),
            ("gs_base", Register::Base(SegmentRegister::Gs)),
            ("es", Register::Selector(SegmentRegister::Es)),
        ] {
            assert_eq!(Register::parse(name), Some(register), "{name}");
        }
        for name in ["", "ah", "r16", "xmm0", "rsil", "cr0", "r8x"] {
            assert_eq!(Register::parse(name), None, "{name}");
        }
    }

    #[test]
    fn values_are_what_they_look_like_or_refused() {
        for (text, value) in [
            ("rax=12", 12),
            ("rax=0x0C", 12),
            (" rax = 0 ", 0),
            ("rax=0xffffffffffffffff", u64::MAX),
            ("rdi=-8", u64::MAX - 7),
            ("edi=-8", 0xffff_fff8),
            ("al=-128", 0x80),
        ] {
            let setting: RegisterSetting = text.parse().unwrap();
            assert_eq!(setting.value, value, "{text}");
        }
        for (text, part) in [
            ("rax", "NAME=VALUE"),
            ("ah=1", "no register `ah`"),
            ("rax=", "not a number"),
            ("rax=-", "not a number"),
            ("rax=0x", "not a number"),
            ("rax=+1", "not a number"),
            ("rax=x", "not a number"),
            ("rax=-303c", "`-303c`: write 0x303c"),
            ("rax=0000000000003030", "0x0000000000003030"),
            ("eax=0x100000000", "32 bits"),
            ("al=-129", "8 bits"),
            ("rax=0x10000000000000000", "not a number"),
        ] {
            let error = text.parse::<RegisterSetting>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_is_given_twice() {
        for pair in [
            ["rax=1", "rax=1"],
            ["rax=1", "al=1"],
            ["flags=1", "eflags=1"],
            ["gs=1", "gs_base=16"],
        ] {
            let error = known(&pair, Mode::Bits16).unwrap_err().to_string();
            assert!(error.starts_with(pair[1]), "{error}");
        }
        let rip = ["rip=1".parse().unwrap()];
        assert!(KnownRegisters::new(&rip, Some(1), Mode::Bits64).is_err());
        assert_eq!(known(&["rip=1"], Mode::Bits64).unwrap().rip, Some(1));
    }

    #[test]
    fn segments_begin_where_the_mode_says() {
        // In the order ES, CS, SS, DS, FS, GS.
        let bases = |settings, mode| known(settings, mode).unwrap().bases;
        let none = [None; 4];
        let in_64_bits = bases(&["fs_base=0x7000"], Mode::Bits64);
        assert_eq!(in_64_bits[..4], none);
        assert_eq!(in_64_bits[4..], [Some(0x7000), None]);
        let in_32_bits = bases(&[], Mode::Bits32);
        assert_eq!(in_32_bits, [Some(0), Some(0), Some(0), Some(0), None, None]);
        let in_16_bits = bases(&["ds=0x1234"], Mode::Bits16);
        assert_eq!(in_16_bits[..4], [None, None, None, Some(0x12340)]);
        assert!(known(&["ds_base=0"], Mode::Bits64).is_err());
        assert!(known(&["ds=0x10"], Mode::Bits32).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), value in "[-0-9a-fx]{0,20}") {
            let _ = text.parse::<RegisterSetting>();
            let _ = format!("rax={value}").parse::<RegisterSetting>();
        }
    }
}
