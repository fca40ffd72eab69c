//! A random order that is the same for the same seed, today and in every later version: a recorded
//! seed would be worth nothing if a library changed its generator.

use split_lock_model::time::Nanos;

/// Numbers that nobody would guess, the same for the same seed.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Anything from zero up to, but not including, `limit`.
    pub(super) fn below(&mut self, limit: Nanos) -> Nanos {
        Nanos(((u128::from(next(&mut self.0)) * u128::from(limit.0)) >> 64) as u64)
    }
}

/// Puts `items` into an order that depends on `seed` alone (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for i in (1..items.len()).rev() {
        let j = (u128::from(next(&mut state)) * (i as u128 + 1)) >> 64;
        items.swap(i, j as usize);
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut state = 1_234_567;
        let first: Vec<u64> = (0..2).map(|_| next(&mut state)).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn every_place_is_as_likely_as_any_other() {
        const ITEMS: usize = 6;
        let mut counts = [[0u32; ITEMS]; ITEMS];
        for seed in 0..6000 {
            let mut items: Vec<usize> = (0..ITEMS).collect();
            shuffle(&mut items, seed);
            for (place, item) in items.into_iter().enumerate() {
                counts[item][place] += 1;
            }
        }
        for count in counts.as_flattened() {
            assert!((850..1150).contains(count), "{counts:?}");
        }
    }
}
