//! Against instructions that are encoded and read by hand.

use proptest::prelude::*;
use split_lock_assist::cpu::{Context, Mode, Registers, Segment, SegmentRegister};
use split_lock_assist::decode::{Decoded, MAX_INSTRUCTION_BYTES, decode};

use crate::common::encoding::{EXCHANGES, Encoding, NOT_LOCKABLE, lockable};
use crate::common::random::Random;

const MODES: [Mode; 3] = [Mode::Bits16, Mode::Bits32, Mode::Bits64];

/// Segments that hold everything, somewhere.
fn context(random: &mut Random, mode: Mode) -> Context {
    Context {
        mode,
        segments: std::array::from_fn(|_| Segment {
            base: random.value(),
            ..Segment::FLAT
        }),
        ..Context::long_mode(3)
    }
}

fn registers(random: &mut Random) -> Registers {
    Registers {
        gpr: std::array::from_fn(|_| random.value()),
        rip: random.value(),
        rflags: 2,
    }
}

/// Something lockable with LOCK, or XCHG without, that has no more bytes than the CPU allows.
fn locked(random: &mut Random, mode: Mode) -> Encoding {
    loop {
        let lock = !random.one_in(16);
        let opcode = if lock {
            *random.pick(&lockable(mode))
        } else {
            *random.pick(&EXCHANGES)
        };
        let encoding = Encoding::random(random, mode, opcode, lock);
        if encoding.bytes().len() <= MAX_INSTRUCTION_BYTES {
            return encoding;
        }
    }
}

fn canonical(address: u64) -> bool {
    let top = address >> 47;
    top == 0 || top == (1 << 17) - 1
}

/// Where the operand is, by the manuals.
fn linear(encoding: &Encoding, registers: &Registers, context: &Context) -> u64 {
    let segment = encoding.segment();
    let base = context.segment(segment).base;
    let offset = encoding.offset(&registers.gpr, registers.rip);
    match (context.mode, segment) {
        (Mode::Bits64, SegmentRegister::Fs | SegmentRegister::Gs) => base.wrapping_add(offset),
        (Mode::Bits64, _) => offset,
        _ => base.wrapping_add(offset) & 0xffff_ffff,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn arbitrary_bytes_have_an_answer(
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        seed in any::<u64>(),
        mode in prop::sample::select(&MODES),
    ) {
        let mut random = Random::new(seed);
        let context = context(&mut random, mode);
        match decode(&bytes, &registers(&mut random), &context) {
            Decoded::Locked(access) => {
                prop_assert_eq!(&bytes[..access.length()], access.instruction().bytes());
                prop_assert!([1, 2, 4, 8, 16].contains(&access.size()));
            }
            Decoded::NotLocked(instruction)
            | Decoded::CannotBeLocked(instruction)
            | Decoded::ImplicitLock { instruction, .. }
            | Decoded::Faults { instruction, .. } => {
                prop_assert_eq!(&bytes[..instruction.length()], instruction.bytes());
                prop_assert!((1..=MAX_INSTRUCTION_BYTES).contains(&instruction.length()));
                prop_assert!(!instruction.to_string().is_empty());
            }
            Decoded::Incomplete { available } => {
                prop_assert_eq!(available, bytes.len());
                prop_assert!(available < MAX_INSTRUCTION_BYTES);
            }
            Decoded::Invalid => {}
        }
    }

    #[test]
    fn a_locked_operand_is_where_the_manual_says(
        seed in any::<u64>(),
        mode in prop::sample::select(&MODES),
    ) {
        let mut random = Random::new(seed);
        let context = context(&mut random, mode);
        let registers = registers(&mut random);
        let encoding = locked(&mut random, mode);
        let bytes = encoding.bytes();
        let size = encoding.operand_bytes();
        let offset = encoding.offset(&registers.gpr, registers.rip);
        let address = linear(&encoding, &registers, &context);
        let last = address.wrapping_add(size as u64 - 1);
        let last_offset = offset.wrapping_add(size as u64 - 1);
        let beyond = match mode {
            Mode::Bits64 => ![offset, last_offset, address, last].into_iter().all(canonical),
            _ => last_offset > 0xffff_ffff,
        };
        let fault = beyond
            || (size == 16 && !address.is_multiple_of(16));
        match decode(&bytes, &registers, &context) {
            Decoded::Locked(access) => {
                prop_assert!(!fault, "{access} at {address:#x} faults");
                prop_assert_eq!(access.address(), address);
                prop_assert_eq!(access.size(), size);
                prop_assert_eq!(access.length(), bytes.len());
                prop_assert_eq!(access.has_lock_prefix(), encoding.has_lock());
                prop_assert_eq!(access.crosses_line(), address / 64 != last / 64);
                prop_assert_eq!(access.crosses_page(), address / 4096 != last / 4096);
                prop_assert_eq!(access.is_aligned(), address.is_multiple_of(size as u64));
            }
            Decoded::Faults { fault: why, instruction } => {
                prop_assert!(fault, "{instruction} at {address:#x}: {why}");
            }
            other => prop_assert!(false, "{bytes:02x?}: {other}"),
        }
    }

    /// However it is cut off, that is noticed.
    #[test]
    fn a_part_of_an_instruction_is_incomplete(
        seed in any::<u64>(),
        mode in prop::sample::select(&MODES),
    ) {
        let mut random = Random::new(seed);
        let context = context(&mut random, mode);
        let registers = registers(&mut random);
        let bytes = locked(&mut random, mode).bytes();
        let available = random.below(bytes.len() as u64) as usize;
        prop_assert_eq!(
            decode(&bytes[..available], &registers, &context),
            Decoded::Incomplete { available }
        );
    }

    #[test]
    fn lock_is_undefined_where_nothing_is_written_to_memory(
        seed in any::<u64>(),
        mode in prop::sample::select(&MODES),
    ) {
        let mut random = Random::new(seed);
        let context = context(&mut random, mode);
        let registers = registers(&mut random);
        let encoding = if random.one_in(2) {
            let opcode = *random.pick(&lockable(mode));
            Encoding::random(&mut random, mode, opcode, true).with_register_destination()
        } else {
            let opcode = *random.pick(&NOT_LOCKABLE);
            Encoding::random(&mut random, mode, opcode, true)
        };
        let bytes = encoding.bytes();
        prop_assume!(bytes.len() <= MAX_INSTRUCTION_BYTES);
        let decoded = decode(&bytes, &registers, &context);
        prop_assert!(
            matches!(decoded, Decoded::CannotBeLocked(instruction) if instruction.bytes() == bytes)
                || decoded == Decoded::Invalid,
            "{bytes:02x?}: {decoded}"
        );
    }
}
