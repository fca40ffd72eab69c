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
    let address = context.code_address(rip);
    let Some(bytes_to_end) = bytes_to_end(rip, address, context) else {
        return 0;
    };
    let wanted = usize::try_from(bytes_to_end).map_or(bytes.len(), |end| bytes.len().min(end));
    memory.fetch(address, &mut bytes[..wanted]).min(wanted)
}

/// How many bytes can follow from an offset in the code segment on, which is at `address` (fewer by
/// one at address 0, where nobody counts). None beyond the segment.
fn bytes_to_end(rip: u64, address: u64, context: &Context) -> Option<u64> {
    if context.mode == Mode::Bits64 {
        return Some((u64::MAX - rip).saturating_add(1));
    }
    const LAST: u64 = u32::MAX as u64;
    let limit = context.segment(SegmentRegister::Cs).limit;
    let in_segment = u64::from(limit).checked_sub(rip & LAST)? + 1;
    Some(in_segment.min(LAST - address + 1))
}
