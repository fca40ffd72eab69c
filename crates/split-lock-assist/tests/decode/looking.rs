//! Fetching what a vCPU is about to execute.

use split_lock_assist::cpu::{Context, CpuState, Mode, Registers, Segment, SegmentRegister};
use split_lock_assist::decode::{Decoded, decode_next};
use split_lock_assist::memory::{AccessError, Memory, WritePermit};

/// Memory in which every instruction is `lock add [rax],eax`, up to an address.
struct Adds {
    end: u64,
    asked_for: Vec<(u64, usize)>,
}

struct Never;

impl WritePermit for Never {
    fn store(self, _: &[u8]) {
        panic!("decoding changes nothing")
    }
}

impl Memory for Adds {
    type Permit<'a> = Never;

    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        assert!(
            bytes.len() as u64 - 1 <= u64::MAX - address,
            "it wraps around"
        );
        self.asked_for.push((address, bytes.len()));
        let count = bytes.len().min(self.end.saturating_sub(address) as usize);
        for (byte, value) in bytes[..count]
            .iter_mut()
            .zip([0xf0, 0x01, 0x00].iter().cycle())
        {
            *byte = *value;
        }
        count
    }

    fn load_for_update(&mut self, _: u64, _: &mut [u8]) -> Result<Never, AccessError> {
        panic!("decoding reads no data")
    }
}

fn decode_at(rip: u64, context: Context, end: u64) -> (Decoded, Vec<(u64, usize)>) {
    let mut memory = Adds {
        end,
        asked_for: Vec::new(),
    };
    let registers = Registers {
        rip,
        ..Registers::default()
    };
    let Ok(decoded) = decode_next(&CpuState { registers, context }, &mut memory);
    (decoded, memory.asked_for)
}

fn code_segment(mode: Mode, base: u64, limit: u32) -> Context {
    let mut context = Context {
        mode,
        ..Context::long_mode(3)
    };
    context.segments[SegmentRegister::Cs as usize] = Segment {
        base,
        limit,
        ..Segment::FLAT
    };
    context
}

#[test]
fn what_can_be_fetched_is_enough_or_not() {
    let (decoded, asked_for) = decode_at(0x1ffd, Context::long_mode(3), 0x2000);
    assert!(matches!(decoded, Decoded::Locked(access) if access.length() == 3));
    assert_eq!(asked_for, [(0x1ffd, 15)]);
    let (decoded, _) = decode_at(0x1ffe, Context::long_mode(3), 0x2000);
    assert_eq!(decoded, Decoded::Incomplete { available: 2 });
    let (decoded, _) = decode_at(0x3000, Context::long_mode(3), 0x2000);
    assert_eq!(decoded, Decoded::Incomplete { available: 0 });
}

#[test]
fn code_lies_in_its_segment() {
    let context = code_segment(Mode::Bits32, 0xffff_f000, 0xffff);
    let (decoded, asked_for) = decode_at(0x2000, context, u64::MAX);
    assert!(matches!(decoded, Decoded::Locked(_)));
    assert_eq!(asked_for, [(0x1000, 15)]);
    // In 64-bit mode it has neither base nor limit.
    let context = code_segment(Mode::Bits64, 0xffff_f000, 0xffff);
    let (_, asked_for) = decode_at(0x2_0000, context, u64::MAX);
    assert_eq!(asked_for, [(0x2_0000, 15)]);
}

#[test]
fn code_ends_with_its_segment() {
    let context = code_segment(Mode::Bits16, 0x1_0000, 0x1fff);
    let (decoded, asked_for) = decode_at(0x1ffe, context, u64::MAX);
    assert_eq!(decoded, Decoded::Incomplete { available: 2 });
    assert_eq!(asked_for, [(0x1_1ffe, 2)]);
    let (decoded, asked_for) = decode_at(0x2000, context, u64::MAX);
    assert_eq!(decoded, Decoded::Incomplete { available: 0 });
    assert_eq!(asked_for, []);
}

#[test]
fn code_ends_with_the_address_space() {
    let context = code_segment(Mode::Bits32, 0xffff_f000, u32::MAX);
    let (_, asked_for) = decode_at(0xffc, context, u64::MAX);
    assert_eq!(asked_for, [(0xffff_fffc, 4)]);
    let (_, asked_for) = decode_at(u64::MAX - 3, Context::long_mode(0), u64::MAX);
    assert_eq!(asked_for, [(u64::MAX - 3, 4)]);
    // Address 0 is as far from the end as it gets.
    let (_, asked_for) = decode_at(0, Context::long_mode(0), u64::MAX);
    assert_eq!(asked_for, [(0, 15)]);
}
