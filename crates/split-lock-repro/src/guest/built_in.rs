//! The guests that come with this crate, and how to name them.

use std::fmt;
use std::str::FromStr;

use kvm_bindings::kvm_regs;

use super::Register;
use crate::sys;
use crate::vm::layout::{CACHE_LINE, OPERAND_LINE, OPERAND_PAGE_END};

/// Which bit the `bts` guests set. As a register operand it reaches five quadwords beyond the base
/// register, so that the access splits although neither the base nor the instruction looks like it.
const BIT: u64 = 0x16c;
const REACH: u64 = (BIT >> 6) * 8;

/// What `xchg` and `cmpxchg16b` write, so that a look at memory shows that they ran.
const PATTERN: u64 = 0x5350_4c49_544c_4f43;

/// What a built-in guest does in each turn of its loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `lock bts` on eight bytes that cross a cache line, unless the name asks for another offset.
    Split,
    /// The very same instructions on eight bytes within a line.
    Aligned,
    /// The same again, crossing from one 4 KiB page into the next.
    Page,
    /// `xchg`, which locks without a prefix, on eight bytes that cross a line.
    Xchg,
    /// `lock cmpxchg16b`. Its operand must be 16-byte aligned (anything else is a #GP), so it can
    /// never split: it is the widest lock that x86 has, as a control.
    Cmpxchg16b,
    /// `bts` without `lock`, crossing a line: what a split costs by itself.
    None,
}

/// One of the built-in guests: `NAME` or `NAME@OFFSET`.
///
/// OFFSET is the operand's first byte within its 64-byte cache line, 0 to 63. Eight bytes cross into
/// the next line from 57 on. `split`, `xchg` and `none` stand at 60 unless told otherwise and take
/// any offset; `aligned` stands at 0 and takes those that do not cross; `page` and `cmpxchg16b` are
/// where they are by nature and take none.
///
/// ```
/// use split_lock_repro::guest::BuiltIn;
///
/// let guest: BuiltIn = "split@57".parse()?;
/// assert!(guest.splits());
/// assert_eq!(guest.to_string(), "split@57");
/// assert!(!"split@56".parse::<BuiltIn>()?.splits());
/// # Ok::<(), split_lock_repro::guest::GuestNameError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    kind: Kind,
    asked_offset: Option<u8>,
}

/// The bytes that a built-in guest accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Guest address of the first byte.
    pub address: u64,
    /// How many bytes.
    pub size: u64,
}

/// Why a text names no built-in guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestNameError {
    /// No guest has this name.
    #[error("there is no guest `{name}`: use one of {known}", known = names())]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// What follows the `@` is no offset.
    #[error(
        "`{name}@{offset}`: the offset within a cache line is a number from 0 to 63, not `{offset}`"
    )]
    Offset {
        /// The guest.
        name: String,
        /// What stands for its offset.
        offset: String,
    },
    /// The guest stands at one place by nature.
    #[error("`{name}` takes no offset, because {why}: leave out the `@{offset}`")]
    FixedOffset {
        /// The guest.
        name: &'static str,
        /// The offset that was asked for.
        offset: u8,
        /// What makes it stand where it does.
        why: &'static str,
    },
    /// The guest would do what its name denies.
    #[error(
        "`aligned@{offset}` would cross a cache line: use an offset from 0 to 56, or `split@{offset}`"
    )]
    NotAligned {
        /// The offset that was asked for.
        offset: u8,
    },
}

impl Kind {
    /// All of them, the reference first.
    pub const ALL: [Kind; 6] = [
        Kind::Split,
        Kind::Aligned,
        Kind::Page,
        Kind::Xchg,
        Kind::Cmpxchg16b,
        Kind::None,
    ];

    /// The name that a user writes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Split => "split",
            Kind::Aligned => "aligned",
            Kind::Page => "page",
            Kind::Xchg => "xchg",
            Kind::Cmpxchg16b => "cmpxchg16b",
            Kind::None => "none",
        }
    }

    fn check_offset(self, offset: u8) -> Result<(), GuestNameError> {
        let fixed = |why| {
            Err(GuestNameError::FixedOffset {
                name: self.name(),
                offset,
                why,
            })
        };
        match self {
            _ if u64::from(offset) >= CACHE_LINE => Err(GuestNameError::Offset {
                name: self.name().into(),
                offset: offset.to_string(),
            }),
            Kind::Page => fixed("it crosses from one page into the next"),
            Kind::Cmpxchg16b => fixed("its operand must be 16-byte aligned"),
            Kind::Aligned if u64::from(offset) + 8 > CACHE_LINE => {
                Err(GuestNameError::NotAligned { offset })
            }
            _ => Ok(()),
        }
    }
}

impl BuiltIn {
    /// The guest `kind`, with its operand at `offset` within a cache line or where it usually is.
    ///
    /// # Errors
    /// If this guest cannot stand at that offset.
    pub fn new(kind: Kind, offset: Option<u8>) -> Result<Self, GuestNameError> {
        if let Some(offset) = offset {
            kind.check_offset(offset)?;
        }
        Ok(Self {
            kind,
            asked_offset: offset,
        })
    }

    /// What it does.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// The bytes that it accesses in each turn.
    #[must_use]
    pub fn operand(self) -> Operand {
        let in_line = |usual: u8| OPERAND_LINE + u64::from(self.asked_offset.unwrap_or(usual));
        let (address, size) = match self.kind {
            Kind::Split | Kind::Xchg | Kind::None => (in_line(60), 8),
            Kind::Aligned => (in_line(0), 8),
            Kind::Page => (OPERAND_PAGE_END - 4, 8),
            Kind::Cmpxchg16b => (OPERAND_LINE, 16),
        };
        Operand { address, size }
    }

    /// Whether it is a split lock: locked, and crossing a cache line.
    #[must_use]
    pub fn splits(self) -> bool {
        self.kind != Kind::None && self.operand().crosses_line()
    }

    /// The instructions, position independent.
    #[must_use]
    pub fn code(self) -> &'static [u8] {
        match self.kind {
            Kind::Split | Kind::Aligned | Kind::Page => sys::locked_bts(),
            Kind::None => sys::plain_bts(),
            Kind::Xchg => sys::xchg(),
            Kind::Cmpxchg16b => sys::cmpxchg16b(),
        }
    }

    /// Where it counts its turns.
    #[must_use]
    pub fn counter(self) -> Register {
        match self.kind {
            Kind::Cmpxchg16b => Register::R8,
            _ => Register::Rcx,
        }
    }

    /// The registers that its code expects; all others are free.
    pub(super) fn operand_registers(self) -> kvm_regs {
        let address = self.operand().address;
        match self.kind {
            Kind::Split | Kind::Aligned | Kind::Page | Kind::None => kvm_regs {
                rsi: address - REACH,
                rdi: BIT,
                ..Default::default()
            },
            Kind::Xchg => kvm_regs {
                rsi: address,
                rdi: PATTERN,
                ..Default::default()
            },
            Kind::Cmpxchg16b => kvm_regs {
                rsi: address,
                rbx: PATTERN,
                rcx: PATTERN,
                ..Default::default()
            },
        }
    }
}

impl Operand {
    /// Whether it lies in more than one 64-byte cache line.
    #[must_use]
    pub fn crosses_line(self) -> bool {
        self.crosses(CACHE_LINE)
    }

    /// Whether it lies in more than one 4 KiB page.
    #[must_use]
    pub fn crosses_page(self) -> bool {
        self.crosses(4096)
    }

    fn crosses(self, boundary: u64) -> bool {
        self.address / boundary != (self.address + self.size - 1) / boundary
    }
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked_offset {
            Some(offset) => f.pad(&format!("{}@{offset}", self.kind.name())),
            None => f.pad(self.kind.name()),
        }
    }
}

impl FromStr for BuiltIn {
    type Err = GuestNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, offset) = match text.split_once('@') {
            Some((name, offset)) => (name, Some(offset)),
            None => (text, None),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| GuestNameError::Unknown { name: name.into() })?;
        let offset = offset
            .map(|offset| parse_offset(kind, offset))
            .transpose()?;
        Self::new(kind, offset)
    }
}

/// Digits only: `str::parse` would take `+5`, and a name should have one spelling.
fn parse_offset(kind: Kind, text: &str) -> Result<u8, GuestNameError> {
    text.parse()
        .ok()
        .filter(|offset: &u8| offset.to_string() == text)
        .ok_or_else(|| GuestNameError::Offset {
            name: kind.name().into(),
            offset: text.into(),
        })
}

fn names() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register as Iced};
    use proptest::prelude::*;

    fn instructions(guest: BuiltIn) -> Vec<Instruction> {
        Decoder::with_ip(64, guest.code(), 0x10_0000, DecoderOptions::NONE)
            .iter()
            .collect()
    }

    fn register(name: Iced, from: &kvm_regs) -> u64 {
        let name = format!("{name:?}").to_lowercase();
        name.parse::<Register>().unwrap().read(from)
    }

    /// The address that the CPU computes, from the instruction and the start registers alone.
    fn effective_address(access: &Instruction, registers: &kvm_regs) -> u64 {
        let base = register(access.memory_base(), registers);
        assert_eq!(access.memory_index(), Iced::None);
        let address = base.wrapping_add(access.memory_displacement64());
        match access.code() {
            Code::Bts_rm64_r64 => {
                let bit = register(access.op1_register(), registers).cast_signed();
                address.wrapping_add_signed((bit >> 6) * 8)
            }
            _ => address,
        }
    }

    fn named(text: &str) -> BuiltIn {
        text.parse().unwrap()
    }

    fn every_guest() -> impl Iterator<Item = BuiltIn> {
        let offsets = (0..64).map(Some).chain([None]);
        offsets.flat_map(|offset| {
            Kind::ALL
                .into_iter()
                .filter_map(move |kind| BuiltIn::new(kind, offset).ok())
        })
    }

    #[test]
    fn every_guest_at_every_offset_does_what_it_says() {
        for guest in every_guest() {
            let loop_ = instructions(guest);
            let [access, count, jump] = &loop_[..] else {
                panic!("{guest}: {loop_:?}")
            };
            let operand = guest.operand();
            let address = effective_address(access, &guest.operand_registers());
            assert_eq!(address, operand.address, "{guest}");
            assert_eq!(access.memory_size().size() as u64, operand.size, "{guest}");

            let locked = access.has_lock_prefix() || access.code() == Code::Xchg_rm64_r64;
            assert_eq!(locked, guest.kind() != Kind::None, "{guest}");
            let crosses = address % 64 + operand.size > 64;
            assert_eq!(guest.splits(), locked && crosses, "{guest}");

            assert_eq!(count.code(), Code::Inc_rm64, "{guest}");
            let counter = format!("{:?}", count.op0_register()).to_lowercase();
            assert_eq!(counter, guest.counter().name(), "{guest}");
            assert_eq!(jump.near_branch_target(), access.ip(), "{guest}");
            assert_eq!(jump.op0_kind(), OpKind::NearBranch64, "{guest}");
        }
    }

    #[test]
    fn an_offset_is_where_the_operand_starts_in_its_line() {
        for offset in 0..64 {
            let guest = BuiltIn::new(Kind::Split, Some(offset)).unwrap();
            assert_eq!(guest.operand().address % 64, u64::from(offset));
            assert_eq!(guest.splits(), offset > 56);
            assert!(!guest.operand().crosses_page());
        }
    }

    #[test]
    fn split_aligned_and_page_differ_in_their_base_register_only() {
        let without_base = |name: &str| kvm_regs {
            rsi: 0,
            ..named(name).operand_registers()
        };
        for other in ["aligned", "page", "split@0"] {
            assert_eq!(named(other).code(), named("split").code());
            assert_eq!(without_base(other), without_base("split"));
        }
    }

    #[test]
    fn page_crosses_a_page_and_cmpxchg16b_is_aligned() {
        assert!(named("page").operand().crosses_page());
        assert!(named("page").splits());
        assert_eq!(named("cmpxchg16b").operand().address % 16, 0);
    }

    #[test]
    fn the_usual_offsets_are_those_in_the_documentation() {
        for (short, long) in [
            ("split", "split@60"),
            ("aligned", "aligned@0"),
            ("xchg", "xchg@60"),
            ("none", "none@60"),
        ] {
            assert_eq!(named(short).operand(), named(long).operand());
        }
    }

    #[test]
    fn a_name_is_printed_as_it_was_asked_for() {
        for name in [
            "split",
            "split@60",
            "split@0",
            "aligned@56",
            "page",
            "none@63",
        ] {
            assert_eq!(named(name).to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused_with_what_to_write_instead() {
        for (text, part) in [
            ("", "split, aligned, page, xchg, cmpxchg16b, none"),
            ("Split", "there is no guest `Split`"),
            ("spilt@60", "there is no guest `spilt`: use one of split,"),
            ("split@", "from 0 to 63, not ``"),
            ("split@64", "from 0 to 63, not `64`"),
            ("split@-1", "from 0 to 63, not `-1`"),
            ("split@+5", "from 0 to 63, not `+5`"),
            ("split@60@60", "from 0 to 63, not `60@60`"),
            ("split@999999999999", "from 0 to 63"),
            ("page@60", "leave out the `@60`"),
            ("cmpxchg16b@0", "must be 16-byte aligned"),
            ("aligned@57", "use an offset from 0 to 56, or `split@57`"),
        ] {
            let error = text.parse::<BuiltIn>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_guest_of_that_name_or_refused(text in "\\PC*|(split|none|page)@[0-9]{0,3}") {
            if let Ok(guest) = text.parse::<BuiltIn>() {
                prop_assert_eq!(guest.to_string(), text);
            }
        }
    }
}
