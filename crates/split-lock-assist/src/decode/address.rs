//! Where a memory operand lies.

use iced_x86::{Instruction as Iced, Register};

use super::{Fault, Operation, RegisterPart, Source};
use crate::cpu::{Context, Mode, Registers, Segment, SegmentRegister};

/// Linear address of an instruction's memory operand, if the CPU would get as far as to translate it.
pub(super) fn linear(
    iced: &Iced,
    operation: Operation,
    source: Source,
    registers: &Registers,
    context: &Context,
) -> Result<u64, Fault> {
    let size = iced.memory_size().size() as u64;
    let offset = effective(iced, operation, source, registers);
    let segment = segment_of(iced, context.mode);
    let address = match context.mode {
        Mode::Bits64 => in_64_bits(offset, size, segment, context)?,
        Mode::Bits16 | Mode::Bits32 => in_segment(offset as u32, size, segment, context)?,
    };
    if size == 16 && !address.is_multiple_of(16) {
        return Err(Fault::Misaligned { address });
    }
    Ok(address)
}

/// The offset in the segment, as many bits of it as the address size has.
fn effective(iced: &Iced, operation: Operation, source: Source, registers: &Registers) -> u64 {
    let (base, index) = (iced.memory_base(), iced.memory_index());
    let value = |register| RegisterPart::of(register).map_or(0, |part| part.read(registers));
    // Relative to the next instruction, the displacement is an address already.
    let mut offset = iced
        .memory_displacement64()
        .wrapping_add(value(base))
        .wrapping_add(value(index).wrapping_mul(iced.memory_index_scale().into()));
    if operation.addresses_bits() {
        offset = offset.wrapping_add(bit_string_offset(source, registers));
    }
    let address_bytes = match (base, index) {
        (Register::None, Register::None) => iced.memory_displ_size() as usize,
        (Register::None, register) | (register, _) => register.size(),
    };
    match address_bytes {
        2 => offset & u64::from(u16::MAX),
        4 => offset & u64::from(u32::MAX),
        _ => offset,
    }
}

/// How far from the start of a string of bits the operand lies that has the bit in it. An immediate
/// does not reach beyond the first.
fn bit_string_offset(source: Source, registers: &Registers) -> u64 {
    let Source::Register(part) = source else {
        return 0;
    };
    let bytes = i64::from(part.bytes());
    let bit = part.read_signed(registers);
    (bit.div_euclid(8 * bytes) * bytes).cast_unsigned()
}

/// The segment that an operand is in. In 64-bit mode the prefixes of ES, CS, SS and DS do not count.
fn segment_of(iced: &Iced, mode: Mode) -> SegmentRegister {
    let mut iced = *iced;
    if mode == Mode::Bits64 && !matches!(iced.segment_prefix(), Register::FS | Register::GS) {
        iced.set_segment_prefix(Register::None);
    }
    match iced.memory_segment() {
        Register::ES => SegmentRegister::Es,
        Register::CS => SegmentRegister::Cs,
        Register::SS => SegmentRegister::Ss,
        Register::FS => SegmentRegister::Fs,
        Register::GS => SegmentRegister::Gs,
        _ => SegmentRegister::Ds,
    }
}

/// 64-bit mode knows only the bases of FS and GS, and no limits.
fn in_64_bits(
    offset: u64,
    size: u64,
    segment: SegmentRegister,
    context: &Context,
) -> Result<u64, Fault> {
    let base = match segment {
        SegmentRegister::Fs | SegmentRegister::Gs => context.segment(segment).base,
        _ => 0,
    };
    let address = base.wrapping_add(offset);
    let canonical = |address| is_canonical(address, context);
    if [offset, address]
        .into_iter()
        .all(|first| canonical(first) && canonical(first.wrapping_add(size - 1)))
    {
        Ok(address)
    } else {
        Err(Fault::NonCanonical { address, segment })
    }
}

fn is_canonical(address: u64, context: &Context) -> bool {
    let unused = if context.five_level_paging {
        64 - 57
    } else {
        64 - 48
    };
    let address = address.cast_signed();
    (address << unused) >> unused == address
}

fn in_segment(
    offset: u32,
    size: u64,
    segment: SegmentRegister,
    context: &Context,
) -> Result<u64, Fault> {
    let descriptor = context.segment(segment);
    if !descriptor.usable {
        return Err(Fault::Unusable { segment });
    }
    if !descriptor.writable {
        return Err(Fault::ReadOnly { segment });
    }
    if !holds(&descriptor, offset, size) {
        return Err(Fault::BeyondLimit { offset, segment });
    }
    let address = descriptor.base.wrapping_add(offset.into());
    Ok(address & u64::from(u32::MAX))
}

/// All of an operand lies in a segment.
fn holds(segment: &Segment, offset: u32, size: u64) -> bool {
    let first = u64::from(offset);
    let last = first + size - 1;
    let limit = u64::from(segment.limit);
    if !segment.expand_down {
        return last <= limit;
    }
    let top = if segment.big { u32::MAX } else { 0xffff };
    first > limit && last <= u64::from(top)
}
