//! What an instruction is, as far as split locks are concerned.

use thiserror::Error;

use super::{Crossing, KnownRegisters, Operand};
use crate::cpu::{Context, Mode};
use crate::decode::{
    Decoded, Fault, ImplicitLock, Instruction, LINE_BYTES, MAX_INSTRUCTION_BYTES, PAGE_BYTES,
    decode,
};

/// Why an instruction locks, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// It has a LOCK prefix.
    Prefix,
    /// XCHG with memory.
    Exchange,
    /// Something else than its operand.
    Implicit(ImplicitLock),
    /// It does not lock.
    None,
    /// LOCK where it must not be.
    Refused,
}

/// Whether an instruction is a split lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Certainly.
    Yes,
    /// Certainly not.
    No,
    /// It depends on registers that are not known, or on what an implicit lock goes to.
    Depends,
}

/// What is known of a locked operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperandLocation {
    /// Its size, and the sum that its address is.
    pub operand: Operand,
    /// The linear address of its first byte, if all that it depends on is known.
    pub address: Option<u64>,
    /// What is missing, by the names that a [`RegisterSetting`](super::RegisterSetting) takes.
    pub needs: Vec<String>,
    /// Whether it crosses the end of a cache line.
    pub line: Crossing,
    /// Whether it crosses the end of a page.
    pub page: Crossing,
    /// The CPU does not get as far as to lock it.
    pub fault: Option<Fault>,
}

/// An instruction, and what it locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// The instruction.
    pub instruction: Instruction,
    /// Why it locks, or why not.
    pub lock: LockKind,
    /// Where its operand is, if that is what it locks.
    pub location: Option<OperandLocation>,
    /// Whether it is a split lock.
    pub split: Split,
    /// Its address has 57 bits, which some kernels give out to programs that ask for it.
    pub needs_five_level_paging: bool,
}

/// Why there is no instruction to analyze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotAnInstruction {
    /// The CPU raises an exception.
    #[error("the bytes are no instruction")]
    Invalid,
    /// It goes on after this many bytes.
    #[error(
        "the instruction does not end within the {0} bytes that there are: it takes more of them"
    )]
    Incomplete(usize),
}

/// What the instruction at the beginning of `bytes` is, in code of this kind.
///
/// # Errors
/// If no instruction begins there.
pub fn analyze(
    bytes: &[u8],
    known: &KnownRegisters,
    mode: Mode,
) -> Result<Analysis, NotAnInstruction> {
    let registers = known.registers();
    let four_level = known.context(mode);
    let mut decoded = decode(bytes, &registers, &four_level);
    let mut needs_five_level_paging = false;
    if let Decoded::Faults {
        fault: Fault::NonCanonical { .. },
        ..
    } = decoded
    {
        let five_level = Context {
            five_level_paging: true,
            ..four_level
        };
        decoded = decode(bytes, &registers, &five_level);
        needs_five_level_paging = !matches!(decoded, Decoded::Faults { .. });
    }
    let located = |instruction, address| {
        let location = OperandLocation::of(&instruction, known, address);
        let lock = match location.operand.has_lock_prefix {
            true => LockKind::Prefix,
            false => LockKind::Exchange,
        };
        (instruction, lock, location.split(), Some(location))
    };
    let (instruction, lock, split, location) = match decoded {
        Decoded::Locked(access) => located(*access.instruction(), Ok(access.address())),
        Decoded::Faults { instruction, fault } => located(instruction, Err(fault)),
        Decoded::NotLocked(instruction) => (instruction, LockKind::None, Split::No, None),
        Decoded::CannotBeLocked(instruction) => (instruction, LockKind::Refused, Split::No, None),
        Decoded::ImplicitLock { instruction, lock } => {
            (instruction, LockKind::Implicit(lock), Split::Depends, None)
        }
        // No instruction is longer.
        Decoded::Incomplete { available } if available < MAX_INSTRUCTION_BYTES => {
            return Err(NotAnInstruction::Incomplete(available));
        }
        Decoded::Incomplete { .. } | Decoded::Invalid => return Err(NotAnInstruction::Invalid),
    };
    Ok(Analysis {
        instruction,
        lock,
        location,
        split,
        needs_five_level_paging,
    })
}

impl OperandLocation {
    /// `decoded` is what the decoder says of its address, with zeros for all that is unknown.
    fn of(instruction: &Instruction, known: &KnownRegisters, decoded: Result<u64, Fault>) -> Self {
        let operand = Operand::of(instruction).expect("only an operand in memory is locked");
        let needs = operand.needs(known);
        let low_bits = operand.low_bits(known);
        let is_known = needs.is_empty();
        Self {
            address: decoded.ok().filter(|_| is_known),
            fault: decoded.err().filter(|_| is_known),
            line: Crossing::of(low_bits, operand.bytes, LINE_BYTES),
            page: Crossing::of(low_bits, operand.bytes, PAGE_BYTES),
            needs,
            operand,
        }
    }

    /// Wherever it is, the CPU gets as far as to lock it.
    #[must_use]
    pub fn can_be_locked(&self) -> bool {
        self.fault.is_none() && !self.operand.must_be_aligned
    }

    fn split(&self) -> Split {
        if !self.can_be_locked() {
            return Split::No;
        }
        match self.line {
            Crossing::Never => Split::No,
            Crossing::Always => Split::Yes,
            Crossing::IfRemainder(_) => Split::Depends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysis(bytes: &[u8], settings: &[&str]) -> Result<Analysis, NotAnInstruction> {
        let settings: Vec<_> = settings.iter().map(|text| text.parse().unwrap()).collect();
        let known = KnownRegisters::new(&settings, None, Mode::Bits64).unwrap();
        analyze(bytes, &known, Mode::Bits64)
    }

    /// lock bts [rsi],rdi
    const BTS: &[u8] = &[0xf0, 0x48, 0x0f, 0xab, 0x3e];
    /// lock cmpxchg16b [rsi]
    const CMPXCHG16B: &[u8] = &[0xf0, 0x48, 0x0f, 0xc7, 0x0e];
    /// xchg [rsi],rdi
    const XCHG: &[u8] = &[0x48, 0x87, 0x3e];
    /// lock dec byte ptr [rsi]
    const DEC: &[u8] = &[0xf0, 0xfe, 0x0e];
    /// mov [rsi],rdi
    const MOV: &[u8] = &[0x48, 0x89, 0x3e];
    /// lock mov [rsi],rdi
    const LOCK_MOV: &[u8] = &[0xf0, 0x48, 0x89, 0x3e];

    #[test]
    fn it_splits_if_it_locks_and_crosses() {
        use LockKind::{Exchange, None, Prefix, Refused};
        let no_canonical = "rsi=0x800000000000003c";
        let cases: [(&[u8], &[&str], _, _); _] = [
            (BTS, &["rsi=0x303c", "rdi=0"], Prefix, Split::Yes),
            (BTS, &["rsi=0x3038", "rdi=0"], Prefix, Split::No),
            // Eight bytes aligned to eight, wherever RDI leads.
            (BTS, &["rsi=0x3000"], Prefix, Split::No),
            (BTS, &["rdi=0x3000"], Prefix, Split::Depends),
            // The upper half of RSI decides on the address, but not on this.
            (BTS, &["esi=0x303c", "rdi=0"], Prefix, Split::Yes),
            (BTS, &[no_canonical, "rdi=0"], Prefix, Split::No),
            (XCHG, &["rsi=0x303c"], Exchange, Split::Yes),
            (DEC, &[], Prefix, Split::No),
            (MOV, &["rsi=0x303c"], None, Split::No),
            (LOCK_MOV, &["rsi=0x303c"], Refused, Split::No),
            (CMPXCHG16B, &[], Prefix, Split::No),
            (CMPXCHG16B, &["rsi=0x3038"], Prefix, Split::No),
        ];
        for (bytes, settings, lock, split) in cases {
            let found = analysis(bytes, settings).unwrap();
            assert_eq!(
                (found.lock, found.split),
                (lock, split),
                "{bytes:x?} {settings:?}"
            );
        }
    }

    #[test]
    fn an_address_or_a_fault_is_only_known_if_everything_is() {
        let location = |bytes, settings| analysis(bytes, settings).unwrap().location.unwrap();
        let known = location(BTS, &["rsi=0x303c", "rdi=0x40"]);
        assert_eq!((known.address, known.fault), (Some(0x3044), None));
        let unknown = location(BTS, &["esi=0x303c", "rdi=0x40"]);
        assert_eq!((unknown.address, &*unknown.needs.concat()), (None, "rsi"));
        // With zeros in its place the decoder would find this one misaligned.
        let four_bytes_on = [0xf0, 0x48, 0x0f, 0xc7, 0x4e, 0x04];
        assert_eq!(location(&four_bytes_on, &[]).fault, None);
        let fault = location(&four_bytes_on, &["rsi=0"]).fault;
        assert_eq!(fault, Some(Fault::Misaligned { address: 4 }));
    }

    #[test]
    fn addresses_of_57_bits_are_taken_and_longer_ones_fault() {
        let found = analysis(BTS, &["rsi=0x1000000000003c", "rdi=0"]).unwrap();
        assert!(found.needs_five_level_paging && found.split == Split::Yes);
        let found = analysis(BTS, &["rsi=0x800000000000003c", "rdi=0"]).unwrap();
        assert!(!found.needs_five_level_paging && found.location.unwrap().fault.is_some());
    }

    #[test]
    fn what_is_no_instruction_is_told_from_what_is_only_a_part_of_one() {
        use NotAnInstruction::{Incomplete, Invalid};
        assert_eq!(analysis(&BTS[..3], &[]), Err(Incomplete(3)));
        assert_eq!(analysis(&[0x06, 0x90], &[]), Err(Invalid));
        assert_eq!(analysis(&[0x66; 40], &[]), Err(Invalid));
    }

    #[test]
    fn an_implicit_lock_may_split_and_has_no_operand() {
        // mov ds,eax
        let found = analysis(&[0x8e, 0xd8], &[]).unwrap();
        assert!(matches!(found.lock, LockKind::Implicit(_)));
        assert_eq!((found.split, found.location), (Split::Depends, None));
    }
}
