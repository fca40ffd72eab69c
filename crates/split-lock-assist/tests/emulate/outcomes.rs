//! What some instructions come to, worked out by hand. The oracle asks the CPU about all of them.

use split_lock_assist::cpu::{Context, Gpr, Mode, Registers, rflags};
use split_lock_assist::decode::{Decoded, decode};
use split_lock_assist::emulate::{perform, undefined_flags};

const STATUS: u64 = rflags::CARRY
    | rflags::PARITY
    | rflags::ADJUST
    | rflags::ZERO
    | rflags::SIGN
    | rflags::OVERFLOW;

fn before(registers: &[(Gpr, u64)], flags: u64) -> Registers {
    let mut all = Registers {
        rip: 0x1000,
        rflags: 2 | flags,
        ..Registers::default()
    };
    for &(register, value) in registers {
        all.set(register, value);
    }
    all
}

#[track_caller]
fn done(bytes: &[u8], before: &Registers, mode: Mode, operand: u128) -> (Registers, u128) {
    let context = Context {
        mode,
        ..Context::long_mode(3)
    };
    match decode(bytes, before, &context) {
        Decoded::Locked(access) => perform(&access, before, operand),
        other => panic!("{other}"),
    }
}

#[track_caller]
fn in_64_bits(bytes: &[u8], before: &Registers, operand: u128) -> (Registers, u128) {
    done(bytes, before, Mode::Bits64, operand)
}

#[test]
fn sums_and_their_flags() {
    // lock add byte ptr [rdi],al
    let add = |left: u8, right: u8| {
        let before = before(&[(Gpr::Rax, right.into())], 0);
        let (after, sum) = in_64_bits(&[0xf0, 0x00, 0x07], &before, left.into());
        (sum, after.rflags & STATUS)
    };
    assert_eq!(add(1, 2), (3, rflags::PARITY));
    assert_eq!(add(0x0f, 1), (0x10, rflags::ADJUST));
    let carried = rflags::CARRY | rflags::ZERO | rflags::PARITY | rflags::ADJUST;
    assert_eq!(add(0xff, 1), (0, carried));
    let overflown = rflags::OVERFLOW | rflags::SIGN | rflags::ADJUST;
    assert_eq!(add(0x7f, 1), (0x80, overflown));
}

#[test]
fn the_carry_goes_in_and_out() {
    // lock sbb qword ptr [rdi],0
    let borrow = before(&[], rflags::CARRY);
    let (after, difference) = in_64_bits(&[0xf0, 0x48, 0x83, 0x1f, 0], &borrow, 0);
    assert_eq!(difference, u64::MAX.into());
    let flags = rflags::CARRY | rflags::SIGN | rflags::PARITY | rflags::ADJUST;
    assert_eq!(after.rflags & STATUS, flags);
    // lock inc qword ptr [rdi] leaves it alone
    let (after, sum) = in_64_bits(&[0xf0, 0x48, 0xff, 0x07], &borrow, u64::MAX.into());
    assert_eq!(sum, 0);
    assert_ne!(after.rflags & rflags::CARRY, 0);
}

#[test]
fn not_changes_no_flags() {
    let before = before(&[], STATUS);
    let (after, result) = in_64_bits(&[0xf0, 0xf6, 0x17], &before, 0x0f);
    assert_eq!(result, 0xf0);
    assert_eq!(after.rflags, before.rflags);
}

#[test]
fn a_resumed_instruction_is_over() {
    let before = before(&[], rflags::RESUME);
    let (after, _) = in_64_bits(&[0xf0, 0xf6, 0x17], &before, 0);
    assert_eq!(after.rflags, 2);
    assert_eq!(after.rip, 0x1003);
}

#[test]
fn a_register_is_written_as_wide_as_it_is_named() {
    let all_ones = before(&[(Gpr::Rcx, u64::MAX)], 0);
    let rcx = |bytes: &[u8]| in_64_bits(bytes, &all_ones, 0).0.get(Gpr::Rcx);
    assert_eq!(rcx(&[0x48, 0x87, 0x0f]), 0);
    assert_eq!(rcx(&[0x87, 0x0f]), 0);
    assert_eq!(rcx(&[0x66, 0x87, 0x0f]), 0xffff_ffff_ffff_0000);
    assert_eq!(rcx(&[0x86, 0x0f]), 0xffff_ffff_ffff_ff00);
    // xchg [rdi],ch
    assert_eq!(rcx(&[0x86, 0x2f]), 0xffff_ffff_ffff_00ff);
    // With REX the same number means BPL.
    let (after, operand) = in_64_bits(&[0x40, 0x86, 0x2f], &all_ones, 0x55);
    assert_eq!(after.get(Gpr::Rcx), u64::MAX);
    assert_eq!((after.get(Gpr::Rbp), operand), (0x55, 0));
}

#[test]
fn cmpxchg_that_fails_takes_the_old_value() {
    // lock cmpxchg [rdi],ecx
    let bytes = [0xf0, 0x0f, 0xb1, 0x0f];
    let rax = 0xaaaa_aaaa_0000_0005;
    let before = before(&[(Gpr::Rax, rax), (Gpr::Rcx, 9)], 0);
    let (after, operand) = in_64_bits(&bytes, &before, 7);
    assert_eq!((after.get(Gpr::Rax), operand), (7, 7));
    assert_eq!(after.rflags & rflags::ZERO, 0);
    // 5 - 7 borrows.
    assert_ne!(after.rflags & rflags::CARRY, 0);
    // Where it succeeds not even the upper half of RAX is written.
    let (after, operand) = in_64_bits(&bytes, &before, 5);
    assert_eq!((after.get(Gpr::Rax), operand), (rax, 9));
    assert_ne!(after.rflags & rflags::ZERO, 0);
}

#[test]
fn cmpxchg16b_compares_and_replaces_a_pair() {
    let bytes = [0xf0, 0x48, 0x0f, 0xc7, 0x0f];
    let pair = [(Gpr::Rax, 1), (Gpr::Rdx, 2), (Gpr::Rbx, 3), (Gpr::Rcx, 4)];
    let before = before(&pair, STATUS);
    let (after, operand) = in_64_bits(&bytes, &before, 2 << 64 | 1);
    assert_eq!(operand, 4 << 64 | 3);
    assert_eq!(after.rflags & STATUS, STATUS);
    let (after, operand) = in_64_bits(&bytes, &before, 8 << 64 | 1);
    assert_eq!(operand, 8 << 64 | 1);
    assert_eq!((after.get(Gpr::Rax), after.get(Gpr::Rdx)), (1, 8));
    assert_eq!(after.rflags & STATUS, STATUS & !rflags::ZERO);
}

#[test]
fn xadd_exchanges_before_it_adds() {
    // lock xadd [rax],rax: the register is part of the address, too
    let before = before(&[(Gpr::Rax, 0x1000)], 0);
    let (after, operand) = in_64_bits(&[0xf0, 0x48, 0x0f, 0xc1, 0x00], &before, 5);
    assert_eq!((after.get(Gpr::Rax), operand), (5, 0x1005));
}

#[test]
fn bits_are_numbered_within_the_operand() {
    // lock btr [rdi],ecx
    let bytes = [0xf0, 0x0f, 0xb3, 0x0f];
    let clear = |bit: i64| {
        let before = before(&[(Gpr::Rcx, bit.cast_unsigned())], 0);
        let (after, operand) = in_64_bits(&bytes, &before, 0x8000_0001);
        (operand, after.rflags & rflags::CARRY)
    };
    assert_eq!(clear(0), (0x8000_0000, 1));
    assert_eq!(clear(-1), (1, 1));
    assert_eq!(clear(33), (0x8000_0001, 0));
    // lock btc dword ptr [rdi],63
    let immediate = [0xf0, 0x0f, 0xba, 0x3f, 63];
    assert_eq!(in_64_bits(&immediate, &before(&[], 0), 0).1, 0x8000_0000);
}

#[test]
fn the_next_instruction_is_found_in_every_mode() {
    let inc = [0xf0, 0xfe, 0x07];
    let next = |mode, rip| {
        let before = Registers {
            rip,
            ..before(&[], 0)
        };
        done(&inc, &before, mode, 0).0.rip
    };
    assert_eq!(next(Mode::Bits64, 0xffff_fffd), 0x1_0000_0000);
    assert_eq!(next(Mode::Bits32, 0xffff_fffd), 0);
    assert_eq!(next(Mode::Bits16, 0xfffd), 0x1_0000);
}

#[test]
fn sizes_are_those_of_the_mode() {
    // lock add [di/edi/rdi],ax/eax
    let add = [0xf0, 0x01, 0x05];
    let wide = [0x66, 0xf0, 0x01, 0x05];
    let before = before(&[(Gpr::Rax, 0x1_0001)], 0);
    assert_eq!(done(&add, &before, Mode::Bits16, 0xffff).1, 0);
    assert_eq!(done(&wide, &before, Mode::Bits16, 0xffff).1, 0x2_0000);
    let add = [0xf0, 0x01, 0x07];
    let short = [0x66, 0xf0, 0x01, 0x07];
    for mode in [Mode::Bits32, Mode::Bits64] {
        assert_eq!(done(&add, &before, mode, 0xffff).1, 0x2_0000);
        assert_eq!(done(&short, &before, mode, 0xffff).1, 0);
    }
}

#[test]
fn undefined_flags_are_those_of_the_manuals() {
    let undefined = |bytes: &[u8]| {
        let registers = before(&[], 0);
        match decode(bytes, &registers, &Context::long_mode(3)) {
            Decoded::Locked(access) => undefined_flags(&access),
            other => panic!("{other}"),
        }
    };
    assert_eq!(undefined(&[0xf0, 0x21, 0x07]), rflags::ADJUST);
    assert_eq!(undefined(&[0xf0, 0x01, 0x07]), 0);
    assert_eq!(
        undefined(&[0xf0, 0x0f, 0xab, 0x07]),
        STATUS & !rflags::CARRY
    );
}
