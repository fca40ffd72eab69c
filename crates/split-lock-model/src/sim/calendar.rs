//! The next event of every source, and which comes first.

/// One slot per source of events, in a tournament tree: changing a slot costs at most the tree's
/// height, and usually less, because it stops where the winner stays the same. Finding the first
/// costs nothing. Of simultaneous events the lowest slot comes first.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    /// The root is node 1, the children of node n are 2n and 2n + 1, the slots are the last half.
    nodes: Vec<Entry>,
    leaves: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    time: u64,
    slot: usize,
}

pub(super) const NEVER: u64 = u64::MAX;

impl Calendar {
    pub(super) fn new(slots: usize) -> Self {
        let leaves = slots.next_power_of_two().max(2);
        let mut nodes = vec![
            Entry {
                time: NEVER,
                slot: 0
            };
            2 * leaves
        ];
        for slot in 0..leaves {
            nodes[leaves + slot].slot = slot;
        }
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node];
        }
        Self { nodes, leaves }
    }

    pub(super) fn first(&self) -> (usize, u64) {
        let Entry { time, slot } = self.nodes[1];
        (slot, time)
    }

    pub(super) fn set(&mut self, slot: usize, time: u64) {
        let mut node = self.leaves + slot;
        self.nodes[node].time = time;
        while node > 1 {
            let (left, right) = (self.nodes[node & !1], self.nodes[node | 1]);
            let winner = if right.time < left.time { right } else { left };
            node /= 2;
            if self.nodes[node] == winner {
                return;
            }
            self.nodes[node] = winner;
        }
    }

    pub(super) fn relative_state(&self, now: u64, out: &mut Vec<u64>) {
        // Nothing in the calendar is ever in the past.
        let times = self.nodes[self.leaves..].iter().map(|entry| entry.time);
        out.extend(times.map(|time| if time == NEVER { NEVER } else { time - now }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn the_first_is_the_least_and_the_lowest_slot() {
        for slots in [1, 2, 3, 7, 64, 65] {
            let (mut calendar, mut rng) = (Calendar::new(slots), SplitMix64::new(slots as u64));
            let mut plain = vec![NEVER; slots];
            for _ in 0..2_000 {
                let (slot, time) = (rng.below(slots as u64) as usize, rng.below(10));
                let time = if time == 9 { NEVER } else { time };
                calendar.set(slot, time);
                plain[slot] = time;
                let least = plain.iter().copied().min().expect("slots");
                assert_eq!(calendar.first().1, least);
                if least != NEVER {
                    let lowest = plain.iter().position(|&t| t == least).expect("there");
                    assert_eq!(calendar.first().0, lowest);
                }
            }
        }
    }
}
