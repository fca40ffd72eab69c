//! Where a memory operand lies.

use iced_x86::{Instruction as Iced, Register};

use super::{Fault, Operation, RegisterPart, Source};
use crate::cpu::{Context, Mode, Registers, Segment, SegmentRegister};

/// A memory operand, as the instruction has it.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    /// Relative to the next instruction it is an address already.
    displacement: u64,
    base: Option<RegisterPart>,
    index: Option<RegisterPart>,
    scale: u64,
    /// How many bytes an offset has.
    offset_mask: u64,
    segment: SegmentRegister,
    pub(super) size: usize,
}

impl Operand {
    pub(super) fn of(iced: &Iced, mode: Mode) -> Self {
        let (base, index) = (iced.memory_base(), iced.memory_index());
        let address_bytes = match (base, index) {
            (Register::None, Register::None) => iced.memory_displ_size() as usize,
            (Register::None, register) | (register, _) => register.size(),
        };
        Self {
            displacement: iced.memory_displacement64(),
            base: RegisterPart::of(base),
            index: RegisterPart::of(index),
            scale: iced.memory_index_scale().into(),
            offset_mask: match address_bytes {
                2 => u16::MAX.into(),
                4 => u32::MAX.into(),
                _ => u64::MAX,
            },
            segment: segment_of(iced, mode),
            size: iced.memory_size().size(),
        }
    }

    /// Its linear address, if the CPU would get as far as to translate it.
    pub(super) fn linear(
        &self,
        operation: Operation,
        source: Source,
        registers: &Registers,
        context: &Context,
    ) -> Result<u64, Fault> {
        let size = self.size as u64;
        let offset = self.offset(operation, source, registers);
        let address = match context.mode {
            Mode::Bits64 => in_64_bits(offset, size, self.segment, context)?,
            Mode::Bits16 | Mode::Bits32 => in_segment(offset as u32, size, self.segment, context)?,
        };
        if size == 16 && !address.is_multiple_of(16) {
            return Err(Fault::Misaligned { address });
        }
        Ok(address)
    }

    /// The offset in the segment, as many bits of it as the address size has.
    fn offset(&self, operation: Operation, source: Source, registers: &Registers) -> u64 {
        let value = |part: Option<RegisterPart>| part.map_or(0, |part| part.read(registers));
        let mut offset = self
            .displacement
            .wrapping_add(value(self.base))
            .wrapping_add(value(self.index).wrapping_mul(self.scale));
        if operation.addresses_bits() {
            offset = offset.wrapping_add(bit_string_offset(source, registers));
        }
        offset & self.offset_mask
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
