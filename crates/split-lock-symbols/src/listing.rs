//! A few instructions around one.

use std::collections::VecDeque;

use split_lock_assist::cpu::{Mode, Registers};
use split_lock_assist::decode::{Decoded, Instruction, MAX_INSTRUCTION_BYTES, decode};
use split_lock_assist::partial::KnownRegisters;

/// How many instructions are shown before the one in question, and after it.
const BEFORE: usize = 4;
const AFTER: usize = 4;

/// How many bytes have to be there after an instruction's beginning to show all of that.
pub(crate) const BYTES_AFTER: usize = (1 + AFTER) * MAX_INSTRUCTION_BYTES;

#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeBytes<'a> {
    pub(crate) bytes: &'a [u8],
    /// The address of the first byte.
    pub(crate) address: u64,
    pub(crate) mode: Mode,
}

/// An instruction among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingLine {
    /// Where it begins.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its disassembly.
    pub text: String,
    /// It locks an operand.
    pub locks: bool,
    /// It is the one in question.
    pub is_here: bool,
}

/// Instructions one after another, one of which is in question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// In the order of their addresses.
    pub lines: Vec<ListingLine>,
    /// Where an instruction begins that the one in question is in the middle of.
    pub inside: Option<u64>,
}

impl Listing {
    /// Those around the instruction at `here`, as they are found from the beginning of `code` on,
    /// which has to be the beginning of an instruction.
    pub(crate) fn around(here: u64, code: CodeBytes) -> Self {
        let mut before = VecDeque::new();
        let mut inside = None;
        for line in code.lines() {
            if line.address == here {
                break;
            }
            if line.end() > here {
                inside = Some(line.address);
                // What comes before it has been read otherwise than the CPU has read it.
                before.clear();
                break;
            }
            if before.len() == BEFORE {
                before.pop_front();
            }
            before.push_back(line);
        }
        let rest = code.from(here).lines().take(1 + AFTER);
        let rest = rest.map(|line| ListingLine {
            is_here: line.address == here,
            ..line
        });
        Self {
            lines: before.into_iter().chain(rest).collect(),
            inside,
        }
    }

    /// The one before the one in question.
    #[must_use]
    pub fn line_before(&self) -> Option<&ListingLine> {
        let here = self.lines.iter().position(|line| line.is_here)?;
        self.lines.get(here.checked_sub(1)?)
    }
}

impl<'a> CodeBytes<'a> {
    /// The rest of it from an address on; nothing if that is not in it.
    pub(crate) fn from(self, address: u64) -> Self {
        let offset = address.checked_sub(self.address);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        let rest = offset.and_then(|offset| self.bytes.get(offset..));
        Self {
            bytes: rest.unwrap_or(&[]),
            address,
            mode: self.mode,
        }
    }

    fn lines(mut self) -> impl Iterator<Item = ListingLine> + use<'a> {
        std::iter::from_fn(move || {
            let line = ListingLine::first(self)?;
            self = self.from(self.address.wrapping_add(line.bytes.len() as u64));
            Some(line)
        })
    }
}

impl ListingLine {
    fn first(code: CodeBytes) -> Option<Self> {
        let registers = Registers {
            rip: code.address,
            ..Registers::default()
        };
        let context = KnownRegisters::default().context(code.mode);
        let decoded = decode(code.bytes, &registers, &context);
        let of = |instruction: &Instruction| (instruction.length(), instruction.to_string());
        let (length, text) = match &decoded {
            Decoded::Locked(access) => of(access.instruction()),
            Decoded::NotLocked(instruction)
            | Decoded::ImplicitLock { instruction, .. }
            | Decoded::Faults { instruction, .. }
            | Decoded::CannotBeLocked(instruction) => of(instruction),
            Decoded::Incomplete { available } if *available < MAX_INSTRUCTION_BYTES => return None,
            Decoded::Incomplete { .. } | Decoded::Invalid => (1, "(bad)".to_owned()),
        };
        Some(Self {
            address: code.address,
            bytes: code.bytes[..length].to_owned(),
            text,
            locks: matches!(decoded, Decoded::Locked(_) | Decoded::Faults { .. }),
            is_here: false,
        })
    }

    fn end(&self) -> u64 {
        self.address.wrapping_add(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// push rbp; mov rbp,rsp; nop; lock inc dword ptr [rax]; pop rbp; ret
    const FUNCTION: [u8; 10] = [0x55, 0x48, 0x89, 0xe5, 0x90, 0xf0, 0xff, 0x00, 0x5d, 0xc3];

    fn code(bytes: &[u8]) -> CodeBytes<'_> {
        CodeBytes {
            bytes,
            address: 0x1000,
            mode: Mode::Bits64,
        }
    }

    fn addresses(listing: &Listing) -> Vec<u64> {
        listing.lines.iter().map(|line| line.address).collect()
    }

    #[test]
    fn the_one_in_question_is_marked_among_its_neighbours() {
        let listing = Listing::around(0x1005, code(&FUNCTION));
        assert_eq!(
            addresses(&listing),
            [0x1000, 0x1001, 0x1004, 0x1005, 0x1008, 0x1009]
        );
        let here: Vec<_> = listing.lines.iter().filter(|line| line.is_here).collect();
        assert_eq!(here.len(), 1);
        assert_eq!(here[0].text, "lock inc dword ptr [rax]");
        assert!(here[0].locks && !listing.lines[0].locks);
        assert_eq!(listing.line_before().unwrap().address, 0x1004);
        assert_eq!(listing.inside, None);
    }

    #[test]
    fn no_more_than_a_few_are_shown() {
        let nops = [0x90; 100];
        let listing = Listing::around(0x1030, code(&nops));
        assert_eq!(addresses(&listing), (0x102c..=0x1034).collect::<Vec<_>>());
    }

    #[test]
    fn the_middle_of_an_instruction_is_noticed() {
        let listing = Listing::around(0x1002, code(&FUNCTION));
        assert_eq!(listing.inside, Some(0x1001));
        assert_eq!(addresses(&listing)[0], 0x1002);
        assert_eq!(listing.line_before(), None);
    }

    #[test]
    fn what_is_no_instruction_is_one_bad_byte() {
        let listing = Listing::around(0x1000, code(&[0x06, 0x90]));
        let texts: Vec<_> = listing.lines.iter().map(|line| &line.text[..]).collect();
        assert_eq!(texts, ["(bad)", "nop"]);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_listed(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            here in 0u64..220,
            address in prop_oneof![Just(0u64), Just(0x40_0000), Just(u64::MAX - 100)],
        ) {
            let here = address.wrapping_add(here);
            let listing = Listing::around(here, CodeBytes { bytes: &bytes, address, mode: Mode::Bits64 });
            prop_assert!(listing.lines.len() <= BEFORE + 1 + AFTER);
            prop_assert!(listing.lines.iter().filter(|line| line.is_here).count() <= 1);
        }
    }
}
