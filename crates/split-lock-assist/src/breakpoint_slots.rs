//! Which instructions are watched: a CPU has four breakpoint registers.

/// How many instructions can be watched at once.
pub const SLOTS: usize = 4;

/// Bit 10 of DR7, which is always set.
const DR7_FIXED: u64 = 1 << 10;

/// Up to four linear addresses of instructions. If there are more, the one that was used least
/// recently goes.
///
/// An address stays in its slot until it goes, so that a breakpoint register is only written when it
/// has to be.
///
/// ```
/// use split_lock_assist::breakpoint_slots::BreakpointSlots;
///
/// let mut slots = BreakpointSlots::default();
/// (1..=4).for_each(|page| assert_eq!(slots.insert(page << 12), None));
/// slots.mark_used(0x1000);
/// // So the second is now the one that was not used for longest.
/// assert_eq!(slots.insert(0x5000), Some(0x2000));
/// assert_eq!(slots.addresses(), &[Some(0x1000), Some(0x5000), Some(0x3000), Some(0x4000)]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BreakpointSlots {
    addresses: [Option<u64>; SLOTS],
    /// When each was last used, on a clock that counts uses.
    used_at: [u64; SLOTS],
    uses: u64,
    /// How often each was hit in vain since it was last used.
    misses: [u32; SLOTS],
}

impl BreakpointSlots {
    /// Watches an address from now on; it counts as used. Returns the address that had to go for it.
    pub fn insert(&mut self, address: u64) -> Option<u64> {
        if self.mark_used(address) {
            return None;
        }
        let slot = self.free_or_least_recently_used();
        let gone = self.addresses[slot].replace(address);
        self.touch(slot);
        gone
    }

    /// Notes that an address was used. Returns whether it is watched.
    pub fn mark_used(&mut self, address: u64) -> bool {
        let slot = self.slot(address);
        if let Some(slot) = slot {
            self.touch(slot);
        }
        slot.is_some()
    }

    /// Notes that an address was hit in vain. Returns how often that has happened since it was last
    /// used; 0 if it is not watched.
    pub fn count_miss(&mut self, address: u64) -> u32 {
        self.slot(address).map_or(0, |slot| {
            self.misses[slot] += 1;
            self.misses[slot]
        })
    }

    /// Watches an address no longer. Returns whether it was.
    pub fn remove(&mut self, address: u64) -> bool {
        let slot = self.slot(address);
        if let Some(slot) = slot {
            self.addresses[slot] = None;
        }
        slot.is_some()
    }

    /// What goes into the four breakpoint registers.
    #[must_use]
    pub fn addresses(&self) -> &[Option<u64>; SLOTS] {
        &self.addresses
    }

    fn slot(&self, address: u64) -> Option<usize> {
        self.addresses.iter().position(|&it| it == Some(address))
    }

    fn free_or_least_recently_used(&self) -> usize {
        (0..SLOTS)
            .min_by_key(|&slot| (self.addresses[slot].is_some(), self.used_at[slot]))
            .expect("there are slots")
    }

    fn touch(&mut self, slot: usize) {
        self.uses += 1;
        self.used_at[slot] = self.uses;
        self.misses[slot] = 0;
    }
}

/// The value of DR7 with which each of these addresses, in its register, is an execution breakpoint.
///
/// They are enabled globally: a switch of tasks in hardware clears what is enabled locally.
#[must_use]
pub fn dr7(addresses: &[Option<u64>; SLOTS]) -> u64 {
    // Type and length of an execution breakpoint are zero.
    addresses
        .iter()
        .enumerate()
        .filter(|(_, address)| address.is_some())
        .fold(DR7_FIXED, |dr7, (slot, _)| dr7 | 0b10 << (2 * slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dr7_enables_exactly_what_is_watched() {
        assert_eq!(dr7(&[None; SLOTS]), 0x400);
        assert_eq!(dr7(&[Some(0), None, None, Some(8)]), 0x482);
        assert_eq!(dr7(&[Some(1); SLOTS]), 0x4aa);
    }

    #[test]
    fn misses_are_counted_until_the_next_use() {
        let mut slots = BreakpointSlots::default();
        assert_eq!(slots.count_miss(8), 0);
        slots.insert(8);
        assert_eq!((slots.count_miss(8), slots.count_miss(8)), (1, 2));
        slots.mark_used(8);
        assert_eq!(slots.count_miss(8), 1);
        slots.remove(8);
        slots.insert(8);
        assert_eq!(slots.count_miss(8), 1);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Insert(u64),
        Use(u64),
        Remove(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let address = 0..8u64;
        prop_oneof![
            address.clone().prop_map(Step::Insert),
            address.clone().prop_map(Step::Use),
            address.prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Against a list in the order of use, the last one first to go.
        #[test]
        fn the_least_recently_used_goes_first(steps in prop::collection::vec(step(), 1..100)) {
            let (mut slots, mut list) = (BreakpointSlots::default(), Vec::<u64>::new());
            for step in steps {
                let before = *slots.addresses();
                match step {
                    Step::Insert(address) => {
                        list.retain(|&it| it != address);
                        list.insert(0, address);
                        let goes = (list.len() > SLOTS).then(|| list.pop().unwrap());
                        prop_assert_eq!(slots.insert(address), goes);
                    }
                    Step::Use(address) => {
                        let known = list.contains(&address);
                        prop_assert_eq!(slots.mark_used(address), known);
                        if known {
                            list.retain(|&it| it != address);
                            list.insert(0, address);
                        }
                    }
                    Step::Remove(address) => {
                        prop_assert_eq!(slots.remove(address), list.contains(&address));
                        list.retain(|&it| it != address);
                    }
                }
                let now = *slots.addresses();
                let mut present: Vec<u64> = now.iter().flatten().copied().collect();
                present.sort_unstable();
                let mut expected = list.clone();
                expected.sort_unstable();
                prop_assert_eq!(present, expected);
                let changed = before.iter().zip(&now).filter(|(old, new)| old != new).count();
                prop_assert!(changed <= 1, "an address has moved: {before:?} -> {now:?}");
            }
        }
    }
}
