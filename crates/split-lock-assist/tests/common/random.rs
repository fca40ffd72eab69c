//! Numbers that look random and are the same every time.

/// A counter through a mixing function (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
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
