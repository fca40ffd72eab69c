//! What a locked instruction makes of registers and operand.

use super::arithmetic::{Outcome, STATUS, Width};
use crate::cpu::{Gpr, Registers, rflags};
use crate::decode::{LockedAccess, Operation, RegisterPart, Source};

/// Does a locked instruction on its operand, whose bytes are given and returned as a number (the
/// first byte is the lowest). The registers are those that the access was decoded with.
///
/// Flags that are [undefined](undefined_flags) become what CPUs make of them in practice.
///
/// ```
/// use split_lock_assist::cpu::{Context, Gpr, Registers, rflags};
/// use split_lock_assist::decode::{Decoded, decode};
/// use split_lock_assist::emulate::perform;
///
/// // lock xadd word ptr [rbx],cx
/// let mut before = Registers { rip: 0x40_0000, ..Registers::default() };
/// before.set(Gpr::Rcx, 0xaaaa_0001);
/// let bytes = [0xf0, 0x66, 0x0f, 0xc1, 0x0b];
/// let Decoded::Locked(access) = decode(&bytes, &before, &Context::long_mode(3)) else {
///     panic!("this one locks");
/// };
///
/// let (after, operand) = perform(&access, &before, 0xffff);
/// assert_eq!(operand, 0);
/// assert_eq!(after.get(Gpr::Rcx), 0xaaaa_ffff);
/// assert_ne!(after.rflags & rflags::CARRY, 0);
/// assert_eq!(after.rip, 0x40_0005);
/// ```
#[must_use]
pub fn perform(access: &LockedAccess, before: &Registers, operand: u128) -> (Registers, u128) {
    let mut after = *before;
    let result = change(access, &mut after, operand);
    after.rip = access.instruction().next_rip();
    after.rflags &= !rflags::RESUME;
    (after, result)
}

/// The flags that the manuals leave open after an instruction.
///
/// Of AND, OR and XOR that is the adjust flag, which CPUs clear; of BTS, BTR and BTC all but the
/// carry, which CPUs leave alone (Intel's manual promises it for the zero flag, AMD's does not).
#[must_use]
pub fn undefined_flags(access: &LockedAccess) -> u64 {
    match access.operation() {
        Operation::And | Operation::Or | Operation::Xor => rflags::ADJUST,
        Operation::BitSet | Operation::BitReset | Operation::BitComplement => {
            STATUS & !rflags::CARRY
        }
        _ => 0,
    }
}

/// The operand's new value.
fn change(access: &LockedAccess, registers: &mut Registers, operand: u128) -> u128 {
    let width = Width::of_bytes(access.size());
    let operand = width.truncate(operand);
    let source = match access.source() {
        Source::None => 0,
        Source::Immediate(value) => width.truncate(value.into()),
        Source::Register(part) => part.read(registers).into(),
    };
    let carry = registers.rflags & rflags::CARRY != 0;
    let mut finish = |outcome: Outcome, flags: u64| {
        registers.rflags = registers.rflags & !flags | outcome.flags & flags;
        outcome.value
    };
    match access.operation() {
        Operation::Add => finish(width.add(operand, source, false), STATUS),
        Operation::AddWithCarry => finish(width.add(operand, source, carry), STATUS),
        Operation::Subtract => finish(width.subtract(operand, source, false), STATUS),
        Operation::SubtractWithBorrow => finish(width.subtract(operand, source, carry), STATUS),
        Operation::Negate => finish(width.subtract(0, operand, false), STATUS),
        Operation::Increment => finish(width.add(operand, 1, false), STATUS & !rflags::CARRY),
        Operation::Decrement => finish(width.subtract(operand, 1, false), STATUS & !rflags::CARRY),
        Operation::And => finish(width.bitwise(operand & source), STATUS),
        Operation::Or => finish(width.bitwise(operand | source), STATUS),
        Operation::Xor => finish(width.bitwise(operand ^ source), STATUS),
        Operation::Not => width.truncate(!operand),
        Operation::BitSet => operand | test_bit(registers, width, operand, source),
        Operation::BitReset => operand & !test_bit(registers, width, operand, source),
        Operation::BitComplement => operand ^ test_bit(registers, width, operand, source),
        Operation::ExchangeAdd => {
            let sum = finish(width.add(operand, source, false), STATUS);
            write_source(access, registers, operand);
            sum
        }
        Operation::Exchange => {
            write_source(access, registers, operand);
            source
        }
        Operation::CompareExchange => compare_exchange(access, registers, width, operand, source),
        Operation::CompareExchangePair => compare_exchange_pair(access, registers, operand),
    }
}

fn write_source(access: &LockedAccess, registers: &mut Registers, value: u128) {
    if let Source::Register(part) = access.source() {
        part.write(registers, value as u64);
    }
}

/// Copies a bit of the operand to the carry flag. The answer has this bit set and no other.
fn test_bit(registers: &mut Registers, width: Width, operand: u128, number: u128) -> u128 {
    let bit = 1 << (number as u32 % width.bits());
    set_flag(registers, rflags::CARRY, operand & bit != 0);
    bit
}

fn compare_exchange(
    access: &LockedAccess,
    registers: &mut Registers,
    width: Width,
    operand: u128,
    source: u128,
) -> u128 {
    let accumulator = RegisterPart::low(Gpr::Rax, access.size());
    let expected = accumulator.read(registers).into();
    let difference = width.subtract(expected, operand, false);
    registers.rflags = registers.rflags & !STATUS | difference.flags;
    if expected == operand {
        source
    } else {
        // Where it succeeds the accumulator is not written: its upper half stays as it is.
        accumulator.write(registers, operand as u64);
        operand
    }
}

/// Compares with RDX:RAX, and replaces by RCX:RBX where equal; with the lower halves of these for
/// CMPXCHG8B.
fn compare_exchange_pair(access: &LockedAccess, registers: &mut Registers, operand: u128) -> u128 {
    let bytes = access.size() / 2;
    let half = Width::of_bytes(bytes).bits();
    let part = |register| RegisterPart::low(register, bytes);
    let pair = |registers: &Registers, high: Gpr, low: Gpr| {
        u128::from(part(high).read(registers)) << half | u128::from(part(low).read(registers))
    };
    let equal = pair(registers, Gpr::Rdx, Gpr::Rax) == operand;
    set_flag(registers, rflags::ZERO, equal);
    if equal {
        pair(registers, Gpr::Rcx, Gpr::Rbx)
    } else {
        part(Gpr::Rax).write(registers, operand as u64);
        part(Gpr::Rdx).write(registers, (operand >> half) as u64);
        operand
    }
}

fn set_flag(registers: &mut Registers, flag: u64, set: bool) {
    registers.rflags &= !flag;
    if set {
        registers.rflags |= flag;
    }
}
