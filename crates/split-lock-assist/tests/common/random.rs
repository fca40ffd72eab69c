//! Numbers that look random and are the same every time.

use split_lock_model::random::SplitMix64;

#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A number that arithmetic finds hard: small, or next to where some width ends.
    pub(crate) fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.below(9).wrapping_sub(4),
            2 => (1_u64 << self.below(64)).wrapping_add(self.below(5).wrapping_sub(2)),
            _ => self.next() >> self.below(64),
        }
    }
}
