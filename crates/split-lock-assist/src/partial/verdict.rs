//! What an instruction is, as far as split locks are concerned.

use crate::cpu::{Context, Mode};
use crate::decode::{
    Decoded, Fault, ImplicitLock, Instruction, LINE_BYTES, MAX_INSTRUCTION_BYTES, PAGE_BYTES,
    decode,
};

use super::{Crossing, Known, Operand};

/// Why it locks, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
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

/// Whether it is a split lock.
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
pub struct Place {
    /// Of what its address is made.
    pub operand: Operand,
    /// The linear address of its first byte, if all that it depends on is known.
    pub address: Option<u64>,
    /// What is missing, by the names that `--reg` takes.
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
pub struct Verdict {
    /// The instruction.
    pub instruction: Instruction,
    /// Why it locks, or why not.
    pub lock: Lock,
    /// Of an operand that is locked.
    pub place: Option<Place>,
    /// Whether it is a split lock.
    pub split: Split,
    /// Its address has 57 bits, which some kernels give out to programs that ask for it.
    pub needs_five_level_paging: bool,
}

/// Why there is nothing to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoInstruction {
    /// The CPU raises an exception.
    Invalid,
    /// It goes on after this many bytes.
    Incomplete(usize),
}

/// Judges the instruction at the beginning of `bytes`.
///
/// # Errors
/// If no instruction begins there.
pub fn judge(bytes: &[u8], known: &Known, mode: Mode) -> Result<Verdict, NoInstruction> {
    let context = known.context(mode);
    let four_level = decode(bytes, &known.registers(), &context);
    let five_level = Context {
        five_level_paging: true,
        ..context
    };
    match four_level {
        Decoded::Faults {
            fault: Fault::NonCanonical { .. },
            ..
        } => {
            let decoded = decode(bytes, &known.registers(), &five_level);
            let verdict = of_decoded(decoded, known)?;
            let needs_five_level_paging = !matches!(decoded, Decoded::Faults { .. });
            Ok(Verdict {
                needs_five_level_paging,
                ..verdict
            })
        }
        decoded => of_decoded(decoded, known),
    }
}

fn of_decoded(decoded: Decoded, known: &Known) -> Result<Verdict, NoInstruction> {
    match decoded {
        Decoded::Locked(access) => {
            let place = Place::of(access.instruction(), known, Ok(access.address()));
            Ok(Verdict::of_operand(*access.instruction(), place))
        }
        Decoded::Faults { instruction, fault } => {
            let place = Place::of(&instruction, known, Err(fault));
            Ok(Verdict::of_operand(instruction, place))
        }
        Decoded::NotLocked(instruction) => Ok(Verdict::without(instruction, Lock::None)),
        Decoded::CannotBeLocked(instruction) => Ok(Verdict::without(instruction, Lock::Refused)),
        Decoded::ImplicitLock { instruction, lock } => Ok(Verdict {
            split: Split::Depends,
            ..Verdict::without(instruction, Lock::Implicit(lock))
        }),
        // No instruction of that length exists.
        Decoded::Incomplete { available } if available < MAX_INSTRUCTION_BYTES => {
            Err(NoInstruction::Incomplete(available))
        }
        Decoded::Incomplete { .. } | Decoded::Invalid => Err(NoInstruction::Invalid),
    }
}

impl Verdict {
    fn without(instruction: Instruction, lock: Lock) -> Self {
        Self {
            instruction,
            lock,
            place: None,
            split: Split::No,
            needs_five_level_paging: false,
        }
    }

    fn of_operand(instruction: Instruction, place: Place) -> Self {
        let lock = match place.operand.has_lock_prefix {
            true => Lock::Prefix,
            false => Lock::Exchange,
        };
        Self {
            split: place.split(),
            place: Some(place),
            ..Self::without(instruction, lock)
        }
    }
}

impl Place {
    /// `decoded` is what the decoder says of its address, with zeros for all that is unknown.
    fn of(instruction: &Instruction, known: &Known, decoded: Result<u64, Fault>) -> Self {
        let operand = Operand::of(instruction).expect("only an operand in memory is locked");
        let needs = operand.needs(known);
        let residue = operand.residue(known);
        let is_known = needs.is_empty();
        Self {
            address: decoded.ok().filter(|_| is_known),
            fault: decoded.err().filter(|_| is_known),
            line: Crossing::of(residue, operand.bytes, LINE_BYTES),
            page: Crossing::of(residue, operand.bytes, PAGE_BYTES),
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

    fn judged(bytes: &[u8], settings: &[&str]) -> Result<Verdict, NoInstruction> {
        let settings: Vec<_> = settings.iter().map(|text| text.parse().unwrap()).collect();
        let known = Known::new(&settings, None, Mode::Bits64).unwrap();
        judge(bytes, &known, Mode::Bits64)
    }

    /// lock bts [rsi],rdi
    const BTS: [u8; 5] = [0xf0, 0x48, 0x0f, 0xab, 0x3e];
    /// lock cmpxchg16b [rsi]
    const CMPXCHG16B: [u8; 5] = [0xf0, 0x48, 0x0f, 0xc7, 0x0e];

    #[test]
    fn it_splits_if_it_locks_and_crosses() {
        for (bytes, settings, lock, split) in [
            (
                &BTS[..],
                &["rsi=0x303c", "rdi=0"][..],
                Lock::Prefix,
                Split::Yes,
            ),
            (&BTS, &["rsi=0x3038", "rdi=0"], Lock::Prefix, Split::No),
            // Eight bytes aligned to eight, wherever RDI leads.
            (&BTS, &["rsi=0x3000"], Lock::Prefix, Split::No),
            (&BTS, &["rdi=0x3000"], Lock::Prefix, Split::Depends),
            // The upper half of RSI decides on the address, but not on this.
            (&BTS, &["esi=0x303c", "rdi=0"], Lock::Prefix, Split::Yes),
            // xchg [rsi],rdi
            (
                &[0x48, 0x87, 0x3e],
                &["rsi=0x303c"],
                Lock::Exchange,
                Split::Yes,
            ),
            // lock dec byte ptr [rsi]
            (&[0xf0, 0xfe, 0x0e], &[], Lock::Prefix, Split::No),
            // mov [rsi],rdi
            (&[0x48, 0x89, 0x3e], &["rsi=0x303c"], Lock::None, Split::No),
            // lock mov [rsi],rdi
            (
                &[0xf0, 0x48, 0x89, 0x3e],
                &["rsi=0x303c"],
                Lock::Refused,
                Split::No,
            ),
            (&CMPXCHG16B, &[], Lock::Prefix, Split::No),
            (&CMPXCHG16B, &["rsi=0x3038"], Lock::Prefix, Split::No),
            (
                &BTS,
                &["rsi=0x800000000000003c", "rdi=0"],
                Lock::Prefix,
                Split::No,
            ),
        ] {
            let verdict = judged(bytes, settings).unwrap();
            assert_eq!(
                (verdict.lock, verdict.split),
                (lock, split),
                "{bytes:x?} {settings:?}"
            );
        }
    }

    #[test]
    fn an_address_or_a_fault_is_only_known_if_everything_is() {
        let place = |bytes, settings| judged(bytes, settings).unwrap().place.unwrap();
        let known = place(&BTS, &["rsi=0x303c", "rdi=0x40"]);
        assert_eq!((known.address, known.fault), (Some(0x3044), None));
        let unknown = place(&BTS, &["esi=0x303c", "rdi=0x40"]);
        assert_eq!(
            (unknown.address, &unknown.needs[..]),
            (None, &["rsi".to_owned()][..])
        );
        // With zeros in its place the decoder would find one of these misaligned.
        let bytes = [0xf0, 0x48, 0x0f, 0xc7, 0x4e, 0x04];
        assert_eq!(place(&bytes, &[]).fault, None);
        let fault = place(&bytes, &["rsi=0"]).fault;
        assert_eq!(fault, Some(Fault::Misaligned { address: 4 }));
    }

    #[test]
    fn addresses_of_57_bits_are_taken_and_longer_ones_fault() {
        let verdict = judged(&BTS, &["rsi=0x1000000000003c", "rdi=0"]).unwrap();
        assert!(verdict.needs_five_level_paging);
        assert_eq!(verdict.split, Split::Yes);
        let verdict = judged(&BTS, &["rsi=0x800000000000003c", "rdi=0"]).unwrap();
        assert!(!verdict.needs_five_level_paging);
        assert!(verdict.place.unwrap().fault.is_some());
    }

    #[test]
    fn what_is_no_instruction_is_told_from_what_is_only_a_part_of_one() {
        assert_eq!(judged(&BTS[..3], &[]), Err(NoInstruction::Incomplete(3)));
        assert_eq!(judged(&[0x06, 0x90], &[]), Err(NoInstruction::Invalid));
        assert_eq!(judged(&[0x66; 40], &[]), Err(NoInstruction::Invalid));
    }

    #[test]
    fn an_implicit_lock_is_no_verdict() {
        // mov ds,eax
        let verdict = judged(&[0x8e, 0xd8], &[]).unwrap();
        assert!(matches!(verdict.lock, Lock::Implicit(_)));
        assert_eq!((verdict.split, verdict.place), (Split::Depends, None));
    }
}
