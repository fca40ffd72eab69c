//! How often things are measured, in which order, and how a distribution is printed.

use split_lock_repro::summary::Spread;

/// By what the rounds and spans of a full measurement are divided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Divisor(pub(crate) u32);

impl Divisor {
    /// Rounds of what takes milliseconds.
    pub(crate) fn short_rounds(self) -> usize {
        50_usize.div_ceil(self.0 as usize)
    }

    /// Rounds of what takes several punishments.
    pub(crate) fn rounds(self) -> usize {
        5_usize.div_ceil(self.0 as usize)
    }
}

/// Measures each of `count` things once a round, each round beginning with another one. By thing.
pub(crate) fn interleave<T>(
    count: usize,
    rounds: usize,
    mut measure: impl FnMut(usize) -> T,
) -> Vec<Vec<T>> {
    let mut results: Vec<Vec<T>> = (0..count).map(|_| vec![]).collect();
    for round in 0..rounds {
        for i in (0..count).map(|i| (i + round) % count) {
            results[i].push(measure(i));
        }
    }
    results
}

/// Each of these divided by the one that was measured in the same round.
pub(crate) fn ratios(these: &[f64], those: &[f64]) -> Vec<f64> {
    these.iter().zip(those).map(|(a, b)| a / b).collect()
}

pub(crate) fn text(values: impl IntoIterator<Item = f64>, digits: usize) -> String {
    let spread = Spread::of(values).expect("there is a round");
    let (low, median, high) = (spread.lower_quartile, spread.median, spread.upper_quartile);
    format!("{median:.digits$} ({low:.digits$}..{high:.digits$})")
}
