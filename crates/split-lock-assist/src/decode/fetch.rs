//! Reading the instruction that is about to be executed.

use crate::cpu::{Context, Mode, SegmentRegister};
use crate::memory::Memory;

/// How many bytes there are: fewer than asked for where the segment, the address space or the pages
/// that can be read end.
pub(super) fn fetch(
    rip: u64,
    context: &Context,
    memory: &mut impl Memory,
    bytes: &mut [u8],
) -> usize {
    let Some((address, bytes_to_end)) = place(rip, context) else {
        return 0;
    };
    let wanted = usize::try_from(bytes_to_end).map_or(bytes.len(), |end| bytes.len().min(end));
    memory.fetch(address, &mut bytes[..wanted]).min(wanted)
}

/// The linear address of an offset in the code segment, and how many bytes can follow from there on
/// (fewer by one at address 0, where nobody counts). None beyond the segment.
fn place(rip: u64, context: &Context) -> Option<(u64, u64)> {
    if context.mode == Mode::Bits64 {
        return Some((rip, (u64::MAX - rip).saturating_add(1)));
    }
    const LAST: u64 = u32::MAX as u64;
    let code = context.segment(SegmentRegister::Cs);
    let offset = rip & LAST;
    let in_segment = u64::from(code.limit).checked_sub(offset)? + 1;
    let address = code.base.wrapping_add(offset) & LAST;
    Some((address, in_segment.min(LAST - address + 1)))
}
