//! Random numbers that are the same on every machine and in every version.

/// SplitMix64: a counter through a mixing function. Small, fast, and written out here because a
/// recorded seed would be worth nothing if a library changed its generator.
///
/// ```
/// use split_lock_model::random::SplitMix64;
///
/// let mut random = SplitMix64::new(1_234_567);
/// assert_eq!(random.next_u64(), 6_457_827_717_110_365_317); // the published sequence
/// assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
/// assert!(random.below(6) < 6);
/// ```
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The same seed gives the same sequence.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A gap between random events that come once in `mean` on average: uniform over
    /// `1..2 * mean`, because integers leave no room for an exponential distribution's logarithm.
    pub(crate) fn gap(&mut self, mean: u64) -> u64 {
        1 + self.below((2 * mean).saturating_sub(1))
    }
}
