//! The next event of every source, and which comes first.

/// One slot per source of events, in a tournament tree: changing a slot costs the tree's height,
/// finding the first costs nothing. Of simultaneous events the lowest slot comes first.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    times: Vec<u64>,
    /// `winners[1]` is the first of all; the children of node n are 2n and 2n + 1.
    winners: Vec<u32>,
    leaves: usize,
}

pub(super) const NEVER: u64 = u64::MAX;

impl Calendar {
    pub(super) fn new(slots: usize) -> Self {
        let leaves = slots.next_power_of_two().max(2);
        let mut winners = vec![0; 2 * leaves];
        for (node, slot) in (leaves..2 * leaves).zip(0..) {
            winners[node] = slot;
        }
        for node in (1..leaves).rev() {
            winners[node] = winners[2 * node];
        }
        Self {
            times: vec![NEVER; leaves],
            winners,
            leaves,
        }
    }

    pub(super) fn first(&self) -> (usize, u64) {
        let slot = self.winners[1] as usize;
        (slot, self.times[slot])
    }

    pub(super) fn set(&mut self, slot: usize, time: u64) {
        if self.times[slot] == time {
            return;
        }
        self.times[slot] = time;
        let mut node = (self.leaves + slot) / 2;
        while node >= 1 {
            let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
            let right_first = self.times[right as usize] < self.times[left as usize];
            self.winners[node] = if right_first { right } else { left };
            node /= 2;
        }
    }

    pub(super) fn relative_state(&self, now: u64, out: &mut Vec<u64>) {
        // An event that was never delayed past the present is in the future or now.
        out.extend(
            self.times
                .iter()
                .map(|&t| if t == NEVER { NEVER } else { t - now }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    #[test]
    fn the_first_is_the_least_and_the_lowest_slot() {
        for slots in [1, 2, 3, 7, 64, 65] {
            let (mut calendar, mut rng) = (Calendar::new(slots), Rng::new(slots as u64));
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
