//! What is known of a CPU's registers. What was not given is unknown, and not zero.

use std::str::FromStr;

use thiserror::Error;

use crate::cpu::{Context, Gpr, Mode, Registers, Segment, SegmentRegister};

/// A number of which the lowest bits are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Partial {
    /// The bits that are known; zero in the others.
    pub value: u64,
    /// How many of them there are, 0 to 64.
    pub bits: u32,
}

/// A register as it can be given: all of it, or a part that has a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// The lowest bits of a general-purpose register.
    Gpr(Gpr, u32),
    Rip,
    Flags,
    Base(SegmentRegister),
    /// What is in a segment register, which says where the segment is in real mode.
    Selector(SegmentRegister),
}

/// `NAME=VALUE` from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As it was written.
    text: String,
    name: Name,
    value: u64,
}

/// Why a register cannot have the value that it is given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// It has no name or no value.
    #[error("a register is given as NAME=VALUE, such as rsi=0x303c")]
    Form,
    /// There is no such register, or it does not matter.
    #[error(
        "there is no register `{0}` that matters here: use rax to r15 or a part that is not ah to dh, \
         rip, rflags, fs_base and the like"
    )]
    UnknownName(String),
    /// The value is no number.
    #[error("`{0}` is not a number such as 0x303c, 12348 or -8")]
    NotANumber(String),
    /// The value is hexadecimal, or not.
    #[error("`{value}`: write 0x{digits} if that is hexadecimal")]
    Ambiguous {
        /// What was given.
        value: String,
        /// The same without its sign.
        digits: String,
    },
    /// The register is smaller.
    #[error("`{value}` does not fit into {bits} bits")]
    TooLarge {
        /// What was given.
        value: String,
        /// How many bits the register has.
        bits: u32,
    },
    /// Two settings are about the same register.
    #[error("{0}: the same register is given already")]
    Repeated(String),
    /// A segment that begins at 0 in 64-bit code.
    #[error("{0}: in 64-bit code only FS and GS have a base")]
    NoBase(String),
    /// A selector, of a segment whose base is in a descriptor.
    #[error(
        "{0}: only in 16-bit code (--bits 16) it says where a segment begins; otherwise give its base, \
         such as fs_base=0x7f0000001000"
    )]
    Selector(String),
}

/// What is known of the registers.
#[derive(Debug, Clone, Default)]
pub struct Known {
    gpr: [Partial; 16],
    /// The address of the instruction.
    pub rip: Option<u64>,
    /// RFLAGS, or as much of it as the name that was used for it has.
    pub flags: Option<u64>,
    bases: [Option<u64>; 6],
}

impl Known {
    /// # Errors
    /// If something is given twice, or cannot be given for code of this kind.
    pub fn new(settings: &[Setting], rip: Option<u64>, mode: Mode) -> Result<Self, SettingError> {
        let mut known = Self {
            rip,
            ..Self::default()
        };
        if mode == Mode::Bits32 {
            known.flat();
        }
        for (n, setting) in settings.iter().enumerate() {
            let same = |other: &Setting| other.name.is_about_what(setting.name);
            let text = &setting.text;
            if settings[..n].iter().any(same) || setting.name == Name::Rip && rip.is_some() {
                return Err(SettingError::Repeated(text.clone()));
            }
            known.set(setting, mode)?;
        }
        Ok(known)
    }

    /// Nothing but the address of the instruction.
    #[must_use]
    pub fn at(rip: u64) -> Self {
        Self {
            rip: Some(rip),
            ..Self::default()
        }
    }

    /// Programs of 32 bits run in segments that begin at 0, all but those of FS and GS.
    fn flat(&mut self) {
        use SegmentRegister::{Cs, Ds, Es, Ss};
        for segment in [Cs, Ds, Es, Ss] {
            self.bases[segment as usize] = Some(0);
        }
    }

    fn set(&mut self, setting: &Setting, mode: Mode) -> Result<(), SettingError> {
        let Setting { text, name, value } = setting;
        match *name {
            Name::Gpr(gpr, bits) => {
                self.gpr[gpr as usize] = Partial {
                    value: *value,
                    bits,
                }
            }
            Name::Rip => self.rip = Some(*value),
            Name::Flags => self.flags = Some(*value),
            Name::Base(segment) if mode == Mode::Bits64 && !has_base_in_64_bits(segment) => {
                return Err(SettingError::NoBase(text.clone()));
            }
            Name::Base(segment) => self.bases[segment as usize] = Some(*value),
            Name::Selector(segment) if mode == Mode::Bits16 => {
                self.bases[segment as usize] = Some(*value << 4);
            }
            Name::Selector(_) => return Err(SettingError::Selector(text.clone())),
        }
        Ok(())
    }

    /// What is known of a general-purpose register.
    #[must_use]
    pub fn gpr(&self, gpr: Gpr) -> Partial {
        self.gpr[gpr as usize]
    }

    /// Where a segment begins.
    #[must_use]
    pub fn base(&self, segment: SegmentRegister) -> Option<u64> {
        self.bases[segment as usize]
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
        let limit = match mode {
            Mode::Bits16 => 0xffff,
            Mode::Bits32 | Mode::Bits64 => u32::MAX,
        };
        let segments = self.bases.map(|base| Segment {
            base: base.unwrap_or(0),
            limit,
            big: mode != Mode::Bits16,
            ..Segment::FLAT
        });
        Context {
            mode,
            protected: mode != Mode::Bits16,
            segments,
            ..Context::long_mode(3)
        }
    }
}

fn has_base_in_64_bits(segment: SegmentRegister) -> bool {
    matches!(segment, SegmentRegister::Fs | SegmentRegister::Gs)
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if let Some(segment) = name.strip_suffix("_base") {
            return self::segment(segment).map(Self::Base);
        }
        if let Some(segment) = segment(&name) {
            return Some(Self::Selector(segment));
        }
        Some(match name.as_str() {
            "rip" | "eip" | "ip" => Self::Rip,
            "rflags" | "eflags" | "flags" => Self::Flags,
            _ => {
                let part = |&gpr: &Gpr| {
                    let bits = width_of(gpr, &name)?;
                    Some(Self::Gpr(gpr, bits))
                };
                return Gpr::ALL.iter().find_map(part);
            }
        })
    }

    /// How many bits a value for it can have.
    fn bits(self) -> u32 {
        match self {
            Self::Gpr(_, bits) => bits,
            Self::Rip | Self::Flags | Self::Base(_) => 64,
            Self::Selector(_) => 16,
        }
    }

    fn is_about_what(self, other: Self) -> bool {
        match (self, other) {
            (Self::Gpr(one, _), Self::Gpr(other, _)) => one == other,
            (Self::Base(one) | Self::Selector(one), Self::Base(other) | Self::Selector(other)) => {
                one == other
            }
            (one, other) => one == other,
        }
    }
}

/// How many bits of a register `name` stands for, if it stands for any: its lowest 8, 16 or 32, or all.
fn width_of(gpr: Gpr, name: &str) -> Option<u32> {
    let full = format!("{gpr:?}").to_ascii_lowercase();
    let stem = &full[1..];
    let parts = match gpr as u8 {
        0..4 => [format!("e{stem}"), stem.to_owned(), stem.replace('x', "l")],
        4..8 => [format!("e{stem}"), stem.to_owned(), format!("{stem}l")],
        _ => [format!("{full}d"), format!("{full}w"), format!("{full}b")],
    };
    let widths = [32, 16, 8];
    let part = parts.iter().position(|part| part == name);
    let all = (name == full).then_some(64);
    all.or(part.map(|n| widths[n]))
}

fn segment(name: &str) -> Option<SegmentRegister> {
    Some(match name {
        "es" => SegmentRegister::Es,
        "cs" => SegmentRegister::Cs,
        "ss" => SegmentRegister::Ss,
        "ds" => SegmentRegister::Ds,
        "fs" => SegmentRegister::Fs,
        "gs" => SegmentRegister::Gs,
        _ => return None,
    })
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (name, value) = text.split_once('=').ok_or(SettingError::Form)?;
        let name = name.trim();
        let name = Name::parse(name).ok_or_else(|| SettingError::UnknownName(name.to_owned()))?;
        Ok(Self {
            name,
            value: number(value.trim(), name.bits())?,
            text: text.to_owned(),
        })
    }
}

/// A number of at most so many bits; a negative one as the complement of two.
fn number(text: &str, bits: u32) -> Result<u64, SettingError> {
    let wrong = || SettingError::NotANumber(text.to_owned());
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let is_hexadecimal = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let size = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) if is_hexadecimal(hex) => u64::from_str_radix(hex, 16).map_err(|_| wrong())?,
        // As kernels and debuggers print registers. Nobody means 12345678 by 0000000012345678.
        None if digits.len() > 1 && is_hexadecimal(digits) && !is_decimal(digits) => {
            return Err(SettingError::Ambiguous {
                value: text.to_owned(),
                digits: digits.to_owned(),
            });
        }
        None if is_hexadecimal(digits) => digits.parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    let all_ones = u64::MAX >> (64 - bits);
    if is_negative && size <= 1 << (bits - 1) {
        Ok(size.wrapping_neg() & all_ones)
    } else if !is_negative && size <= all_ones {
        Ok(size)
    } else {
        Err(SettingError::TooLarge {
            value: text.to_owned(),
            bits,
        })
    }
}

fn is_decimal(digits: &str) -> bool {
    !digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// For tests of what is done with registers.
#[cfg(test)]
impl Known {
    pub(super) fn everything(values: [u64; 16], rip: u64, bases: [u64; 6]) -> Self {
        Self {
            gpr: values.map(|value| Partial { value, bits: 64 }),
            rip: Some(rip),
            flags: Some(0),
            bases: bases.map(Some),
        }
    }

    /// Leaves out what has its bit set: general-purpose registers, then the address of the
    /// instruction, then the bases of segments. The lowest byte of the first ones stays.
    pub(super) fn without(&self, mask: u32) -> Self {
        let is_left_out = |n: usize| mask >> n & 1 == 1;
        let mut some = self.clone();
        for (n, partial) in some.gpr.iter_mut().enumerate() {
            if is_left_out(n) {
                *partial = match n {
                    0..4 => Partial {
                        value: partial.value & 0xff,
                        bits: 8,
                    },
                    _ => Partial::default(),
                };
            }
        }
        if is_left_out(16) {
            some.rip = None;
        }
        for (n, base) in some.bases.iter_mut().enumerate() {
            if is_left_out(17 + n) {
                *base = None;
            }
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(settings: &[&str], mode: Mode) -> Result<Known, SettingError> {
        let settings: Vec<_> = settings.iter().map(|text| text.parse().unwrap()).collect();
        Known::new(&settings, None, mode)
    }

    #[test]
    fn registers_have_the_names_that_disassemblers_print() {
        for (name, register, bits) in [
            ("rax", Gpr::Rax, 64),
            ("RSI", Gpr::Rsi, 64),
            ("ebx", Gpr::Rbx, 32),
            ("cx", Gpr::Rcx, 16),
            ("dl", Gpr::Rdx, 8),
            ("esp", Gpr::Rsp, 32),
            ("bp", Gpr::Rbp, 16),
            ("sil", Gpr::Rsi, 8),
            ("r8", Gpr::R8, 64),
            ("r15d", Gpr::R15, 32),
            ("r9w", Gpr::R9, 16),
            ("r10b", Gpr::R10, 8),
        ] {
            let setting = format!("{name}=0x12");
            let known = known(&[&setting], Mode::Bits64).unwrap();
            let expected = Partial { value: 0x12, bits };
            assert_eq!(known.gpr(register), expected, "{name}");
        }
        for name in ["", "ah", "r16", "xmm0", "rsil", "cr0", "r8x"] {
            assert!(format!("{name}=1").parse::<Setting>().is_err(), "{name}");
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
            assert_eq!(text.parse::<Setting>().unwrap().value, value, "{text}");
        }
        for (text, part) in [
            ("rax", "NAME=VALUE"),
            ("rax=", "not a number"),
            ("rax=-", "not a number"),
            ("rax=0x", "not a number"),
            ("rax=+1", "not a number"),
            ("rax=x", "not a number"),
            ("rax=303c", "0x303c"),
            ("rax=0000000000003030", "0x0000000000003030"),
            ("eax=0x100000000", "32 bits"),
            ("al=-129", "8 bits"),
            ("rax=0x10000000000000000", "not a number"),
        ] {
            let message = text.parse::<Setting>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
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
            let message = known(&pair, Mode::Bits16).unwrap_err().to_string();
            assert!(message.contains(pair[1]), "{message}");
        }
        let rip = ["rip=1".parse().unwrap()];
        assert!(Known::new(&rip, Some(1), Mode::Bits64).is_err());
        assert_eq!(Known::new(&rip, None, Mode::Bits64).unwrap().rip, Some(1));
    }

    #[test]
    fn segments_begin_where_the_mode_says() {
        let in_64_bits = known(&["fs_base=0x7000"], Mode::Bits64).unwrap();
        assert_eq!(in_64_bits.base(SegmentRegister::Fs), Some(0x7000));
        assert_eq!(in_64_bits.base(SegmentRegister::Gs), None);
        assert!(known(&["ds_base=0"], Mode::Bits64).is_err());
        assert!(known(&["ds=0x10"], Mode::Bits32).is_err());
        let in_32_bits = known(&[], Mode::Bits32).unwrap();
        assert_eq!(in_32_bits.base(SegmentRegister::Ds), Some(0));
        assert_eq!(in_32_bits.base(SegmentRegister::Gs), None);
        let in_16_bits = known(&["ds=0x1234"], Mode::Bits16).unwrap();
        assert_eq!(in_16_bits.base(SegmentRegister::Ds), Some(0x12340));
        assert_eq!(in_16_bits.base(SegmentRegister::Es), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), value in "[-0-9a-fx]{0,20}") {
            let _ = text.parse::<Setting>();
            let _ = format!("rax={value}").parse::<Setting>();
        }
    }
}
