//! Any bytes, registers, segments and pages: what always has to hold. The fuzz target runs the same.

use arbitrary::Unstructured;
use split_lock_assist::cpu::{Context, Mode, Registers, Segment, SegmentRegister, rflags};
use split_lock_assist::decode::{Decoded, LockedAccess, MAX_INSTRUCTION_BYTES, decode};
use split_lock_assist::emulate::{Emulated, Reason, emulate, perform};

use super::world::{Event, Log, Others, Page, Stuck, WorldCpu, WorldMemory};

/// What a guest consists of. The input begins with [`MAX_INSTRUCTION_BYTES`] of code, so that a test can
/// begin with code of its choice.
#[derive(Debug)]
struct Guest {
    code: Vec<u8>,
    registers: Registers,
    context: Context,
    is_stuck: bool,
    pages: [Page; 2],
    /// Pages that are not where the operand is.
    pages_elsewhere: Option<u64>,
    operand: [u8; 16],
}

/// Makes a guest of the input, emulates its next instruction, and panics if something does not hold.
/// What has come of it; `None` if the input is too short.
pub(crate) fn check(input: &[u8]) -> Option<Result<Emulated, Stuck>> {
    let guest = guest(&mut Unstructured::new(input)).ok()?;
    let decoded = decode(&guest.code, &guest.registers, &guest.context);
    check_text(&guest, &decoded);
    Some(check_emulation(&guest, &decoded))
}

fn check_text(guest: &Guest, decoded: &Decoded) {
    assert!(!decoded.to_string().is_empty());
    let instruction = match decoded {
        Decoded::Locked(access) => access.instruction(),
        Decoded::NotLocked(instruction)
        | Decoded::CannotBeLocked(instruction)
        | Decoded::ImplicitLock { instruction, .. }
        | Decoded::Faults { instruction, .. } => instruction,
        Decoded::Invalid | Decoded::Incomplete { .. } => return,
    };
    assert!((1..=MAX_INSTRUCTION_BYTES).contains(&instruction.length()));
    assert_eq!(instruction.bytes(), &guest.code[..instruction.length()]);
    assert!(!instruction.to_string().is_empty());
}

fn check_emulation(guest: &Guest, decoded: &Decoded) -> Result<Emulated, Stuck> {
    let log = Log::default();
    let mut cpu = WorldCpu {
        log: &log,
        registers: guest.registers,
        context: guest.context,
        is_stuck: guest.is_stuck,
    };
    let operand_page = match decoded {
        Decoded::Locked(access) => access.address() & !0xfff,
        _ => 0,
    };
    let mut memory = WorldMemory {
        log: &log,
        code_at: code_address(&guest.registers, &guest.context),
        code: &guest.code,
        pages_at: guest.pages_elsewhere.unwrap_or(operand_page),
        pages: guest.pages,
        operand: guest.operand,
        written: None,
    };
    let emulated = emulate(&mut cpu, &mut memory, &Others(&log));
    let (registers, written) = (cpu.registers, memory.written.take());

    let load = |bytes, address| Event::Load { address, bytes };
    let untouched = registers == guest.registers && written.is_none();
    match emulated {
        Ok(Emulated::Done(access)) => {
            assert_eq!(*decoded, Decoded::Locked(access));
            let (address, bytes) = (access.address(), access.size());
            let operand = u128::from_le_bytes(guest.operand);
            let (after, result) = perform(&access, &guest.registers, operand);
            assert_eq!(registers, after);
            assert_eq!(
                written,
                Some((address, result.to_le_bytes()[..bytes].to_vec()))
            );
            let store = Event::Store { bytes };
            let order = [
                Event::Pause,
                load(bytes, address),
                Event::Retire,
                store,
                Event::Resume,
            ];
            assert_eq!(log.events(), order);
            assert_eq!(objection(guest, &access), None);
        }
        Err(Stuck) => {
            assert!(untouched && guest.is_stuck);
            let events = log.events();
            assert!(matches!(
                events[..],
                [
                    Event::Pause,
                    Event::Load { .. },
                    Event::Retire,
                    Event::Resume
                ]
            ));
        }
        Ok(Emulated::LeftToCpu(Reason::Access(error))) => {
            assert!(untouched);
            let Decoded::Locked(access) = decoded else {
                panic!("{decoded} would not be loaded");
            };
            let (address, bytes) = (access.address(), access.size());
            let order = [Event::Pause, load(bytes, address), Event::Resume];
            assert_eq!(log.events(), order);
            let expected = (0..bytes as u64).find_map(|n| memory.error(address + n));
            assert_eq!(expected, Some(error));
        }
        Ok(Emulated::LeftToCpu(reason)) => {
            assert!(untouched && log.events().is_empty());
            match (decoded, reason) {
                // The code segment ends within the code.
                (_, Reason::NoLockedAccess(Decoded::Incomplete { available })) => {
                    assert!(available <= guest.code.len());
                }
                (Decoded::Locked(access), _) => {
                    assert_eq!(objection(guest, access), Some(reason));
                }
                _ => assert_eq!(reason, Reason::NoLockedAccess(*decoded)),
            }
        }
    }
    emulated
}

/// Whatever the memory says: a trap is due, or can be.
fn objection(guest: &Guest, access: &LockedAccess) -> Option<Reason> {
    let flag = |flag| guest.registers.rflags & flag != 0;
    let (address, size) = (access.address(), access.size() as u64);
    let last = match guest.context.mode {
        Mode::Bits64 => u64::MAX,
        Mode::Bits16 | Mode::Bits32 => u64::from(u32::MAX),
    };
    let checks_alignment =
        guest.context.alignment_mask && guest.context.cpl == 3 && flag(rflags::ALIGNMENT_CHECK);
    let objections = [
        (flag(rflags::TRAP), Reason::SingleStep),
        (guest.context.breakpoints, Reason::Breakpoints),
        (
            checks_alignment && address % size != 0,
            Reason::AlignmentCheck,
        ),
        (size - 1 > last - address, Reason::WrapsAround),
    ];
    objections
        .into_iter()
        .find_map(|(holds, reason)| holds.then_some(reason))
}

fn code_address(registers: &Registers, context: &Context) -> u64 {
    let base = context.segment(SegmentRegister::Cs).base;
    match context.mode {
        Mode::Bits64 => registers.rip,
        Mode::Bits16 | Mode::Bits32 => base.wrapping_add(registers.rip) & 0xffff_ffff,
    }
}

fn guest(input: &mut Unstructured<'_>) -> arbitrary::Result<Guest> {
    let mut code = input.bytes(MAX_INSTRUCTION_BYTES)?.to_vec();
    code.truncate(usize::from(input.arbitrary::<u8>()? % 128));
    let mut registers = Registers::default();
    for value in &mut registers.gpr {
        *value = number(input)?;
    }
    registers.rip = number(input)?;
    registers.rflags = input.arbitrary()?;
    if input.ratio(7, 8)? {
        registers.rflags &= !rflags::TRAP;
    }
    Ok(Guest {
        code,
        registers,
        context: context(input)?,
        is_stuck: input.ratio(1, 8)?,
        pages: [page(input)?, page(input)?],
        pages_elsewhere: match input.ratio(1, 8)? {
            true => Some(number(input)? & !0xfff),
            false => None,
        },
        operand: input.arbitrary()?,
    })
}

fn context(input: &mut Unstructured<'_>) -> arbitrary::Result<Context> {
    let mut context = Context {
        mode: *input.choose(&[Mode::Bits64, Mode::Bits32, Mode::Bits16])?,
        protected: input.arbitrary()?,
        cpl: input.arbitrary::<u8>()? % 4,
        alignment_mask: input.ratio(1, 8)?,
        five_level_paging: input.arbitrary()?,
        breakpoints: input.ratio(1, 8)?,
        segments: [Segment::FLAT; 6],
    };
    for segment in &mut context.segments {
        if input.ratio(1, 3)? {
            *segment = Segment {
                base: number(input)?,
                limit: input.arbitrary()?,
                usable: !input.ratio(1, 8)?,
                writable: !input.ratio(1, 8)?,
                expand_down: input.arbitrary()?,
                big: input.arbitrary()?,
            };
        }
    }
    Ok(context)
}

fn page(input: &mut Unstructured<'_>) -> arbitrary::Result<Page> {
    let others = [Page::Absent, Page::ReadOnly, Page::Device, Page::Undecided];
    Ok(match input.ratio(1, 4)? {
        true => *input.choose(&others)?,
        false => Page::Ram,
    })
}

/// Of any magnitude and sign, so that sums of some are often canonical.
fn number(input: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    let unused = input.arbitrary::<u8>()? % 64;
    let number: i64 = input.arbitrary()?;
    Ok((number >> unused).cast_unsigned())
}
