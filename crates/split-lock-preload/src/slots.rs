//! The memory slots of a VM: what its VMM has lent to the guest.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

use crate::lock;

const PAGE_BYTES: u64 = 4096;

/// What the guest has at the addresses that KVM was told, for the address space that it has outside of system management
/// mode.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// KVM does not allow them to overlap.
    slots: Vec<Slot>,
    /// KVM writes the pages that the guest has written into a ring, to which nobody else can add any.
    has_dirty_ring: bool,
}

/// A slot as the VMM describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotChange {
    /// The slot in the low half, the address space in the high one.
    pub(crate) number: u32,
    pub(crate) guest: u64,
    pub(crate) bytes: u64,
    pub(crate) host: u64,
    pub(crate) read_only: bool,
    pub(crate) logs_writes: bool,
    /// The guest may have memory there that its VMM has not.
    pub(crate) private: bool,
}

#[derive(Debug)]
struct Slot {
    it: SlotChange,
    /// It is memory, and not a device that is mapped. Found out when it is first used.
    is_memory: OnceLock<bool>,
    /// Pages that were written here since the VMM last asked.
    written: Mutex<BTreeSet<u64>>,
}

/// Where some bytes of the guest's memory are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    slot: &'a Slot,
    /// From the slot's beginning.
    offset: u64,
    /// The address for us.
    pub(crate) host: u64,
}

impl Slots {
    /// KVM has accepted this.
    pub(crate) fn apply(&mut self, change: SlotChange) {
        let (space, is_deletion) = (change.number >> 16, change.bytes == 0);
        if space != 0 {
            return;
        }
        let written = self
            .slots
            .iter()
            .position(|slot| slot.it.number == change.number)
            .map(|at| self.slots.swap_remove(at).written)
            .unwrap_or_default();
        if !is_deletion {
            self.slots.push(Slot {
                it: change,
                is_memory: OnceLock::new(),
                written,
            });
        }
    }

    pub(crate) fn use_dirty_ring(&mut self) {
        self.has_dirty_ring = true;
    }

    /// Bytes that the guest may read, write and execute, all in one slot.
    pub(crate) fn find(&self, guest: u64, bytes: usize) -> Option<Place<'_>> {
        let contains = |slot: &&Slot| guest.wrapping_sub(slot.it.guest) < slot.it.bytes;
        let slot = self.slots.iter().find(contains)?;
        let offset = guest - slot.it.guest;
        let fits = offset.checked_add(bytes as u64)? <= slot.it.bytes;
        let usable = fits && self.allows_writes(&slot.it) && slot.is_memory();
        usable.then(|| Place {
            slot,
            offset,
            host: slot.it.host.wrapping_add(offset),
        })
    }

    fn allows_writes(&self, slot: &SlotChange) -> bool {
        let is_told_by_a_ring = slot.logs_writes && self.has_dirty_ring;
        !slot.read_only && !slot.private && !is_told_by_a_ring
    }

    /// Something was written there that KVM does not know of.
    pub(crate) fn mark_written(&self, place: &Place<'_>, bytes: usize) {
        if place.slot.it.logs_writes {
            let last = place.offset + bytes as u64 - 1;
            lock(&place.slot.written).extend(place.offset / PAGE_BYTES..=last / PAGE_BYTES);
        }
    }

    /// The pages of a slot that were written since this was last asked, by their numbers in the slot.
    pub(crate) fn take_written(&mut self, number: u32) -> BTreeSet<u64> {
        let slot = self.slots.iter_mut().find(|slot| slot.it.number == number);
        slot.map(|slot| std::mem::take(&mut *lock(&slot.written)))
            .unwrap_or_default()
    }
}

impl Slot {
    fn is_memory(&self) -> bool {
        let host = self.it.host;
        *self
            .is_memory
            .get_or_init(|| crate::mappings::is_memory(host, host.wrapping_add(self.it.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicU64;

    /// Some memory that is mapped and stays so.
    static MEMORY: [AtomicU64; 1 << 16] = [const { AtomicU64::new(0) }; 1 << 16];

    fn slot(number: u32, guest_page: u64, pages: u64) -> SlotChange {
        SlotChange {
            number,
            guest: guest_page * PAGE_BYTES,
            bytes: pages * PAGE_BYTES,
            host: MEMORY.as_ptr().addr() as u64,
            read_only: false,
            logs_writes: false,
            private: false,
        }
    }

    fn host(slots: &Slots, address: u64, bytes: usize) -> Option<u64> {
        slots.find(address, bytes).map(|place| place.host)
    }

    #[test]
    fn a_slot_is_moved_made_read_only_and_deleted_by_its_number() {
        let mut slots = Slots::default();
        slots.apply(slot(3, 1, 2));
        assert_eq!(host(&slots, 0x1008, 8), Some(slot(3, 1, 2).host + 8));
        slots.apply(slot(3, 16, 2));
        assert_eq!(host(&slots, 0x1008, 8), None);
        assert!(host(&slots, 0x10008, 8).is_some());
        slots.apply(SlotChange {
            read_only: true,
            ..slot(3, 16, 2)
        });
        assert_eq!(host(&slots, 0x10008, 8), None);
        slots.apply(slot(3, 16, 2));
        assert!(host(&slots, 0x10008, 8).is_some());
        slots.apply(slot(3, 16, 0));
        assert_eq!(host(&slots, 0x10008, 8), None);
    }

    #[test]
    fn nothing_is_found_in_system_management_memory_or_beyond_a_slots_end() {
        let mut slots = Slots::default();
        slots.apply(slot(1 << 16, 1, 1));
        assert_eq!(host(&slots, 0x1000, 1), None);
        slots.apply(slot(0, 1, 1));
        slots.apply(slot(1, 2, 1));
        assert_eq!(host(&slots, 0x1fff, 2), None);
        assert!(host(&slots, 0x1fff, 1).is_some() && host(&slots, 0x2000, 1).is_some());
        assert_eq!(host(&slots, 0x3000, 1), None);
        assert_eq!(host(&slots, u64::MAX, 8), None);
    }

    #[test]
    fn what_was_written_is_told_once_where_the_vmm_logs_writes() {
        let mut slots = Slots::default();
        slots.apply(SlotChange {
            logs_writes: true,
            ..slot(5, 1, 4)
        });
        let place = slots.find(0x2ffc, 8).unwrap();
        slots.mark_written(&place, 8);
        assert_eq!(slots.take_written(5), BTreeSet::from([1, 2]));
        assert!(slots.take_written(5).is_empty());
        slots.use_dirty_ring();
        assert!(slots.find(0x2ffc, 8).is_none());
        slots.apply(slot(5, 1, 4));
        assert!(slots.find(0x2ffc, 8).is_some());
    }

    proptest! {
        /// Against a map of pages, with slots that do not overlap, as KVM sees to.
        #[test]
        fn every_page_is_where_the_last_change_has_put_it(
            changes in prop::collection::vec((0..6u32, 0..8u64), 1..40)
        ) {
            let (mut slots, mut map) = (Slots::default(), BTreeMap::<u32, u64>::new());
            for (number, place) in changes {
                // Place 0 stands for a deletion.
                let taken = map.iter().any(|(&other, &at)| other != number && at == place);
                if taken {
                    continue;
                }
                slots.apply(slot(number, place * 4, if place == 0 { 0 } else { 4 }));
                if place == 0 {
                    map.remove(&number);
                } else {
                    map.insert(number, place);
                }
                for at in 0..8 {
                    let found = slots.find(at * 4 * PAGE_BYTES + 24, 8).is_some();
                    prop_assert_eq!(found, map.values().any(|&it| it == at));
                }
            }
        }
    }
}
