//! Instructions that need not be decoded again.

use super::lockable::Lockable;
use super::{Decoded, Instruction, LockedAccess, MAX_INSTRUCTION_BYTES, fetch, fetch_and_decode};
use crate::breakpoint_slots::SLOTS;
use crate::cpu::{Context, Registers};
use crate::memory::Memory;

/// The locked accesses that were decoded last, one for each breakpoint that there can be.
///
/// The bytes are read again each time, and one counts only if it stands there as it did before.
#[derive(Debug, Clone, Default)]
pub struct RecentInstructions {
    slots: [Option<Lockable>; SLOTS],
    oldest: usize,
}

impl RecentInstructions {
    /// The locked access that is executed next; `None` if it is none, or faults.
    pub(crate) fn next_access(
        &mut self,
        registers: &Registers,
        context: &Context,
        memory: &mut impl Memory,
    ) -> Option<LockedAccess> {
        let mut bytes = [0; MAX_INSTRUCTION_BYTES];
        let known = self.slots.iter().flatten().find(|it| {
            let instruction = &it.instruction;
            instruction.rip() == registers.rip && instruction.mode() == context.mode
        });
        if let Some(known) = known {
            let bytes = &mut bytes[..known.instruction.length()];
            let count = fetch::fetch(registers.rip, context, memory, bytes);
            if bytes[..count] == *known.instruction.bytes() {
                return known.access(registers, context).ok();
            }
        }
        let Decoded::Locked(access) = fetch_and_decode(registers, context, memory) else {
            return None;
        };
        self.remember(access.instruction());
        Some(access)
    }

    /// In the place of what stood at the same address, if something did.
    fn remember(&mut self, instruction: &Instruction) {
        let lockable = Lockable::again(instruction);
        let is_there = |slot: &Option<Lockable>| {
            let old = slot.as_ref().map(|it| &it.instruction);
            old.is_some_and(|it| it.rip() == instruction.rip() && it.mode() == instruction.mode())
        };
        let slot = self.slots.iter().position(is_there).unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % SLOTS;
            self.oldest
        });
        self.slots[slot] = lockable;
    }
}
